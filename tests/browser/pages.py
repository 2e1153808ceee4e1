"""What a person does with a notebook in a browser: run cells, look, click."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.servers import Server

_NUMBERED = re.compile(r"\[\d+\]:")
_NOT_OURS = ("reading 'schema'",)  # Notebook 7.6 says this without the extension too
_CLICK_AND_TIME = """
([root, name, wanted]) => new Promise((resolve, reject) => {
    const button = [...root.querySelectorAll("button")].find(
        (each) => (each.getAttribute("aria-label") ?? each.textContent).trim() === name);
    if (!button) { reject(new Error(`no button ${name}`)); return; }
    const begun = performance.now();
    const look = () => {
        if (root.dataset.state === wanted) {
            observer.disconnect(); clearTimeout(alarm); resolve(performance.now() - begun);
        }
    };
    const observer = new MutationObserver(look);
    observer.observe(root, {attributes: true});
    const alarm = setTimeout(
        () => { observer.disconnect(); reject(new Error(`${wanted} did not come`)); }, 10000);
    button.click();
    look();
})
"""


class NotebookPage:
    """A notebook open in JupyterLab or Notebook 7."""

    def __init__(self, page: Page, server: Server, name: str) -> None:
        self.page = page
        self.server = server
        self.name = name
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("dialog", lambda dialog: self._note(f"dialog: {dialog.message}"))

    def _note(self, error: str) -> None:
        if not any(known in error for known in _NOT_OURS):
            self.errors.append(error)

    def open(self, *, kernel: bool = True) -> NotebookPage:
        """Open it and wait until it is there, and its kernel idle."""
        self.page.goto(self.server.address(self.name))
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        if kernel:
            self.wait_for_kernel()
        return self

    def wait_for_kernel(self) -> None:
        """Wait until the kernel is connected and idle."""
        self.page.wait_for_function(
            """() => {
                const shell = window.jupyterapp?.shell;
                const panel = shell?.currentWidget;
                const kernel = panel?.sessionContext?.session?.kernel;
                return kernel?.connectionStatus === "connected" && kernel.status === "idle";
            }""",
            timeout=60_000,
        )

    def cell(self, index: int) -> Locator:
        """Return a cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def start_cell(self, index: int) -> None:
        """Run a cell, and do not wait for it."""
        self.cell(index).locator(".cm-content").click()
        prompt = self.cell(index).locator(".jp-InputPrompt")
        before = prompt.text_content()
        self.page.keyboard.press("Control+Enter")
        expect(prompt).not_to_have_text(before or "", timeout=15_000)

    def run_cell(self, index: int) -> None:
        """Run a cell and wait for its end."""
        self.start_cell(index)
        expect(self.cell(index).locator(".jp-InputPrompt")).to_have_text(_NUMBERED, timeout=30_000)

    def view(self, index: int) -> RunView:
        """Return the view of the run in the output of a cell."""
        return RunView(self, self.cell(index).locator(".jf-run").first)

    def save(self) -> None:
        """Save the notebook and wait until it is saved."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        self.page.wait_for_function(
            "() => !window.jupyterapp.shell.currentWidget.context.model.dirty", timeout=15_000
        )


class RunView:
    """The view of one run."""

    def __init__(self, page: NotebookPage, root: Locator) -> None:
        self.page = page
        self.root = root

    def expect_state(self, state: str, timeout: float = 15_000) -> None:
        """Wait until the view shows this state."""
        expect(self.root).to_have_attribute("data-state", state, timeout=timeout)

    def click(self, name: str) -> None:
        """Click a button, as a person does."""
        self.root.get_by_role("button", name=name, exact=True).click()

    def timed_click(self, name: str, state: str) -> float:
        """Click a button and return after how many ms the view shows `state`."""
        button = self.root.get_by_role("button", name=name, exact=True)
        expect(button).to_be_enabled(timeout=5_000)
        took: float = self.page.page.evaluate(
            _CLICK_AND_TIME, [self.root.element_handle(), name, state]
        )
        return took

    def last_line(self) -> str:
        """Return the text of the last line that the log shows."""
        return self.root.locator(".jf-line").last.inner_text()

    def line_count(self) -> int:
        """Return how many lines the view says that the log has."""
        text = self.root.get_by_role("tab", name="Logs").inner_text()
        digits = "".join(filter(str.isdigit, text))
        return int(digits or 0)

    def wait_for_lines(self, count: int, timeout: float = 15_000) -> None:
        """Wait until the view says that the log has more than `count` lines."""
        self.page.page.wait_for_function(
            """([root, count]) => {
                const tab = [...root.querySelectorAll('[role=tab]')].find(
                    (each) => each.textContent.includes('Logs'));
                return tab && Number(tab.textContent.replace(/\\D/g, '')) > count;
            }""",
            arg=[self.root.element_handle(), count],
            timeout=timeout,
        )

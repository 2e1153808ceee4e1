"""What a person does with a notebook in a browser: run cells, look, click."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

from playwright.sync_api import Dialog, Locator, Page, Request, WebSocket, expect

from tests.browser.servers import Server

_NUMBERED = re.compile(r"\[\d+\]:")
_NOT_OURS = ("reading 'schema'",)  # Notebook 7.6 says this without the extension too
_CLICK_AND_TIME = """
(root, [name, wanted]) => new Promise((resolve, reject) => {
    const cell = root.closest(".jp-Cell");
    const shown = () => cell.querySelector(".jf-run");  // the front end may draw it anew
    const button = [...shown().querySelectorAll("button")].find(
        (each) => (each.getAttribute("aria-label") ?? each.textContent).trim() === name);
    if (!button) { reject(new Error(`no button ${name}`)); return; }
    const begun = performance.now();
    const look = () => {
        if (shown()?.dataset.state === wanted) {
            observer.disconnect(); clearTimeout(alarm); resolve(performance.now() - begun);
        }
    };
    const observer = new MutationObserver(look);
    observer.observe(cell, {attributes: true, subtree: true, childList: true});
    const alarm = setTimeout(() => {
        observer.disconnect();
        reject(new Error(`${wanted} did not come: ${shown()?.innerText}`));
    }, 10000);
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
        self.traffic = Traffic(page)
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("dialog", self._answer)

    def _answer(self, dialog: Dialog) -> None:
        if dialog.type == "beforeunload":
            dialog.accept()  # the page is to be left
        else:
            dialog.dismiss()
            self._note(f"dialog: {dialog.message}")

    def _note(self, error: str) -> None:
        if not any(known in error for known in _NOT_OURS):
            self.errors.append(error)

    def open(self, *, kernel: bool = True) -> NotebookPage:
        """Open it and wait until it is there, and its kernel idle."""
        self.page.goto(self.server.address(self.name))
        self._wait_for_cells()
        if kernel:
            self.wait_for_kernel()
        return self

    def reload(self) -> None:
        """Load the page again, and wait until the notebook is there."""
        self.page.reload()
        self._wait_for_cells()

    def _wait_for_cells(self) -> None:
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        self.page.wait_for_selector(".jp-Document .jp-Spinner", state="hidden", timeout=60_000)

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

    def output(self, index: int) -> str:
        """Return the text below a cell."""
        return self.cell(index).locator(".jp-Cell-outputWrapper").inner_text().strip()

    def command(self, name: str, **arguments: object) -> None:
        """Give a command of JupyterLab's."""
        self.page.evaluate(
            "([name, args]) => { void window.jupyterapp.commands.execute(name, args); }",
            [name, arguments],
        )

    def use_theme(self, name: str) -> None:
        """Change the colours, and wait until they have changed."""
        self.command("apputils:change-theme", theme=name)
        self.page.locator(f'body[data-jp-theme-name="{name}"]').wait_for(state="attached")
        self.page.locator("#jupyterlab-splash").wait_for(state="hidden")

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
        took: float = self.root.evaluate(_CLICK_AND_TIME, [name, state])
        return took

    @property
    def run_id(self) -> str:
        """The whole id of the run that it shows."""
        return self.root.get_attribute("data-run-id") or ""

    def expect_source(self, source: str, timeout: float = 15_000) -> None:
        """Wait until the view is told by this source: kernel, store or saved."""
        expect(self.root).to_have_attribute("data-source", source, timeout=timeout)

    def line(self, number: int) -> Locator:
        """Return a line of the log, if it is drawn."""
        return self.root.locator(f'.jf-line[data-number="{number}"] .jf-message')

    def scroll_to_start(self) -> None:
        """Turn the wheel until the log's first line is there."""
        self._scroll(-10_000_000)

    def scroll_to_end(self) -> None:
        """Turn the wheel until the log's last line is there."""
        self._scroll(10_000_000)

    def _scroll(self, distance: int) -> None:
        self.root.locator(".jf-scroll").hover()
        self.page.page.mouse.wheel(0, distance)

    def tab(self, name: str) -> Locator:
        """Return a tab."""
        return self.root.get_by_role("tab", name=name)

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


class Traffic:
    """What a page sends and hears: frames of its websockets, and requests of our API."""

    def __init__(self, page: Page) -> None:
        self.requests: list[str] = []
        self.sent: list[bytes] = []
        self.received: list[bytes] = []
        page.on("request", self._on_request)
        page.on("websocket", self._on_websocket)

    def _on_request(self, request: Request) -> None:
        if "/jupyter-flows/api" in request.url:
            self.requests.append(f"{request.method} {request.url}")

    def _on_websocket(self, socket: WebSocket) -> None:
        socket.on("framesent", lambda data: self.sent.append(_as_bytes(data)))
        socket.on("framereceived", lambda data: self.received.append(_as_bytes(data)))

    def asked(self) -> list[str]:
        """Return the actions that were asked of kernels, in order."""
        return [
            str(found["action"])
            for frame in self.sent
            if b"flows_request" in frame and (found := _content(frame))
        ]

    def pushes(self) -> list[bytes]:
        """Return the frames by which kernels told of changes."""
        return [frame for frame in self.received if b'"flows_changed"' in frame]


def _as_bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _content(frame: bytes) -> dict[str, Any]:
    """Find the content of a message in a frame of Jupyter's binary websocket protocol."""
    count = int.from_bytes(frame[:8], "little")
    offsets = [int.from_bytes(frame[8 + 8 * n : 16 + 8 * n], "little") for n in range(count)]
    parts = [frame[start:stop] for start, stop in pairwise(offsets)]
    content: dict[str, Any] = json.loads(parts[4])  # channel, header, parent, metadata, content
    return content

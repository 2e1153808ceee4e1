"""The saved notebook: shows how the run was, and acts on nothing."""

from __future__ import annotations

import re

import pytest
from nbformat import NotebookNode
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Opener
from tests.browser.pages import NotebookPage, RunView
from tests.browser.servers import Server
from tests.browser.test_controlling import LOAD

PRINTING = """%%flow printing --tag saved
import time
for number in range(100_000):
    print("number", number)
    time.sleep(0.01 if number < 200 else 60)
"""
LIST = """
from jupyter_flows import runs
print(runs.list())
"""
ACTING = re.compile("Pause|Resume|Cancel|Kill|Abandon|Where|Approve|Send|Replace")
READING = {"watch", "show", "logs", "tasks", "outputs", "transitions"}


@pytest.fixture(scope="module")
def saved() -> dict[Server, tuple[str, str]]:
    """The id of a run that was saved in mid-run, and the notebook's text, by server."""
    return {}


def save_a_run(
    open_notebook: Opener, server: Server, saved: dict[Server, tuple[str, str]], name: str
) -> str:
    """Write a notebook that was saved in mid-run, by a kernel that ended; return the run's id."""
    if server not in saved:
        path = server.write("saved.ipynb", [LOAD, PRINTING, LIST])
        page = open_notebook(server, "saved.ipynb")
        page.run_cell(0)
        page.run_cell(1)
        view = page.view(1)
        expect(view.root.get_by_role("tab", name="Logs 201", exact=True)).to_be_visible()
        wait_until_saved_with(page, 201)
        run = view.run_id
        page.page.close()
        server.shut_down_kernels()
        saved[server] = run, path.read_text()
    run, text = saved[server]
    (server.notebooks / name).write_text(text)
    return run


def wait_until_saved_with(page: NotebookPage, lines: int) -> None:
    """Wait until the view has written so many lines into the notebook, and save it."""
    page.page.wait_for_function(
        """(lines) => {
            const cell = window.jupyterapp.shell.currentWidget.content.widgets[1];
            const {metadata} = cell.model.outputs.get(0);
            return metadata["application/vnd.jupyter-flows.run+json"]?.run?.log_count === lines;
        }""",
        arg=lines,
    )
    page.save()


def forget_kernel(notebook: NotebookNode) -> None:
    """Take out which kernel the notebook wants, so that the front end asks."""
    notebook.metadata.pop("kernelspec", None)
    notebook.metadata.pop("language_info", None)


def touch(notebook: NotebookNode) -> None:
    """Change something, as another program would."""
    notebook.metadata["touched"] = True


def choose_no_kernel(page: NotebookPage) -> None:
    """Answer the question which kernel to use: none."""
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_role("combobox").select_option(label="No Kernel")
    dialog.get_by_role("button", name="Select Kernel").or_(
        dialog.get_by_role("button", name="Select", exact=True)
    ).click()
    dialog.wait_for(state="hidden")


def acting_buttons(view: RunView) -> Locator:
    """Return the buttons that would act on the run."""
    return view.root.get_by_role("button", name=ACTING)


@pytest.mark.parametrize("kernel", [False, True], ids=["no-kernel", "new-kernel"])
@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "untrusted"])
def test_the_saved_notebook_shows_and_does_nothing(
    open_notebook: Opener,
    saved: dict[Server, tuple[str, str]],
    server: Server,
    kernel: bool,
    trusted: bool,
) -> None:
    """Opened anew the notebook shows the last state and the log's tail, and acts on nothing."""
    name = f"saved-{'new' if kernel else 'no'}-kernel-{'' if trusted else 'un'}trusted.ipynb"
    run = save_a_run(open_notebook, server, saved, name)
    server.edit(name, touch if kernel else forget_kernel)
    # trust goes by the content, so that of another test must not be this one's
    server.edit(name, lambda notebook: notebook.metadata.update(saved_as=name))
    if trusted:
        server.trust(name)
    before = server.run(run)

    page = open_notebook(server, name, kernel=False)
    if kernel:
        page.wait_for_kernel()
    else:
        choose_no_kernel(page)
        assert server.api("api/kernels") == []
    view = page.view(1)
    assert view.run_id == run
    if trusted:
        view.expect_source("store")
        view.expect_state(before["state_type"])
        view.scroll_to_start()
        expect(view.line(0)).to_have_text("number 0")
        view.scroll_to_end()
    else:
        view.expect_source("saved")
        view.expect_state("RUNNING")
        expect(view.root).to_contain_text("Trust the notebook")
        expect(view.root.get_by_role("button", name="Trust")).to_have_count(0)
    expect(view.line(200)).to_have_text("number 200")
    expect(acting_buttons(view)).to_have_count(0)
    view.tab("Details").click()
    expect(view.root).to_contain_text(run)
    if kernel:
        page.run_cell(0)
        page.run_cell(2)
        assert page.output(2) == "[]", "the new kernel has no run"
    if trusted:
        assert set(page.traffic.asked()) <= READING
        assert all(request.startswith("GET ") for request in page.traffic.requests)
    else:
        assert page.traffic.asked() == []
        assert page.traffic.requests == []
    assert server.run(run) == before


def test_a_notebook_without_its_store_shows_what_was_saved(
    open_notebook: Opener, saved: dict[Server, tuple[str, str]], lab: Server
) -> None:
    """A trusted notebook whose run no store knows shows the saved state and the log's tail."""
    run = save_a_run(open_notebook, lab, saved, "sent.ipynb")
    unknown = "0" * 8 + run[8:]
    path = lab.notebooks / "sent.ipynb"
    path.write_text(path.read_text().replace(run, unknown))
    lab.trust("sent.ipynb")
    page = open_notebook(lab, "sent.ipynb")
    view = page.view(1)
    view.expect_source("saved")
    view.expect_state("RUNNING")
    assert view.run_id == unknown
    expect(view.line(200)).to_have_text("number 200")
    view.scroll_to_start()
    expect(view.line(151)).to_have_text("number 151")
    expect(view.root).to_contain_text("151 earlier lines were not saved")
    expect(acting_buttons(view)).to_have_count(0)

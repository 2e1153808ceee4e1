"""Markup, links and attributes in whatever a run can say: shown as text, everywhere."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Opener
from tests.browser.pages import NotebookPage, RunView
from tests.browser.servers import Server
from tests.browser.test_controlling import LOAD
from tests.repeats import on_lab_and_in_full_on_both

HOSTILE = """
IMAGE = "<img src=x onerror=window.__pwned=1>"
SCRIPT = "<script>window.__pwned=1</script>"
COMMAND = "<a href=# data-commandlinker-command='app:toggle'>linked</a>"
JAVASCRIPT = "\\x1b]8;;javascript:window.__pwned=1\\x1b\\\\terminal link\\x1b]8;;\\x1b\\\\"
ALL = " ".join([IMAGE, SCRIPT, COMMAND, JAVASCRIPT])
"""
FAILING = """
import logging
from jupyter_flows import flow, progress, task
@task(name=IMAGE + "task")
def hostile_task(text):
    print(text)
@flow(name=IMAGE + SCRIPT, log_prints=True, tags=[IMAGE])
def hostile(parameter):
    for line in [IMAGE, SCRIPT, COMMAND, JAVASCRIPT]:
        print(line)
    logging.getLogger(IMAGE).warning(ALL)
    for _ in progress(range(2), description=IMAGE):
        hostile_task(ALL)
    raise ValueError(ALL)
failing = hostile.start(ALL)
failing
"""
RESULT = """
@flow(name=COMMAND)
def returning():
    return ALL
class Shown:
    def __repr__(self):
        return ALL
returned = flow(lambda: Shown(), name="returned").start()
returned
"""
APPROVAL = """%%flow approving
from jupyter_flows import pause_flow_run
pause_flow_run(timeout=600, key=ALL)
"""
INPUT = """%%flow asking
input(ALL)
"""
MARKUP = ("<img src=x onerror=window.__pwned=1>", "<script>window.__pwned=1</script>")


def expect_harmless(page: NotebookPage) -> None:
    """Check that nothing of it became an element, and nothing ran."""
    assert page.page.evaluate("window.__pwned") is None
    for selector in (
        "img",
        "script",
        "iframe",
        "a[href]",
        "[data-commandlinker-command]",
        "[onerror]",
    ):
        expect(page.page.locator(f".jf-run {selector}")).to_have_count(0)


def expect_text(view: RunView) -> None:
    """Check that what is there of it is there as it was written."""
    for markup in MARKUP:
        expect(view.root).to_contain_text(markup)


def look_at_all(page: NotebookPage, *, live: bool) -> None:
    """Look at every tab of every view."""
    failing, returned, approving, asking = (page.view(index) for index in (2, 3, 4, 5))
    failing.expect_state("FAILED")
    expect_text(failing)
    for name in ("Error", "Logs", "Tasks", "Details"):
        tab = failing.tab(name)
        if name == "Tasks" and not live:
            continue
        tab.click()
        expect(failing.root.get_by_role("tabpanel")).to_contain_text(MARKUP[0])
        expect_harmless(page)
    failing.tab("Logs").click()
    expect(failing.line(3)).to_have_text("terminal link")
    failing.tab("Details").click()
    expect(failing.root.locator(".jf-details .jf-tag")).to_have_text(MARKUP[0])

    returned.expect_state("COMPLETED")
    if not returned.tab("Details").is_visible():
        returned.root.get_by_role("button", name="Show the details").click()
    returned.tab("Details").click()
    expect_text(returned)
    if live:
        approving.expect_state("PAUSED")
        asking.expect_state("PAUSED")
        expect_text(approving)
        expect_text(asking)
    expect_harmless(page)


@on_lab_and_in_full_on_both
def test_hostile_text_stays_text(open_notebook: Opener, server: Server) -> None:
    """Names, lines, errors, parameters, tags, results and questions are text, live and saved."""
    server.write("hostile.ipynb", [LOAD, HOSTILE, FAILING, RESULT, APPROVAL, INPUT])
    page = open_notebook(server, "hostile.ipynb")
    for index in range(6):
        page.run_cell(index)
    look_at_all(page, live=True)
    page.save()
    page.reload()
    page.view(2).expect_source("kernel")
    look_at_all(page, live=True)
    page.save()
    page.page.close()
    server.shut_down_kernels()

    saved = open_notebook(server, "hostile.ipynb")
    saved.view(2).expect_source("store")
    look_at_all(saved, live=False)
    saved.page.close()

    server.edit("hostile.ipynb", lambda notebook: notebook.metadata.update(touched=True))
    untrusted = open_notebook(server, "hostile.ipynb")
    untrusted.view(2).expect_source("saved")
    look_at_all(untrusted, live=False)


def test_hostile_text_stays_text_in_the_widget(
    open_notebook: Opener, lab_without_labextension: Server
) -> None:
    """The widget too shows hostile text as text."""
    server = lab_without_labextension
    server.write("hostile.ipynb", [LOAD, HOSTILE, FAILING, RESULT, APPROVAL, INPUT])
    page = open_notebook(server, "hostile.ipynb")
    for index in range(6):
        page.run_cell(index)
    look_at_all(page, live=True)

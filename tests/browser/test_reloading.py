"""A page that is loaded again, and a kernel that is started again or killed."""

from __future__ import annotations

import os
import signal

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opener
from tests.browser.pages import RunView
from tests.browser.servers import Server
from tests.browser.test_controlling import COUNTING, LOAD
from tests.repeats import on_lab_and_in_full_on_both

BUSY = """
import time
from pathlib import Path
until = time.monotonic() + 25
while time.monotonic() < until:
    sum(range(1000))
Path("{done}").touch()
"""
COUNT = """
from jupyter_flows import runs
print(len(runs.get("{run}").logs), "lines")
"""


def expect_whole_log(view: RunView, count: int) -> None:
    """Check that the log's first and last lines can be reached by scrolling."""
    view.scroll_to_start()
    expect(view.line(0)).to_have_text("number 0")
    view.scroll_to_end()
    expect(view.line(count - 1)).to_have_text(f"number {count - 1}")


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_reload_brings_back_the_live_view(
    open_notebook: Opener, server: Server, busy: bool
) -> None:
    """A reload in mid-run, while a cell computes too, brings back the view with its whole log."""
    name = f"reload-{'busy' if busy else 'idle'}.ipynb"
    done = server.notebooks / f"{name}.done"
    server.write(name, [LOAD, COUNTING, BUSY.format(done=done), ""])
    page = open_notebook(server, name)
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.expect_state("RUNNING")
    view.wait_for_lines(100)
    run = view.run_id
    page.save()
    if busy:
        page.start_cell(2)
    page.reload()
    view = page.view(1)
    view.expect_source("kernel")
    view.expect_state("RUNNING")
    assert view.run_id == run
    view.wait_for_lines(view.line_count() + 20)

    view.timed_click("Pause", "PAUSED")
    count = server.run(run)["log_count"]
    view.wait_for_lines(count - 1)
    if busy:
        assert not done.exists(), "the cell ended too early for this test"
    else:
        page.wait_for_kernel()
        page.cell(3).locator(".cm-content").click()
        page.page.keyboard.insert_text(COUNT.format(run=run))
        page.run_cell(3)
        assert page.output(3) == f"{view.line_count()} lines"
    expect_whole_log(view, view.line_count())
    view.timed_click("Resume", "RUNNING")
    view.wait_for_lines(count + 10)
    view.timed_click("Cancel", "CANCELLED")
    assert not busy or not done.exists()


@on_lab_and_in_full_on_both
def test_a_killed_kernel_leaves_a_crashed_run_with_its_log(
    open_notebook: Opener, server: Server
) -> None:
    """After the kernel was killed the view shows the run as CRASHED, with its log, no buttons."""
    server.write("killed.ipynb", [LOAD, COUNTING, "import os; print(os.getpid())"])
    page = open_notebook(server, "killed.ipynb")
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.expect_state("RUNNING")
    page.run_cell(2)
    view.wait_for_lines(100)
    died = page.page.get_by_role("dialog").get_by_role("button", name="Ok")
    page.page.add_locator_handler(died, lambda: died.click())  # JupyterLab says that it died
    os.kill(int(page.output(2)), signal.SIGKILL)
    view.expect_state("CRASHED", timeout=30_000)
    view.expect_source("store")
    stored = server.run(view.run_id)
    assert stored["state_type"] == "CRASHED"
    assert stored["log_count"] >= 100
    for name in ("Pause", "Resume", "Cancel"):
        expect(view.root.get_by_role("button", name=name)).to_have_count(0)
    expect_whole_log(view, stored["log_count"])


def test_a_restarted_kernel_leaves_an_ended_run_with_its_log(
    open_notebook: Opener, lab: Server
) -> None:
    """After the kernel was restarted the view shows how the run ended, with its log."""
    lab.write("restarted.ipynb", [LOAD, COUNTING])
    page = open_notebook(lab, "restarted.ipynb")
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.wait_for_lines(50)
    page.command("notebook:restart-kernel")
    page.page.get_by_role("button", name="Confirm Kernel Restart").click()
    view.expect_state("CANCELLED", timeout=30_000)
    page.wait_for_kernel()
    stored = lab.run(view.run_id)
    assert stored["reason"] == "shutdown"
    expect_whole_log(view, stored["log_count"])

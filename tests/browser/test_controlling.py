"""Buttons of the view, clicked in a real browser."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Opener
from tests.browser.servers import Server

LIMIT = 500  # ms from the click to the state in the view
LOAD = "%load_ext jupyter_flows"
COUNTING = """%%flow counting
import time
for number in range(100_000):
    print("number", number)
    time.sleep(0.02)
"""
AWAITING = """%%flow awaiting
import asyncio
for number in range(100_000):
    print("number", number)
    await asyncio.sleep(0.02)
"""
BUSY = """
import time
until = time.monotonic() + 12
while time.monotonic() < until:
    sum(range(1000))
print("not busy any more")
"""


@pytest.mark.parametrize("body", [COUNTING, AWAITING], ids=["thread", "async"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_the_buttons_pause_resume_and_cancel(
    open_notebook: Opener, server: Server, body: str, busy: bool
) -> None:
    """Pause, Resume and Cancel show within 500 ms, the kernel idle or busy, and the log agrees."""
    name = f"controls-{'busy' if busy else 'idle'}-{'async' if 'await' in body else 'sync'}.ipynb"
    server.write(name, [LOAD, body, BUSY])
    page = open_notebook(server, name)
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.expect_state("RUNNING")
    view.wait_for_lines(10)
    if busy:
        page.start_cell(2)
    times = {"Pause": view.timed_click("Pause", "PAUSED")}
    page.page.wait_for_timeout(150)  # any push that was under way has come
    still = view.line_count()
    page.page.wait_for_timeout(500)  # long enough for 25 more lines, if it went on
    assert view.line_count() == still
    times["Resume"] = view.timed_click("Resume", "RUNNING")
    view.wait_for_lines(still + 5)
    times["Cancel"] = view.timed_click("Cancel", "CANCELLED")
    if busy:
        assert "*" in (page.cell(2).locator(".jp-InputPrompt").text_content() or "")
    print({key: round(value) for key, value in times.items()})
    assert max(times.values()) < LIMIT, times


def test_a_rerun_waits_and_can_replace(open_notebook: Opener, lab: Server) -> None:
    """A cell that is run again waits for its earlier run, says so, and Replace ends that one."""
    lab.write("rerun.ipynb", [LOAD, COUNTING, "from jupyter_flows import runs; len(runs.list())"])
    page = open_notebook(lab, "rerun.ipynb")
    page.run_cell(0)
    page.run_cell(1)
    page.view(1).expect_state("RUNNING")
    earlier = page.view(1).root.get_attribute("data-run-id")
    page.run_cell(1)
    page.view(1).expect_state("SCHEDULED")
    assert page.view(1).root.get_attribute("data-run-id") != earlier
    page.view(1).click("Replace")
    page.view(1).expect_state("RUNNING")
    page.view(1).click("Cancel")
    page.view(1).expect_state("CANCELLED")


def test_a_run_that_asks_is_approved_by_the_button(open_notebook: Opener, server: Server) -> None:
    """A run that waits for approval shows the question, and goes on when Approve is clicked."""
    asking = """%%flow asking
from jupyter_flows import pause_flow_run
pause_flow_run(timeout=60, key="is the model good?")
print("went on")
"""
    server.write("approval.ipynb", [LOAD, asking])
    page = open_notebook(server, "approval.ipynb")
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.expect_state("PAUSED")
    assert "is the model good?" in view.root.inner_text()
    view.click("Approve")
    view.expect_state("COMPLETED")


def test_input_is_answered_in_the_view(open_notebook: Opener, lab: Server) -> None:
    """`input()` in a run becomes a text field in its view, whose text the run gets."""
    asking = """%%flow asking
name = input("Who are you?")
print("hello", name)
"""
    lab.write("input.ipynb", [LOAD, asking, "print(name)"])
    page = open_notebook(lab, "input.ipynb")
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.expect_state("PAUSED")
    view.root.get_by_role("textbox", name="Who are you?").fill("Ada <b>")
    view.click("Send")
    view.expect_state("COMPLETED")
    page.run_cell(2)
    assert "Ada <b>" in page.cell(2).inner_text()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_the_widget_has_the_same_buttons(
    open_notebook: Opener, lab_without_labextension: Server, busy: bool
) -> None:
    """Without the labextension the widget's buttons do the same, while a cell is busy too."""
    server = lab_without_labextension
    name = f"widget-{busy}.ipynb"
    server.write(name, [LOAD, COUNTING, BUSY])
    page = open_notebook(server, name)
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.expect_state("RUNNING")
    view.wait_for_lines(10)
    if busy:
        page.start_cell(2)
    times = [
        view.timed_click("Pause", "PAUSED"),
        view.timed_click("Resume", "RUNNING"),
        view.timed_click("Cancel", "CANCELLED"),
    ]
    print([round(value) for value in times])
    assert max(times) < LIMIT, times

"""Buttons of the view, clicked in a real browser."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

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


APPROVAL = """%%flow asking
from jupyter_flows import pause_flow_run
pause_flow_run(timeout=60, key="is the model good?")
print("went on")
"""


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_run_that_asks_is_approved_or_rejected_by_a_button(
    open_notebook: Opener, server: Server, busy: bool
) -> None:
    """Approve lets a run that waits go on, Reject cancels it and says so; kernel idle or busy."""
    name = f"approval-{'busy' if busy else 'idle'}.ipynb"
    server.write(name, [LOAD, APPROVAL, APPROVAL, BUSY])
    page = open_notebook(server, name)
    for index in range(3):
        page.run_cell(index)
    approved, rejected = page.view(1), page.view(2)
    approved.expect_state("PAUSED")
    rejected.expect_state("PAUSED")
    if busy:
        page.start_cell(3)
    assert "is the model good?" in approved.root.inner_text()
    approved.click("Approve")
    approved.expect_state("COMPLETED")
    rejected.click("Reject")
    rejected.expect_state("CANCELLED")
    assert "Cancelled: Rejected" in rejected.root.inner_text()
    if busy:
        assert "*" in (page.cell(3).locator(".jp-InputPrompt").text_content() or "")


ORDERING = """%%flow shirts
from typing import Literal
from pydantic import Field
from jupyter_flows import RunInput, pause_flow_run

class Order(RunInput):
    size: Literal["S", "M"]
    count: int = Field(default=1, gt=0, description="How <b>many</b>")

order = pause_flow_run(wait_for_input=Order.with_initial_data(description="Which shirt?"))
f"{order.count} {order.size}"
"""


@pytest.mark.parametrize(
    ("fixture", "busy"),
    [("lab", False), ("lab", True), ("lab_without_labextension", True)],
    ids=["idle", "busy", "widget"],
)
def test_input_that_is_refused_can_be_mended_in_the_view(
    open_notebook: Opener, request: pytest.FixtureRequest, fixture: str, busy: bool
) -> None:
    """What is typed as JSON is checked, refused beneath the field by name, kept, and then taken."""
    server: Server = request.getfixturevalue(fixture)
    name = f"ordering-{fixture}-{busy}.ipynb"
    server.write(name, [LOAD, ORDERING, BUSY])
    page = open_notebook(server, name)
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.expect_state("PAUSED")
    if busy:
        page.start_cell(2)
    for told in ("Which shirt?", '"S" or "M" · required', "How <b>many</b>"):
        expect(view.root).to_contain_text(told)
    field = view.root.get_by_role("textbox", name="Input, as JSON")
    assert json.loads(field.input_value()) == {"size": None, "count": 1}
    field.click()
    page.page.keyboard.press("Control+A")
    page.page.keyboard.type('{"size": "XL", "count": 0')
    view.click("Send")
    alert = view.root.get_by_role("alert")
    expect(alert).to_contain_text("This is not JSON yet")
    expect(field).to_be_focused()
    page.page.keyboard.press("Control+End")
    page.page.keyboard.type("}")
    view.click("Send")
    expect(alert).to_contain_text("size: ")
    expect(alert).to_contain_text("count: ")
    assert field.input_value() == '{"size": "XL", "count": 0}'
    view.expect_state("PAUSED")
    page.page.keyboard.press("Control+A")
    page.page.keyboard.type('{"size": "S"}')
    page.page.keyboard.press("Control+Enter")
    view.expect_state("COMPLETED")
    view.root.get_by_role("button", name="Show the details").click()
    view.tab("Details").click()
    expect(view.root).to_contain_text("'1 S'")
    if busy:
        assert "*" in (page.cell(2).locator(".jp-InputPrompt").text_content() or "")


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
    field = view.root.get_by_role("textbox", name="Who are you?")
    field.fill("Ada <b>")
    field.press("Enter")
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

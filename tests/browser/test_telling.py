"""What the view tells of a run and its tasks, in little room too."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Opener
from tests.browser.servers import Server
from tests.browser.test_controlling import COUNTING, LOAD

PIPELINE = """%%flow pipeline --tag nightly --meta customer=<b>42</b>
import time
from jupyter_flows import task

@task
def load(page):
    time.sleep(600)
    return page

@task
def parse(pages):
    return pages

@task(retries=1, retry_delay_seconds=3600)
def publish():
    raise OSError("the server said <b>503</b>")

publish.submit()
parsed = parse.submit([load.submit(1), load.submit(2)])
print("submitted")
parsed.result()
"""


def test_a_task_says_what_it_waits_for(open_notebook: Opener, server: Server) -> None:
    """A task names those it waits for and why it is tried again; tags and metadata are shown."""
    server.write("waits.ipynb", [LOAD, PIPELINE])
    page = open_notebook(server, "waits.ipynb")
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.wait_for_lines(0)
    expect(view.root.locator(".jf-about")).to_have_text("nightlycustomer: <b>42</b>")
    view.tab("Tasks").click()
    row = view.root.locator(".jf-task")
    expect(row.filter(has_text="parse-0")).to_contain_text("waits for load-0 and load-1")
    expect(row.filter(has_text="publish-0")).to_contain_text("OSError: the server said <b>503</b>")
    view.click("Cancel")
    view.expect_state("CANCELLED")
    expect(row.filter(has_text="parse-0")).not_to_contain_text("waits for")


def test_a_narrow_view_has_room_for_its_buttons(open_notebook: Opener, lab: Server) -> None:
    """In an output of less than 400 pixels nothing of the header is cut off, and buttons work."""
    lab.write("narrow.ipynb", [LOAD, COUNTING])
    page = open_notebook(lab, "narrow.ipynb")
    page.page.set_viewport_size({"width": 500, "height": 900})
    page.command("application:toggle-left-area")
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.wait_for_lines(3)
    box = view.root.bounding_box()
    assert box is not None
    assert box["width"] < 400
    for button in view.root.locator(".jf-head button").all():
        place = button.bounding_box()
        assert place is not None
        assert place["x"] >= box["x"]
        assert place["x"] + place["width"] <= box["x"] + box["width"]
    view.click("Pause")
    view.expect_state("PAUSED")
    view.click("Cancel")
    view.expect_state("CANCELLED")
    expect(view.root.get_by_text("Cancelled by the user").last).to_be_visible()

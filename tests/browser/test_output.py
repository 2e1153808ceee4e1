"""What is in the view: outputs, tracebacks, progress, tabs, the log's tools, the keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opener
from tests.browser.pages import NotebookPage
from tests.browser.servers import Server
from tests.browser.test_controlling import COUNTING, LOAD

RICH = """%%flow rich
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, Markdown, display
figure, axes = plt.subplots(figsize=(3, 2))
axes.plot([1, 2, 3])
plt.show()
display(pd.DataFrame({"letter": list("abc"), "number": range(3)}))
display(HTML("<b>bold words</b>"))
first = input("go on?")
display(Markdown("*one more*"))
"""
FAILING = """%%flow failing
print("so far so good")
[1, 2, 3].index("not there")
"""
LEVELS = """%%flow levels
import logging
import time
for number in range(300):
    print("plain", number)
logging.getLogger("model").warning("loss is not a number")
logging.getLogger("model").error("gave up")
time.sleep(600)
"""
STEPS = """%%flow steps
import time
for epoch in range(5_000):
    time.sleep(0.02)
"""


@pytest.fixture(params=["lab", "lab_without_labextension"], ids=["lab", "widget"])
def either(request: pytest.FixtureRequest) -> Server:
    """JupyterLab with the extension, and without it, where the widget is shown."""
    found: Server = request.getfixturevalue(request.param)
    return found


def run_second(open_notebook: Opener, server: Server, name: str, *cells: str) -> NotebookPage:
    """Open a notebook of these cells and run the first of them after loading the extension."""
    server.write(name, [LOAD, *cells])
    page = open_notebook(server, name)
    page.run_cell(0)
    page.run_cell(1)
    return page


def test_rich_output_is_in_its_tab(open_notebook: Opener, either: Server) -> None:
    """Figures, data frames and HTML of a run appear in its Output tab, as they come."""
    page = run_second(open_notebook, either, "rich.ipynb", RICH)
    view = page.view(1)
    view.expect_state("PAUSED", timeout=30_000)
    view.tab("Output").click()
    expect(view.tab("Output")).to_have_accessible_name("Output 3")
    panel = view.root.get_by_role("tabpanel")
    figure = panel.get_by_role("img").first
    expect(figure).to_be_visible()
    assert figure.evaluate("node => node.naturalWidth") > 100
    frames = page.page.frames[1:]
    texts = [panel.inner_text()] + [frame.locator("body").inner_text() for frame in frames]
    assert "letter" in " ".join(texts)
    assert "bold words" in " ".join(texts)
    view.root.get_by_role("textbox", name="go on?").fill("yes")
    view.click("Send")
    view.expect_state("COMPLETED")
    expect(panel).to_contain_text("one more")


def test_a_failed_run_shows_its_traceback(open_notebook: Opener, either: Server) -> None:
    """A run that failed shows its traceback by itself, with the cell's lines."""
    page = run_second(open_notebook, either, "failing.ipynb", FAILING)
    view = page.view(1)
    view.expect_state("FAILED")
    expect(view.tab("Error")).to_have_attribute("aria-selected", "true")
    traceback = view.root.get_by_label("Traceback")
    expect(traceback).to_contain_text("ValueError: 'not there' is not in list")
    expect(traceback).to_contain_text('[1, 2, 3].index("not there")')
    view.tab("Logs").click()
    expect(view.line(0)).to_have_text("so far so good")


def test_a_run_that_ended_well_folds(open_notebook: Opener, either: Server) -> None:
    """A run that ended well folds to one line, and opens again by its button."""
    page = run_second(open_notebook, either, "folding.ipynb", '%%flow well\nprint("done")')
    view = page.view(1)
    view.expect_state("COMPLETED")
    expect(view.root.get_by_role("tablist")).to_have_count(0)
    box = view.root.bounding_box()
    assert box is not None
    assert box["height"] < 40
    expect(view.root).to_contain_text("1 line")
    view.root.get_by_role("button", name="Show the details of well").click()
    expect(view.line(0)).to_have_text("done")
    expect(view.tab("Output")).to_have_count(0)
    expect(view.tab("Tasks")).to_have_count(0)
    expect(view.tab("Error")).to_have_count(0)


def test_a_loop_moves_the_bar(open_notebook: Opener, server: Server) -> None:
    """A cell's loop shows a progress bar that moves, stands still while paused, and goes on."""
    page = run_second(open_notebook, server, "steps.ipynb", STEPS)
    view = page.view(1)
    bar = view.root.get_by_role("progressbar", name="epoch")
    done = "Number(node.getAttribute('aria-valuenow'))"
    bar.wait_for()
    page.page.wait_for_function(f"node => {done} > 20", arg=bar.element_handle())
    expect(bar).to_have_attribute("aria-valuemax", "5000")
    expect(view.root).to_contain_text(re.compile(r"\d+/5,000 · \d+(\.\d)?/s · .*left"))
    view.click("Pause")
    view.expect_state("PAUSED")
    still = bar.evaluate(f"node => {done}")
    view.click("Resume")
    page.page.wait_for_function(
        f"([node, still]) => {done} > still + 10", arg=[bar.element_handle(), still]
    )
    view.click("Cancel")
    view.expect_state("CANCELLED")


def test_the_log_is_searched_and_filtered(open_notebook: Opener, lab: Server) -> None:
    """The search finds lines anywhere in the log; the level filter leaves what matters."""
    page = run_second(open_notebook, lab, "levels.ipynb", LEVELS)
    view = page.view(1)
    expect(view.tab("Logs")).to_have_accessible_name("Logs 302")
    search = view.root.get_by_role("searchbox")
    search.fill("plain 12")
    expect(view.root.locator(".jf-line .jf-message")).to_have_text(
        ["plain 12", *(f"plain 12{digit}" for digit in range(10))]
    )
    expect(view.root).to_contain_text("11 lines found")
    search.fill("")
    level = view.root.get_by_role("combobox", name="Least level")
    level.select_option(label="Warnings and up")
    expect(view.root.locator(".jf-line .jf-message")).to_have_text(
        ["WARNINGmodelloss is not a number", "ERRORmodelgave up"]
    )
    level.select_option(label="Errors")
    expect(view.root.locator(".jf-line")).to_have_count(1)
    level.select_option(label="All levels")
    expect(view.line(301)).to_be_visible()


def test_the_log_is_followed_until_one_scrolls(open_notebook: Opener, lab: Server) -> None:
    """The log follows its end, stays where one scrolled to, and follows again when asked."""
    page = run_second(open_notebook, lab, "follow.ipynb", COUNTING)
    view = page.view(1)
    view.wait_for_lines(60)
    expect(view.line(view.line_count() - 1)).to_be_in_viewport()
    view.scroll_to_start()
    expect(view.line(0)).to_be_in_viewport()
    view.wait_for_lines(view.line_count() + 20)
    expect(view.line(0)).to_be_in_viewport()
    view.root.get_by_role("button", name="follow").click()
    view.click("Pause")
    view.expect_state("PAUSED")
    expect(view.line(view.line_count() - 1)).to_be_in_viewport()


def test_the_keyboard_reaches_everything(open_notebook: Opener, server: Server) -> None:
    """Tab reaches buttons and tabs, arrows move along the tabs, Enter presses; no focus is lost."""
    page = run_second(open_notebook, server, "keyboard.ipynb", COUNTING)
    view = page.view(1)
    view.wait_for_lines(30)
    keyboard = page.page.keyboard
    focused = page.page.locator(":focus")
    view.root.get_by_role("button", name="Hide the details").focus()
    keyboard.press("Tab")
    expect(focused).to_have_accessible_name("Pause")
    keyboard.press("Enter")
    view.expect_state("PAUSED")
    expect(focused).to_have_accessible_name("Resume")
    keyboard.press("Enter")
    view.expect_state("RUNNING")
    keyboard.press("Tab")
    expect(focused).to_have_accessible_name("Cancel")
    keyboard.press("Tab")
    expect(focused).to_have_role("tab")
    expect(focused).to_have_attribute("aria-selected", "true")
    keyboard.press("ArrowRight")
    expect(focused).to_have_accessible_name("Details")
    expect(focused).to_have_attribute("aria-selected", "true")
    expect(view.root.get_by_role("tabpanel", name="Details")).to_be_visible()
    keyboard.press("Home")
    expect(view.root.get_by_role("log", name="Log")).to_be_visible()
    keyboard.press("Shift+Tab")
    expect(focused).to_have_accessible_name("Cancel")
    keyboard.press("Enter")
    view.expect_state("CANCELLED")
    expect(view.root.get_by_role("status").first).to_contain_text("counting: Cancelled")
    expect(focused).to_have_accessible_name("Hide the details of counting")  # Cancel is no more
    expect(page.cell(1).locator(".cm-content")).to_contain_text("%%flow counting")

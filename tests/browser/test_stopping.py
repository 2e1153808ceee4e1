"""Stopping what does not stop by itself, in a real browser: the countdown, Kill, Abandon, Where."""

from __future__ import annotations

import re

import psutil
import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import SCREENSHOTS, Opener
from tests.browser.pages import NotebookPage, RunView
from tests.browser.servers import Server
from tests.browser.test_controlling import LOAD

LOAD_IMPATIENT = f"{LOAD}\n%config FlowsConfig.grace = 0.3"
BUSY = """%%flow busy
number = 0
try:
    while True:
        number += 1
finally:
    print("busy cleaned up")
"""
SLEEPING = """%%flow sleeping
from time import sleep
while True:
    try:
        sleep(60)
    finally:
        print("sleeping cleaned up")
"""
SWALLOWING = """%%flow swallowing
import time
while True:
    try:
        time.sleep(0.01)
    except BaseException:
        print("swallowed")
"""
TREE = """%%flow tree --on process
import subprocess
import sys
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
print("child", child.pid)
sum(range(10**12))
"""
STUCK = """%%flow stuck --grace 1.5 --out stuck
import threading
lock = threading.Lock()
lock.acquire()
def read(path):
    print("reads", path)
    lock.acquire()
    print("went on with", path)
read("data.csv")
"""
FREE = """stuck["lock"].release()
import threading
for thread in threading.enumerate():
    if thread.name == "flow stuck":
        thread.join()
print([line.message for line in stuck.logs if "went on" in line.message], stuck.state.name)
"""
LATE = """%%flow late --timeout 0.2
import threading
threading.Event().wait(600)
"""


def button(view: RunView, name: str) -> Locator:
    return view.root.get_by_role("button", name=name, exact=True)


def picture(view: RunView, name: str) -> None:
    """Take a picture of a view, to be looked at."""
    folder = SCREENSHOTS / "stopping"
    folder.mkdir(parents=True, exist_ok=True)
    view.root.screenshot(path=folder / f"{name}.png")


def test_what_reaches_no_checkpoint_is_cancelled_by_the_button(
    open_notebook: Opener, notebook7: Server
) -> None:
    """A busy loop, a sleep, code that swallows the cancel, and a process with its child stop."""
    cells = [LOAD_IMPATIENT, BUSY, SLEEPING, SWALLOWING, LATE, TREE]
    notebook7.write("interrupted.ipynb", cells)
    page = open_notebook(notebook7, "interrupted.ipynb")
    for index in range(len(cells)):
        page.run_cell(index)
    where_it_is_can_be_asked_while_it_runs(page, page.view(1))
    for index, line in ((1, "busy cleaned up"), (2, "sleeping cleaned up"), (3, "swallowed")):
        view = page.view(index)
        view.expect_state("RUNNING")
        view.click("Cancel")
        view.expect_state("CANCELLED")
        view.tab("Logs").click()
        expect(view.root.get_by_text(line, exact=True).last).to_be_visible()
    what_takes_too_long_shows_what_holds_it(page.view(4))
    a_process_dies_with_its_child(page.view(5))


def a_process_dies_with_its_child(view: RunView) -> None:
    """Kill a process whose C code holds its interpreter, and a child that ignores SIGTERM."""
    view.expect_state("RUNNING")
    view.tab("Logs").click()
    line = view.root.get_by_text(re.compile(r"^child \d+$")).last
    expect(line).to_be_visible()
    child = int(line.inner_text().split()[1])
    assert psutil.pid_exists(child)
    view.click("Cancel")
    view.click("Kill")
    view.expect_state("CANCELLED")
    assert not psutil.pid_exists(child)


def where_it_is_can_be_asked_while_it_runs(page: NotebookPage, view: RunView) -> None:
    """Ask by keyboard where a run is that nobody stops."""
    view.expect_state("RUNNING")
    assert view.tab("Where is it?").count() == 0
    view.tab("Details").click()
    button(view, "Where is it?").focus()
    page.page.keyboard.press("Enter")
    own = view.root.locator(".jf-own")
    expect(own.first).to_contain_text(re.compile(r"Cell In\[\d+\], line [45]"))
    picture(view, "running")


def what_takes_too_long_shows_what_holds_it(view: RunView) -> None:
    """Look at a run that is RUNNING after its timeout, and give it up."""
    expect(view.root.locator(".jf-held")).to_contain_text("event.wait(timeout=1)")
    view.expect_state("RUNNING")
    expect(view.root.locator(".jf-state")).to_have_text("Timed out…")
    picture(view, "timed-out")
    view.click("Kill")
    view.click("Abandon")
    view.expect_state("CANCELLED")


@pytest.mark.parametrize("name", ["lab", "lab_without_labextension"])
def test_a_stuck_thread_is_shown_killed_and_abandoned(
    open_notebook: Opener, request: pytest.FixtureRequest, name: str
) -> None:
    """What cannot be stopped shows a countdown and what holds it, and can be given up."""
    server: Server = request.getfixturevalue(name)
    server.write("stuck.ipynb", [LOAD, STUCK, FREE])
    page = open_notebook(server, "stuck.ipynb")
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.wait_for_lines(0)
    assert button(view, "Kill").count() == 0

    view.click("Cancel")
    view.expect_state("CANCELLING")
    countdown = view.root.locator(".jf-countdown")
    expect(countdown).to_have_text(re.compile(r"Interrupt in \d\.\d s"))
    picture(view, f"{name}-asked")
    expect(countdown).to_have_text(re.compile(r"Kill in \d+ s"))
    held = view.root.locator(".jf-held")
    expect(held).to_contain_text(re.compile(r"Held at Cell In\[\d+\], line 7, in read"))
    expect(held).to_contain_text("lock.acquire()")
    expect(held).to_contain_text("while not lock.acquire(timeout=1): checkpoint()")
    picture(view, f"{name}-interrupted")

    view.click("Where is it?")
    calls = view.root.locator(".jf-call")
    expect(calls).to_have_count(2)
    expect(calls.nth(0)).to_contain_text("lock.acquire()")
    expect(calls.nth(1)).to_contain_text('read("data.csv")')
    asked = page.traffic.asked().count("where")
    view.click("Look again")
    expect(calls.nth(0)).to_contain_text("lock.acquire()")
    assert page.traffic.asked().count("where") == asked + 1

    assert button(view, "Abandon").count() == 0
    view.click("Kill")
    expect(button(view, "Killed")).to_be_visible()
    expect(held).to_contain_text("what its code still does is dropped")
    picture(view, f"{name}-killed")
    if name == "lab":
        look_in_the_dark(page, view, name)
    view.click("Abandon")
    view.expect_state("CANCELLED")
    expect(view.root.locator(".jf-state")).to_have_text("Abandoned")
    assert held.count() == 0
    page.run_cell(2)
    assert "[] Abandoned" in page.output(2)


def look_in_the_dark(page: NotebookPage, view: RunView, name: str) -> None:
    """Take a picture in dark colours too."""
    page.use_theme("JupyterLab Dark")
    try:
        picture(view, f"{name}-killed-dark")
    finally:
        page.use_theme("JupyterLab Light")

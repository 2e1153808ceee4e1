"""Pictures of the view in every state, to be looked at; and the picture in the README.

They are written into `screenshots`, which is not kept. The README's picture is written into
`notebooks/images` when the environment variable `JUPYTER_FLOWS_PICTURES` is set.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import SCREENSHOTS, Opener
from tests.browser.pages import NotebookPage, RunView
from tests.browser.servers import Server
from tests.browser.test_controlling import LOAD
from tests.repeats import in_full

PICTURES = Path(__file__).parents[2] / "notebooks" / "images"

STEPPING = """%%flow train
import time
for epoch in range(1, 41):
    for batch in range(30):
        time.sleep(0.02)
    print(f"epoch {epoch} loss {1 / epoch:.3f}")
"""
STUCK = """%%flow stuck
import threading
print("waits for what never comes")
threading.Event().wait()
"""
FAILED = """%%flow failing
def divide(a, b):
    return a / b
print("so far so good")
divide(1, 0)
"""
WELL = """%%flow well --tag demo
import time
for step in range(20):
    print("step", step)
"six times seven"
"""
WAITS = """%%flow again
import threading
threading.Event().wait(600)
"""
APPROVAL = """%%flow deploy
from jupyter_flows import pause_flow_run
print("the model reads 97 % of the test digits")
pause_flow_run(timeout=600, key="is the model good enough?")
"""
ASKS = """%%flow asks
input("Which learning rate?")
"""
ORDERS = """%%flow orders
from datetime import date
from typing import Literal
from pydantic import Field
from jupyter_flows import RunInput, pause_flow_run

class Order(RunInput):
    size: Literal["S", "M", "L"]
    count: int = Field(default=1, gt=0, description="How many of them, all of the same size")
    day: date | None = Field(default=None, description="When it is to be there")
    tags: list[str]

pause_flow_run(
    wait_for_input=Order.with_initial_data(
        description="The printer in Berlin is broken: this one goes to Lyon. Which shirt?"
    ),
    key="shirt",
)
"""
LONG = """%%flow {name}
import time
for a_variable_whose_name_is_long_too in range(1_000_000):
    print("x" * 400)
    time.sleep(0.05)
""".format(name="a_name_that_goes_on_and_on_" * 4)
MANY = """%%flow many
import time
for number in range(100_000):
    print("line", number)
time.sleep(600)
"""
COLOURS = """%%flow colours
import logging
import time
for code in [*range(30, 38), *range(90, 98)]:
    print(f"\\x1b[{code}mcolour {code}\\x1b[0m  \\x1b[1;{code}mbold\\x1b[0m  "
          f"\\x1b[{code + 10}mbackground\\x1b[0m \\x1b[3mitalic\\x1b[0m \\x1b[4munderlined\\x1b[0m")
logging.getLogger("model").warning("loss is not a number")
logging.getLogger("model").error("gave up")
print("\\rfetching 42 %", end="")
time.sleep(600)
"""
TASKS = """%%flow pipeline
import time
from jupyter_flows import task
@task
def extract(page):
    print("page", page)
    if page == 3:
        raise OSError("no such page")
    time.sleep(0.01 if page < 5 else 600)
for page in range(9):
    try:
        extract(page)
    except OSError:
        pass
"""
CELLS = [
    LOAD,
    STEPPING,
    STEPPING,
    STUCK,
    FAILED,
    WELL,
    WAITS,
    APPROVAL,
    ASKS,
    LONG,
    MANY,
    COLOURS,
    TASKS,
    ORDERS,
]


def bring_about(page: NotebookPage) -> dict[str, RunView]:
    """Run the cells and click the buttons, until every state is there."""
    for index in range(len(CELLS)):
        page.run_cell(index)
    page.run_cell(6)
    names = "running paused cancelling failed completed waiting approval input long many colours"
    names += " tasks refused"
    views = {name: page.view(number) for number, name in enumerate(names.split(), start=1)}
    views["running"].wait_for_lines(1)
    views["paused"].wait_for_lines(1)
    views["paused"].click("Pause")
    views["paused"].expect_state("PAUSED")
    views["cancelling"].click("Cancel")
    views["cancelling"].expect_state("CANCELLING")
    expect(views["cancelling"].root).to_contain_text("Held at Cell In[")
    views["failed"].expect_state("FAILED")
    views["completed"].expect_state("COMPLETED")
    views["waiting"].expect_state("SCHEDULED")
    views["approval"].expect_state("PAUSED")
    views["input"].expect_state("PAUSED")
    views["refused"].expect_state("PAUSED")
    views["refused"].click("Send")
    expect(views["refused"].root.get_by_role("alert")).to_contain_text("size: ")
    views["long"].wait_for_lines(5)
    views["many"].wait_for_lines(99_999, timeout=30_000)
    expect(views["many"].line(99_999)).to_be_attached()
    views["colours"].wait_for_lines(17)
    views["tasks"].tab("Tasks").click()
    expect(views["tasks"].root.locator(".jf-task")).to_have_count(6)
    return views


def look(views: dict[str, RunView], folder: Path) -> None:
    """Take a picture of each view."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, view in views.items():
        view.root.screenshot(path=folder / f"{name}.png")
    completed = views["completed"].root
    completed.get_by_role("button", name="Show the details").click()
    completed.screenshot(path=folder / "completed-open.png")
    completed.get_by_role("tab", name="Details").click()
    completed.screenshot(path=folder / "completed-details.png")
    completed.get_by_role("button", name="Hide the details").click()


@pytest.mark.parametrize(
    "name", ["lab", pytest.param("notebook7", marks=in_full), "lab_without_labextension"]
)
def test_every_state_can_be_looked_at(
    open_notebook: Opener, request: pytest.FixtureRequest, name: str
) -> None:
    """Every state of the view can be brought about and is drawn, in light and in dark."""
    server: Server = request.getfixturevalue(name)
    server.write("looks.ipynb", CELLS)
    page = open_notebook(server, "looks.ipynb")
    views = bring_about(page)
    look(views, SCREENSHOTS / name / "light")
    page.use_theme("JupyterLab Dark")
    try:
        look(views, SCREENSHOTS / name / "dark")
    finally:
        page.use_theme("JupyterLab Light")


TRAINING = """%%flow train --out run
from sklearn.neural_network import MLPClassifier

model = MLPClassifier(hidden_layer_sizes=(700, 300), learning_rate_init=0.0001)
for epoch in range(1, 61):
    model.partial_fit(x_train, y_train, classes=range(10))
    accuracy = model.score(x_test, y_test)
    print(f"epoch {epoch:2}: reads {accuracy:.1%} of the test digits correctly")"""
DIGITS = """from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
x_train, x_test, y_train, y_test = train_test_split(*load_digits(return_X_y=True), random_state=0)
x_train, x_test = x_train / 16, x_test / 16"""
PEEK = """run.state.name, run["epoch"]   # this cell runs at once"""


def write_small(picture: bytes, folder: Path) -> None:
    """Write a picture with few colours, as a checkout keeps it for ever."""
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(BytesIO(picture)) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(
            folder / "view.png", optimize=True
        )


def test_the_readmes_picture(open_notebook: Opener, lab: Server) -> None:
    """The README's picture is of a real model that is trained while the next cell has run."""
    lab.write("train.ipynb", [LOAD + "\n" + DIGITS, TRAINING, PEEK])
    page = open_notebook(lab, "train.ipynb", scale=2)
    page.page.set_viewport_size({"width": 1000, "height": 900})
    page.use_theme("JupyterLab Light")
    page.command("application:toggle-left-area")
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.wait_for_lines(20, timeout=60_000)
    page.run_cell(2)
    assert "Running" in page.output(2)
    top, bottom = (page.cell(index).bounding_box() for index in (1, 2))
    assert top is not None
    assert bottom is not None
    picture = page.page.screenshot(
        clip={
            "x": top["x"],
            "y": top["y"] - 4,
            "width": top["width"],
            "height": bottom["y"] + bottom["height"] - top["y"] + 8,
        },
    )
    write_small(picture, PICTURES if os.environ.get("JUPYTER_FLOWS_PICTURES") else SCREENSHOTS)
    view.click("Cancel")
    view.expect_state("CANCELLED")

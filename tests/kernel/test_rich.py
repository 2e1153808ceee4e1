"""What runs display: in their own output areas, and never in a cell."""

import base64
from typing import Any

import pytest


def outputs(flows: Any, run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = flows.control("outputs", run=run)["outputs"]
    return found


def texts(flows: Any, run: str) -> list[str]:
    return [each["data"]["text/plain"] for each in outputs(flows, run)]


@pytest.fixture
def ran(flows: Any) -> Any:
    """Runs a cell to its end and returns its run's id; nothing of it may be in a cell."""

    def run(source: str) -> str:
        begin = len(flows.heard)
        flows.run(f"%%flow shows --no-view\n{source}")
        run = str(flows.latest())
        record = flows.until(run, "COMPLETED", "FAILED")
        assert record["state_type"] == "COMPLETED", record["error"]
        flows.hear_for(0.05)
        shown = {message["msg_type"] for message in flows.heard[begin:]}
        assert not shown & {"display_data", "update_display_data", "clear_output", "stream"}
        return run

    return run


def test_displays_go_into_the_runs_own_outputs(flows: Any, ran: Any) -> None:
    """`display` and data frames are the run's outputs, in order, with all their MIME types."""
    run = ran("import pandas as pd\ndisplay('one')\ndisplay(pd.DataFrame({'a': [1]}))")
    one, frame = outputs(flows, run)
    assert one["data"] == {"text/plain": "'one'"}
    assert "<table" in frame["data"]["text/html"]


def test_a_display_can_be_updated(flows: Any, ran: Any) -> None:
    """A display id is the run's: an update changes that output, and no other."""
    run = ran(
        "from IPython.display import update_display\n"
        "handle = display(1, display_id='same'); display(2); handle.update(3)\n"
        "update_display(4, display_id='same')"
    )
    assert [each["data"]["text/plain"] for each in sorted(outputs(flows, run), key=_number)] == [
        "4",
        "2",
    ]


def test_clear_output_clears_the_runs_area(flows: Any, ran: Any) -> None:
    """`clear_output` acts on the run's area, at once or when the next output comes."""
    run = ran(
        "from IPython.display import clear_output\ndisplay(1); clear_output(); display(2)\n"
        "clear_output(wait=True); display(3); clear_output(wait=True)"
    )
    assert texts(flows, run) == ["3"]
    assert flows.control("outputs", run=run)["numbers"] == [2]


def test_only_what_changed_is_sent(flows: Any, ran: Any) -> None:
    """A view that asks again gets only the outputs that changed since."""
    flows.run("import threading\ngo, on = threading.Event(), threading.Event()")
    flows.run("%%flow shows --no-view\ndisplay(1); display(2); on.set(); go.wait(); display(3)")
    flows.run("on.wait()")
    run = flows.latest()
    first = outputs(flows, run)
    assert [each["data"]["text/plain"] for each in first] == ["1", "2"]
    flows.run("go.set()")
    flows.until(run, "COMPLETED")
    later = flows.control("outputs", run=run, since=first[-1]["change"])
    assert [each["data"]["text/plain"] for each in later["outputs"]] == ["3"]
    assert later["numbers"] == [0, 1, 2]


def test_four_runs_that_draw_at_once_have_each_their_own_figure(flows: Any) -> None:
    """Runs that draw with pyplot at the same time get each figure whole, in their own run."""
    flows.run("%matplotlib inline\nimport threading\nfrom matplotlib import pyplot as plt")
    flows.run("gate = threading.Barrier(4)\nhandles = []")
    for i in range(4):
        flows.run(
            f"%%flow draws{i} --no-view --tag figures\nfor step in range(3):\n"
            "    gate.wait()\n    figure = plt.figure(figsize=(2, 1))\n"
            f"    plt.plot(range({i} + 2)); plt.title('run {i}'); gate.wait()\n"
            f"    assert plt.gca().get_title() == 'run {i}' and len(plt.get_fignums()) == 1\n"
            f"    assert len(plt.gca().lines[0].get_xdata()) == {i} + 2\n"
            "    gate.wait()\n    plt.show() if step < 2 else None"
        )
    runs = [run["id"] for run in flows.control("list", limit=4)["runs"] if "figures" in run["tags"]]
    assert len(runs) == 4
    for run in runs:
        record = flows.until(run, "COMPLETED", "FAILED", seconds=60)
        assert record["state_type"] == "COMPLETED", record["error"]
        shown = outputs(flows, run)
        assert len(shown) == 3
        for each in shown:
            assert base64.b64decode(each["data"]["image/png"]).startswith(b"\x89PNG")
    assert flows.run("plt.get_fignums()")["result"] == "[]"


def test_a_cells_own_figures_are_the_cells(flows: Any) -> None:
    """While a run draws, a cell's figure is shown in the cell, once."""
    flows.run("%matplotlib inline\nimport threading\ngo = threading.Event()")
    flows.run(
        "%%flow draws --no-view\nfrom matplotlib import pyplot as plt\nplt.plot([1, 2]); go.wait()"
    )
    cell = flows.run(
        "from matplotlib import pyplot as plt\n_ = plt.plot([3, 4])\nplt.get_fignums()"
    )
    assert cell["result"] == "[1]"
    assert [list(each["data"]) for each in cell["displays"] if "image/png" in each["data"]] == [
        ["text/plain", "image/png"]
    ]
    flows.run("go.set()")
    flows.until(flows.latest(), "COMPLETED")
    assert len(outputs(flows, flows.latest())) == 1


def test_an_output_that_json_cannot_hold_is_an_error_and_no_silence(flows: Any, ran: Any) -> None:
    """A request whose answer cannot be sent is answered with the reason."""
    run = ran("display({'application/json': {'x': object()}}, raw=True)")
    assert flows.ask({"protocol": 1, "action": "outputs", "run": run})["status"] == "error"


def test_with_no_log_prints_displays_go_to_the_cell(flows: Any) -> None:
    """With `--no-log-prints` prints and displays go to the cell that started the run."""
    flows.run("import threading\ngo = threading.Event()")
    request = flows.begin(
        "%%flow passes --no-view --no-log-prints\nimport sys, threading\ngo.wait()\nprint('out')\n"
        "helper = threading.Thread(target=print, args=('from a helper',))\n"
        "helper.start(); helper.join()\nprint('err', file=sys.stderr)\ndisplay(5)"
    )
    flows.finish(request)
    run = flows.latest()
    other = flows.run("go.set()")
    flows.until(run, "COMPLETED")
    flows.hear_for(0.5)
    cell = flows.outcome(request)
    text = cell["text"]  # of two streams, whose parts come in any order
    for said in ("out", "err", "from a helper"):
        assert text.count(said) == 1
        text = text.replace(said, "")
    assert text.strip() == ""
    assert [each["data"]["text/plain"] for each in cell["displays"]] == ["5"]
    assert not other["text"]
    assert flows.lines(run) == []
    assert outputs(flows, run) == []


def _number(output: dict[str, Any]) -> int:
    return int(output["number"])

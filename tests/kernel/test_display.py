"""How a run is shown: what a notebook saves of it."""

import html
from typing import Any

import pytest

from jupyter_flows.kernel.display import MIME, WIDGET_MIME

EVIL = "<img src=x onerror=alert(1)>"


def bundle(ran: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = ran["displays"][0]
    return found


def test_what_is_shown_of_a_run_is_constant(flows: Any) -> None:
    """Running a cell again in a new session changes nothing but the output's metadata."""
    first = bundle(flows.run("%%flow constant --wait\n1", "cell-1"))
    flows.run("from jupyter_flows.kernel.display import _displays\n_displays.clear()")
    flows.run("import ipywidgets\nipywidgets.Widget.close_all()")
    second = bundle(flows.run("%%flow constant --wait\n2", "cell-1"))
    assert first["data"] == second["data"]
    assert first["metadata"] != second["metadata"]
    assert first["data"]["text/plain"] == "<FlowRun 'constant'>"


def test_the_metadata_holds_the_run_and_the_logs_tail(flows: Any) -> None:
    """The saved notebook has the run's last state and the tail of its log."""
    ran = flows.run("%%flow tail --wait\nfor i in range(100): print(i)")
    saved = ran["displays"][-1]["metadata"][MIME]
    assert saved["run"]["state_type"] == "COMPLETED"
    assert [line[4] for line in saved["lines"]] == [str(i) for i in range(50, 100)]
    assert saved["kernel"] == flows.control("hello")["kernel"]


def test_the_barrier_brings_saved_runs_up_to_date(flows: Any) -> None:
    """`%flows wait` leaves every run that was shown as it ended, in its own output."""
    flows.run("import threading\ngo = threading.Event()")
    shown = bundle(flows.run("%%flow late\ngo.wait()\nprint('end')"))
    assert shown["metadata"][MIME]["run"]["state_type"] in ("PENDING", "RUNNING")
    ran = flows.run("go.set()\n%flows wait")
    later = [each for each in ran["displays"] if each["transient"] == shown["transient"]]
    assert later[-1]["metadata"][MIME]["run"]["state_type"] == "COMPLETED"
    assert later[-1]["metadata"][MIME]["lines"][-1][4] == "end"
    assert flows.run("%flows wait")["displays"] == []


def test_a_run_is_shown_when_it_is_a_cells_last_expression(flows: Any) -> None:
    """A FlowRun at a cell's end shows itself, with a widget of its own each time."""
    flows.run("%%flow last --out run --no-view --wait\n1")
    first, second = bundle(flows.run("run", "c1")), bundle(flows.run("run", "c2"))
    assert first["data"][MIME] == {"version": 1, "name": "last"}
    ids = {each["data"][WIDGET_MIME]["model_id"] for each in (first, second)}
    assert len(ids) == 2
    twice = flows.run("display(run, run)", "c3")["displays"]
    assert len({each["data"][WIDGET_MIME]["model_id"] for each in twice} | ids) == 4


def test_the_widget_can_be_turned_off(flows: Any) -> None:
    """With `FlowsConfig.widget` off no widget is made; the view stays."""
    flows.run("%config FlowsConfig.widget = False")
    before = len(flows.heard)
    data = bundle(flows.run("%%flow plain --wait\n1"))["data"]
    flows.run("%config FlowsConfig.widget = True")
    assert set(data) == {MIME, "text/plain", "text/html"}
    assert not [each for each in flows.heard[before:] if each["msg_type"] == "comm_open"]


def test_hostile_texts_stay_text(flows: Any) -> None:
    """A name, a log line, an error and a parameter that hold HTML are text in what is saved."""
    ran = flows.run(f"%%flow '{EVIL}' --no-wait\nprint('{EVIL}')\nraise ValueError('{EVIL}')")
    data = bundle(ran)["data"]
    assert "<img" not in data["text/html"]
    assert html.escape(EVIL) in data["text/html"]
    assert data[MIME]["name"] == EVIL
    run = flows.latest()
    assert flows.until(run, "FAILED")["error"]["message"] == EVIL
    shown = bundle(flows.run(f"%flows show {run[:8]}"))
    assert list(shown["data"]) == [MIME, "text/plain", "text/html", WIDGET_MIME]
    assert "<img" not in shown["data"]["text/html"]


@pytest.mark.parametrize("name", ["a\nb", "a'b", 'a"b', "ü → 日本", "x" * 300])
def test_any_name_can_be_shown(flows: Any, name: str) -> None:
    """Whatever a run is called, it can be listed and shown, one line for each run."""
    flows.run(
        "from jupyter_flows import flow, runs\n"
        f"run = flow(name={name!r})(lambda: 1).start(); run.result()"
    )
    assert bundle(flows.run("run"))["data"][MIME]["name"] == name
    rows = flows.run("%flows")["text"].splitlines()
    assert len(rows) == 1 + len(flows.control("list", limit=1000)["runs"])

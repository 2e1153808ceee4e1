"""The control channel of a real kernel, also while a cell computes."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

COUNTER = (
    "%%flow counter --no-view\nimport time\nfor i in range(10**9):\n    print(i)\n"
    "    time.sleep(0.005)"
)
COMPUTE = (
    "import time\nstop = False\nprint('computing')\nend = time.monotonic() + 20\n"
    "while time.monotonic() < end and not runs.list()[0].state_is_final(): sum(range(1000))"
)


@contextmanager
def computing(flows: Any) -> Iterator[str]:
    """Let the kernel compute in a cell until the newest run has ended."""
    flows.run("from jupyter_flows import runs")
    request = flows.begin(COMPUTE)
    flows.hear_until(lambda message: "computing" in str(message["content"].get("text")))
    try:
        yield request
    finally:
        flows.control("cancel", run=flows.latest())
        flows.finish(request)


def test_a_run_is_held_and_stopped_while_a_cell_computes(flows: Any) -> None:
    """Pause, resume and cancel act on a run within 500 ms while the kernel is busy."""
    flows.run(COUNTER)
    run = flows.latest()
    flows.until(run, "RUNNING")
    with computing(flows):
        began = time.monotonic()
        flows.control("pause", run=run)
        held = flows.until(run, "PAUSED")["log_count"]
        assert time.monotonic() - began < 0.5
        assert flows.control("show", run=run)["run"]["log_count"] == held
        flows.control("resume", run=run)
        flows.until(run, "RUNNING")
        while flows.control("show", run=run)["run"]["log_count"] <= held:
            pass
        began = time.monotonic()
        flows.control("cancel", run=run)
        flows.until(run, "CANCELLED")
        assert time.monotonic() - began < 0.5


def test_a_busy_kernel_says_busy_last(flows: Any) -> None:
    """After a request that came while a cell computes, the kernel's last word is "busy"."""
    flows.run(COUNTER)
    with computing(flows) as request:
        for _ in range(5):
            flows.control("list")
        said = _statuses(flows.hear_for(0.5))
        assert said[-1] == ("busy", request)
        assert len(said) == 5 * 3
    assert _statuses(flows.heard)[-1] == ("idle", request)
    flows.control("list")
    assert [state for state, _ in _statuses(flows.hear_for(0.5))] == ["busy", "idle"]


def _statuses(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        (message["content"]["execution_state"], message["parent_header"]["msg_id"])
        for message in messages
        if message["msg_type"] == "status"
        and message["parent_header"].get("msg_type") in ("execute_request", "flows_request")
    ]


BAD: list[Any] = [
    {},
    [],
    "text",
    None,
    {"protocol": 2, "action": "list"},
    {"protocol": True, "action": "list"},
    {"protocol": 1},
    {"protocol": 1, "action": "explode"},
    {"protocol": 1, "action": ["list"]},
    {"protocol": 1, "action": "__init__"},
    {"protocol": 1, "action": "show"},
    {"protocol": 1, "action": "show", "run": 5},
    {"protocol": 1, "action": "show", "run": "x" * 65},
    {"protocol": 1, "action": "show", "run": "nobody"},
    {"protocol": 1, "action": "cancel", "run": "nobody"},
    {"protocol": 1, "action": "watch", "run": "nobody"},
    {"protocol": 1, "action": "watch", "run": "nobody", "seconds": "1"},
    {"protocol": 1, "action": "list", "limit": -1},
    {"protocol": 1, "action": "list", "limit": 1.5},
    {"protocol": 1, "action": "list", "limit": True},
    {"protocol": 1, "action": "list", "extra": 1},
    {"protocol": 1, "action": "logs", "run": "nobody", "start": 2**53},
    {"protocol": 1, "action": "resume", "run": "nobody", "input": {"a": 1}},
    {"protocol": 1, "action": "junk" * 250_000},
    {"protocol": 1, "action": "list", "junk" * 250_000: 1},
    {"protocol": 1, "action": "list", "junk": ["junk"] * 250_000},
]


@pytest.mark.parametrize("content", BAD, ids=[json.dumps(each)[:60] for each in BAD])
def test_a_bad_request_is_refused_in_one_line(flows: Any, content: Any) -> None:
    """Whatever the protocol does not know gets an answer of one short line, and does nothing."""
    before = flows.control("list")["runs"]
    reply = flows.ask(content)
    assert reply["status"] == "error"
    assert reply["ename"] in ("BadRequest", "UnknownRun")
    assert reply["evalue"]
    assert "\n" not in reply["evalue"]
    assert len(reply["evalue"]) < 300
    assert flows.control("list")["runs"] == before


def test_a_stale_beginning_of_an_id_acts_on_nothing(flows: Any) -> None:
    """The protocol takes whole ids only, so that a stale view never acts on another run."""
    flows.run("%%flow whole --no-view --wait\n1")
    reply = flows.ask({"protocol": 1, "action": "cancel", "run": flows.latest()[:-1]})
    assert reply["ename"] == "UnknownRun"


def test_only_a_paused_run_can_be_resumed(flows: Any) -> None:
    """Resuming or pausing a run that has ended is refused in one line."""
    flows.run("%%flow over --no-view --wait\n1")
    for action, ename in (("resume", "NotPaused"), ("pause", "NotActive")):
        reply = flows.ask({"protocol": 1, "action": action, "run": flows.latest()})
        assert (reply["status"], reply["ename"]) == ("error", ename)


def test_hello_says_who_is_there(flows: Any) -> None:
    """A client can ask for the version and the kernel that runs are kept under."""
    from jupyter_flows import __version__

    reply = flows.control("hello")
    assert reply["version"] == __version__
    assert reply["kernel"] == flows.control("list")["runs"][0]["kernel"]

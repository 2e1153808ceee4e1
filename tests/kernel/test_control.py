"""What the control protocol answers about runs: logs, tasks, moves, outputs."""

import re
import time
from typing import Any

import pytest

from jupyter_flows.messages import MAX_LINE_CHARACTERS, MAX_LINES

COUNT = 45_000  # more than stay in memory


@pytest.fixture(scope="module")
def long_run(flows: Any) -> str:
    """The id of a run whose first lines have left memory."""
    flows.run(f"%%flow long --no-view --wait\nfor i in range({COUNT}): print(i)")
    return str(flows.latest())


def test_logs_come_in_pages_also_those_that_left_memory(flows: Any, long_run: str) -> None:
    """Every line of a long run can be read, page by page, from memory or the store."""
    assert flows.control("show", run=long_run)["run"]["log_first"] > 0
    lines: list[Any] = []
    while len(lines) < COUNT:
        page = flows.control("logs", run=long_run, start=len(lines))
        assert 0 < len(page["lines"]) <= MAX_LINES
        assert (page["first"], page["count"]) == (0, COUNT)
        lines += page["lines"]
    assert [(number, text) for number, _, _, _, text in lines] == [
        (i, str(i)) for i in range(COUNT)
    ]


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [(10, 12, ["10", "11"]), (COUNT - 1, COUNT + 9, [str(COUNT - 1)]), (COUNT, COUNT + 9, [])],
)
def test_logs_are_read_by_range(
    flows: Any, long_run: str, start: int, stop: int, expected: list[str]
) -> None:
    """A range gives the lines from its start to before its stop, as far as there are any."""
    page = flows.control("logs", run=long_run, start=start, stop=stop)
    assert [line[4] for line in page["lines"]] == expected


def test_an_over_long_line_says_what_it_cut(flows: Any) -> None:
    """A line that is too long to travel is cut, and says by how much."""
    flows.run(f"%%flow wide --no-view --wait --no-wait\nprint('x' * {MAX_LINE_CHARACTERS + 1234})")
    run = flows.latest()
    flows.until(run, "COMPLETED")
    (line,) = flows.lines(run)
    assert line.startswith("x" * MAX_LINE_CHARACTERS)
    assert line.endswith("… (1,234 more characters)")


def test_a_reply_of_wide_lines_stays_small(flows: Any) -> None:
    """A page of very long lines is ended early, and the rest can be asked for."""
    flows.run("%%flow wider --no-view\nfor i in range(500): print('x' * 15_000)")
    run = flows.latest()
    flows.until(run, "COMPLETED")
    page = flows.control("logs", run=run)["lines"]
    assert sum(len(line[4]) for line in page) <= 2_000_000
    assert flows.control("logs", run=run, start=len(page))["lines"][0][0] == len(page)


def test_tasks_and_moves_are_told(flows: Any) -> None:
    """A run's tasks and every one of its moves, with times and causes, can be read."""
    flows.run(
        "%%flow steps --no-view\nfrom jupyter_flows import task\n@task\ndef step(n): return n\n"
        "[step(n) for n in range(3)]"
    )
    run = flows.latest()
    flows.until(run, "COMPLETED")
    tasks = flows.control("tasks", run=run)["tasks"]
    assert [task["name"] for task in tasks] == ["step-0", "step-1", "step-2"]
    assert [
        task["number"] for task in flows.control("tasks", run=run, start=1, stop=2)["tasks"]
    ] == [1]
    moves = flows.control("transitions", run=run)["transitions"]
    assert [move["type"] for move in moves] == ["PENDING", "RUNNING", "COMPLETED"]
    assert sorted(move["time"] for move in moves) == [move["time"] for move in moves]


def test_a_run_of_another_kernel_is_shown_from_the_store(flows: Any, long_run: str) -> None:
    """What is no longer in memory is answered from the store, and cannot be acted upon."""
    flows.run(
        f"from jupyter_flows.engine import registry\nforgotten = registry._ended.pop({long_run!r})"
    )
    assert flows.control("show", run=long_run)["run"]["state_type"] == "COMPLETED"
    for number in (5, COUNT - 1):
        page = flows.control("logs", run=long_run, start=number, stop=number + 1)
        assert (page["first"], page["count"]) == (0, COUNT)
        assert [line[4] for line in page["lines"]] == [str(number)]
    assert len(flows.control("transitions", run=long_run)["transitions"]) == 3
    assert flows.control("tasks", run=long_run)["tasks"] == []
    assert flows.ask({"protocol": 1, "action": "cancel", "run": long_run})["ename"] == "UnknownRun"
    flows.run(f"registry._ended[{long_run!r}] = forgotten")


STUCK = """%%flow {name} --no-view --no-wait
import threading
lock = threading.Lock()
lock.acquire()
def take():
    lock.acquire()
take()
print("went on")
"""


def stuck_run(flows: Any, name: str) -> str:
    """Start a run that takes a lock which is not free, and return its id once it does."""
    flows.run("%config FlowsConfig.grace = 0.1")
    assert flows.run(STUCK.format(name=name))["error"] is None
    run = str(flows.latest())
    deadline = time.monotonic() + 20
    while not any("take" in frame["function"] for frame in frames_of(flows, run)):
        assert time.monotonic() < deadline
    return run


def frames_of(flows: Any, run: str) -> list[dict[str, Any]]:
    """Return the frames of the one stack of a run."""
    (stack,) = flows.control("where", run=run)["stacks"]
    frames: list[dict[str, Any]] = stack["frames"]
    return frames


def free(flows: Any, run: str) -> None:
    """Let a stuck run go on."""
    flows.run(f"from jupyter_flows import runs\nruns.get({run!r})['lock'].release()")


def test_where_tells_the_lines_of_a_cell_as_people_know_them(flows: Any) -> None:
    """The stacks of a run name the cell by its number, and say what to write instead."""
    run = stuck_run(flows, "where")
    stack = flows.control("where", run=run)["stacks"][0]
    assert (stack["name"], stack["kind"], stack["doing"]) == ("where", "thread", "waiting")
    assert [(frame["line"], frame["text"]) for frame in stack["frames"]] == [
        (7, "take()"),
        (6, "lock.acquire()"),
    ]
    assert all(re.fullmatch(r"Cell In\[\d+\]", frame["file"]) for frame in stack["frames"])
    assert all(frame["own"] for frame in stack["frames"])
    assert "lock.acquire(timeout=1)" in stack["hint"]
    free(flows, run)
    flows.until(run, "COMPLETED")
    assert flows.control("where", run=run)["stacks"] == []


def test_a_stuck_run_is_killed_in_vain_and_can_be_abandoned(flows: Any) -> None:
    """Kill takes the last rung at once; Abandon ends the run, and drops what it still does."""
    run = stuck_run(flows, "abandoned")
    refused = flows.ask({"protocol": 1, "action": "abandon", "run": run})
    assert refused["ename"] == "NotActive"
    stopping = flows.control("kill", run=run)["run"]["stopping"]
    assert (stopping["rung"], stopping["next"], stopping["at"]) == ("killed", None, None)
    record = flows.until(run, "CANCELLING")
    deadline = time.monotonic() + 20
    while record["stopping"]["stuck"] is None:
        assert time.monotonic() < deadline
        record = flows.until(run, "CANCELLING")
    assert record["stopping"]["stuck"]["text"] == "lock.acquire()"
    record = flows.control("abandon", run=run)["run"]
    assert (record["state_type"], record["state_name"]) == ("CANCELLED", "Abandoned")
    free(flows, run)
    assert not any("went on" in line for line in flows.lines(run))


@pytest.mark.parametrize("action", ["kill", "abandon", "where"])
def test_what_is_asked_of_an_unknown_run_is_refused(flows: Any, action: str) -> None:
    """A stale view can act on no other run."""
    assert flows.ask({"protocol": 1, "action": action, "run": "x"})["ename"] == "UnknownRun"

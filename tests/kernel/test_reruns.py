"""Running a cell again while its run is active."""

import itertools
from typing import Any

import pytest

_cells = itertools.count()


@pytest.fixture
def cell(flows: Any) -> Any:
    """Runs one cell, again and again: it appends to `ran` and waits for `go`."""
    flows.run("import threading\ngo = threading.Event()\nran = []\nfrom jupyter_flows import runs")
    cell_id = f"cell-{next(_cells)}"

    def run(options: str = "", *, cell_id: str | None = cell_id, source: str = "") -> str:
        text = f"%%flow again --no-view {options}\n{source}import time\nran.append(1)\n"
        ran = flows.run(f"{text}while not go.is_set(): time.sleep(0.01)", cell_id)
        assert ran["error"] is None, ran["text"]
        return str(flows.latest())

    yield run
    flows.run("go.set()\n%flows cancel --all\nfor r in runs.list(): r.wait()")


def test_a_rerun_waits_for_the_run_before(flows: Any, cell: Any) -> None:
    """By default a re-run waits, says for which run, and begins when that has ended."""
    first, second = cell(), cell()
    record = flows.until(second, "SCHEDULED")
    waiting = record["waiting"]
    assert (waiting["kind"], waiting["run"], waiting["until"]) == ("run", first, None)
    assert waiting["text"] == "Waits for the earlier run of this cell"
    assert flows.state(first) == "RUNNING"
    flows.run("n = 7\ngo.set()")
    flows.until(first, "COMPLETED")
    flows.until(second, "COMPLETED")
    assert flows.control("show", run=second)["run"]["waiting"] is None


def test_a_waiting_rerun_that_was_paused_still_says_what_it_waits_for(
    flows: Any, cell: Any
) -> None:
    """A pause of a run that waits for an earlier one, and its end, leave it waiting for that."""
    first, second = cell(), cell()
    before = flows.until(second, "SCHEDULED")["waiting"]
    flows.control("pause", run=second)
    assert flows.control("resume", run=second, question=0)["run"]["waiting"] == before
    assert before["run"] == first


def test_a_rerun_that_waited_sees_the_names_of_its_beginning(flows: Any, cell: Any) -> None:
    """A run that had to wait starts from the notebook's names as they are then."""
    cell(), cell(source="seen = latest\n")
    assert flows.run("latest = 'newer'\ngo.set()\nruns.list()[0].result(), seen")["result"] == (
        "(None, 'newer')"
    )


def test_a_waiting_rerun_can_replace_the_run_before(flows: Any, cell: Any) -> None:
    """The action Replace of a run that waits cancels the earlier one, and it begins."""
    first, second = cell(), cell()
    flows.control("replace", run=second)
    assert flows.until(first, "CANCELLED")["reason"] == "concurrency"
    flows.until(second, "RUNNING")
    reply = flows.ask({"protocol": 1, "action": "replace", "run": second})
    assert (reply["status"], reply["ename"]) == ("error", "BadRequest")


def test_a_waiting_rerun_can_be_cancelled(flows: Any, cell: Any) -> None:
    """A run cancelled while it waits never begins, and the one before goes on."""
    first, second = cell(), cell()
    flows.control("cancel", run=second)
    flows.until(second, "CANCELLED")
    flows.run("go.set()")
    flows.until(first, "COMPLETED")
    assert flows.control("show", run=second)["run"]["attempt"] == 0
    assert flows.run("len(ran)")["result"] == "1"


def test_a_run_waits_for_all_that_were_before(flows: Any, cell: Any) -> None:
    """When the second of three is cancelled while it waits, the third waits for the first."""
    first, second, third = cell(), cell(), cell()
    flows.control("cancel", run=second)
    flows.until(second, "CANCELLED")
    assert flows.until(third, "SCHEDULED")["waiting"]["run"] == first
    flows.run("go.set()")
    flows.until(first, "COMPLETED")
    flows.until(third, "COMPLETED")
    assert flows.run("len(ran)")["result"] == "2"


def test_replace_cancels_the_run_before(flows: Any, cell: Any) -> None:
    """With `--on-rerun replace` the earlier run is cancelled and the new one begins."""
    first = cell()
    second = cell("--on-rerun replace")
    flows.until(first, "CANCELLED")
    flows.until(second, "RUNNING")


def test_reject_starts_nothing(flows: Any, cell: Any) -> None:
    """With `--on-rerun reject` a re-run is a one-line error, and the earlier run goes on."""
    first = cell()
    with pytest.raises(AssertionError, match=r"UsageError: %%flow: The run of this cell before"):
        cell("--on-rerun reject")
    assert flows.state(first) == "RUNNING"


def test_parallel_runs_both(flows: Any, cell: Any) -> None:
    """With `--on-rerun parallel` both runs go on at once."""
    first, second = cell("--on-rerun parallel"), cell("--on-rerun parallel")
    flows.until(second, "RUNNING")
    assert flows.state(first) == "RUNNING"


def test_an_edited_cell_is_the_same_cell_by_its_id(flows: Any, cell: Any) -> None:
    """A cell is known by the front end's id, whatever its text; another cell does not wait."""
    first, second = cell(), cell(source="edited = True\n")
    assert flows.control("show", run=second)["run"]["waiting"]["run"] == first
    third = cell(cell_id="another")
    flows.until(third, "RUNNING")


def test_without_cell_ids_a_cell_is_known_by_name_and_source(flows: Any, cell: Any) -> None:
    """In a front end without cell ids the same name and text is the same cell."""
    first, second = cell(cell_id=None), cell(cell_id=None)
    assert flows.control("show", run=second)["run"]["waiting"]["run"] == first
    third = cell(cell_id=None, source="edited = True\n")
    flows.until(third, "RUNNING")

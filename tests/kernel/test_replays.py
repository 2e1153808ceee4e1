"""Runs done again, in a real kernel: cells and flows, from code and by the control channel."""

from typing import Any

import pytest


@pytest.fixture(autouse=True)
def none_left(flows: Any) -> Any:
    """Every test ends what it began."""
    yield
    flows.run("from jupyter_flows import runs\n%flows cancel --all\nfor r in runs.list(): r.wait()")


def ended(flows: Any, cell: str) -> str:
    """Run a cell to its end, and return the id of its run."""
    assert flows.run(cell)["error"] is None
    run = str(flows.latest())
    flows.until(run, "COMPLETED", "FAILED", "CANCELLED")
    return run


@pytest.mark.parametrize("on", ["thread", "process"])
def test_a_cell_is_replayed_with_the_names_of_now(flows: Any, on: str) -> None:
    """A replay has the cell's source and the notebook's names as they are now, and publishes."""
    flows.run("base = 1")
    run = ended(flows, f"%%flow adds --no-view --out run --on {on}\ntotal = base + 1\ntotal")
    flows.run("base = 10\nagain = run.replay()")
    assert flows.run("again.result(), total, run.result()")["result"] == "(11, 11, 2)"
    again = flows.control("show", run=flows.latest())["run"]
    assert (again["replay_of"], again["attempt"], again["name"]) == (run, 2, "adds")
    assert again["on"] == on


def test_an_awaiting_cell_is_replayed_on_the_kernels_loop(flows: Any) -> None:
    """A cell that ran on the kernel's own loop is replayed there."""
    flows.run("import asyncio")
    ended(flows, "%%flow awaits --on main --no-view --out run\nawait asyncio.sleep(0)\n'done'")
    assert flows.run("await run.replay()")["result"] == "'done'"


def test_a_failed_cell_is_replayed_after_what_it_needs_was_mended(flows: Any) -> None:
    """A cell that failed for a missing name completes when it is replayed with the name there."""
    run = ended(flows, "%%flow needs --no-view\nmissing_name + 1")
    assert flows.state(run) == "FAILED"
    flows.run("missing_name = 1")
    again = flows.control("replay", run=run)["run"]
    assert again["replay_of"] == run
    assert flows.until(again["id"], "COMPLETED")["result"] == "2"
    assert flows.state(run) == "FAILED"


def test_a_replay_waits_for_the_run_of_its_cell(flows: Any) -> None:
    """A replay is the cell run again: while another run of the cell is active it waits for it."""
    flows.run("import threading\ngo = threading.Event()\ngo.set()")
    cell = "%%flow turns --no-view\ngo.wait()"
    assert flows.run(cell, cell_id="turns")["error"] is None
    first = flows.latest()
    flows.until(first, "COMPLETED")
    flows.run("go.clear()")
    flows.run(cell, cell_id="turns")
    second = flows.latest()
    flows.until(second, "RUNNING")
    third = flows.control("replay", run=first)["run"]
    assert third["state_type"] == "SCHEDULED"
    assert third["waiting"]["run"] == second
    flows.run("go.set()")
    assert flows.until(third["id"], "COMPLETED")["replay_of"] == first


def test_a_flow_is_replayed_while_a_cell_computes(flows: Any) -> None:
    """The control channel replays a run at once, also while the kernel is busy."""
    flows.run(
        "from jupyter_flows import flow, runs\n@flow\ndef double(x): return 2 * x\n"
        "run = double.start(21).wait()"
    )
    run = flows.latest()
    busy = flows.begin("while len(runs.list(name='double')) < 2 or not runs.list()[0].ended: pass")
    again = flows.control("replay", run=run)["run"]
    assert flows.until(again["id"], "COMPLETED")["result"] == "42"
    assert flows.finish(busy)["error"] is None


def test_what_cannot_be_replayed_says_why(flows: Any, until: Any) -> None:
    """An active run, an unknown one, and one of which only the history is left are refused."""
    flows.run("%%flow active --no-view\nimport time\nwhile True: time.sleep(0.01)")
    active = flows.latest()
    flows.until(active, "RUNNING")
    over = ended(flows, "%%flow over --no-view\n1")
    before = len(flows.control("list")["runs"])
    refused = flows.ask({"protocol": 1, "action": "replay", "run": active})
    assert refused["ename"] == "NotActive"
    assert "only a run that has ended can be replayed" in refused["evalue"]
    refused = flows.ask({"protocol": 1, "action": "replay", "run": "x"})
    assert refused["ename"] == "UnknownRun"
    flows.run(
        f"from jupyter_flows.engine import registry\nforgotten = registry._ended.pop({over!r})"
    )
    until(lambda: flows.ask({"protocol": 1, "action": "show", "run": over})["status"] == "ok")
    refused = flows.ask({"protocol": 1, "action": "replay", "run": over})
    assert refused["ename"] == "NotReplayable"
    assert "not defined in a live kernel" in refused["evalue"]
    told = flows.run(f"%flows replay {over[:13]}")
    assert "not defined in a live kernel" in told["text"]
    assert f"{over!r} cannot be replayed" in told["text"]
    flows.run(f"registry._ended[{over!r}] = forgotten")
    assert len(flows.control("list")["runs"]) == before


def test_a_cancel_may_say_why(flows: Any) -> None:
    """The reason of a cancel by the control channel is kept and shown; a bad one is refused."""
    flows.run("%%flow endless --no-view\nimport time\nwhile True: time.sleep(0.01)")
    run = flows.latest()
    flows.until(run, "RUNNING")
    for bad in ("timeout", ""):
        refused = flows.ask({"protocol": 1, "action": "cancel", "run": run, "reason": bad})
        assert refused["status"] == "error"
    assert flows.state(run) == "RUNNING"
    flows.control("cancel", run=run, reason="the disk is full")
    record = flows.until(run, "CANCELLED")
    assert record["reason"] == "the disk is full"
    assert record["state_message"] == "Cancelled: the disk is full"


def test_a_replay_and_its_metadata_are_kept(new_kernel: Any, tmp_path: Any, until: Any) -> None:
    """The store knows what a run is about and which run it replays."""
    from jupyter_flows.history.store import Store

    kernel = new_kernel()
    kernel.run("%%flow kept --meta customer=42 --no-view --wait\n1")
    first = kernel.latest()
    again = kernel.control("replay", run=first)["run"]["id"]
    kernel.until(again, "COMPLETED")
    with Store(tmp_path / "flows.sqlite") as store:
        until(lambda: (kept := store.run(again)) and kept.ended)
        record = store.run(again)
        assert record is not None
        assert (record.replay_of, record.attempt) == (first, 2)
        assert record.metadata == {"customer": "42"}


def test_a_whole_log_is_written_out(flows: Any, tmp_path: Any) -> None:
    """An export has every line of a long run, those that are only in the store included."""
    ended(flows, "%%flow long --no-view --out run\nfor i in range(30_000): print(i)")
    path = tmp_path / "long.log"
    flows.run(f"run.logs.export({str(path)!r}, line_format='%(message)s')")
    assert path.read_text().split() == [str(i) for i in range(30_000)]
    found = "run.logs[0].number > 0, len(run.logs.filter(text='999', level='INFO'))"
    expected = sum("999" in str(i) for i in range(30_000))
    assert flows.run(found)["result"] == f"(True, {expected})"


def test_a_cells_loops_show_bars_unless_they_are_not_to(flows: Any) -> None:
    """A top-level loop over something sized shows a bar; `loop_progress` turns that off."""
    cell = "%%flow loops --no-view\nfor i in range(3):\n    for j in 'ab': pass"
    bars = flows.control("show", run=ended(flows, cell))["run"]["progress"]
    assert [(bar["label"], bar["done"], bar["parent"]) for bar in bars] == [
        ("i", 3, None),
        ("j", 2, 0),
    ]
    flows.run("%config FlowsConfig.loop_progress = False")
    assert flows.control("show", run=ended(flows, cell))["run"]["progress"] == []
    flows.run("%config FlowsConfig.loop_progress = True")

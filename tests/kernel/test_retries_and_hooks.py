"""Retries, hooks and cached results in a kernel: in its view, its store, and at its end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyter_flows.history.store import Store


def test_a_cell_shows_its_attempts(flows: Any) -> None:
    """A retried cell is AwaitingRetry, says until when, then Retrying, and counts its attempts."""
    flows.run(
        "%%flow flaky --retries 1 --retry-delay 1 --out run --no-view\n"
        "import threading\n"
        "from jupyter_flows import current_run\n"
        "if current_run().attempt == 1:\n"
        "    raise ValueError('not yet')\n"
        "goes_on = threading.Event()\n"
        "print('second attempt')\n"
        "goes_on.wait(20)"
    )
    run = flows.latest()
    waiting = flows.until(run, "SCHEDULED")
    assert (waiting["state_name"], waiting["attempt"]) == ("AwaitingRetry", 1)
    assert waiting["state_message"] == waiting["waiting"]["text"] == "ValueError: not yet"
    assert waiting["waiting"]["kind"] == "retry"
    assert waiting["waiting"]["until"] == pytest.approx(waiting["state_time"] + 1, abs=0.2)
    again = flows.until(run, "RUNNING")
    assert (again["state_name"], again["attempt"], again["waiting"]) == ("Retrying", 2, None)
    flows.run("import time\nwhile not run.logs: time.sleep(0.01)\nrun['goes_on'].set()\nrun.wait()")
    done = flows.until(run, "COMPLETED")
    assert done["attempt"] == 2
    told = "[transition.name for transition in run.transitions()]"
    assert flows.run(told)["result"] == repr(
        ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    )


def test_a_cancel_while_a_cell_waits_for_its_next_attempt(flows: Any) -> None:
    """Cancel, asked from outside, ends the wait for a retry: CANCELLED after one attempt."""
    flows.run("%%flow hopeless --retries 5 --retry-delay 3600 --no-view\n1 / 0")
    run = flows.latest()
    flows.until(run, "SCHEDULED")
    flows.control("cancel", run=run)
    assert flows.until(run, "CANCELLED")["attempt"] == 1


def test_what_hooks_say_is_in_the_store(flows: Any) -> None:
    """What hooks print after the end of a run is in its log, and kept."""
    flows.run(
        "from jupyter_flows import flow\n"
        "@flow\n"
        "def step(): return 1\n"
        "@step.on_completion\n"
        "def tell(flow, run, state): print('told', state.name)\n"
        "run = step.start()\n"
        "run.wait()"
    )
    run = flows.latest()
    assert flows.lines(run) == ["told Completed"]
    flows.run("from jupyter_flows.engine import ports\nports.history.flush(5)")
    with Store(flows.store) as store:
        assert [line.message for line in store.lines(run).lines] == ["told Completed"]
        record = store.run(run)
        assert record is not None
        assert record.log_count == 1


def test_results_are_kept_beside_the_store(flows: Any, tmp_path: Path) -> None:
    """A kernel keeps cached results beside its store; its processes and scripts take them."""
    source = (
        "from jupyter_flows import flow, task\n"
        "from jupyter_flows.cache_policies import INPUTS, TASK_SOURCE\n"
        "class Point:\n"
        "    def __init__(self, x): self.x = x\n"
        "@task(cache_policy=INPUTS + TASK_SOURCE)\n"
        "def step(point): return {'at': point.x}\n"
        "@flow\n"
        "def body(): return step(Point(3))\n"
        "run = body.start().wait()\n"
    )
    told = "run.result(), run.tasks[0].state.name"
    assert flows.run(source + told)["result"] == "({'at': 3}, 'Completed')"
    assert len(list(flows.store.with_suffix(".results").iterdir())) == 1
    in_process = source.replace("@flow", "@flow(on='process')")
    assert flows.run(in_process + told)["result"] == "({'at': 3}, 'Cached')"
    script = tmp_path / "script.py"
    script.write_text(f"{source}print(({told}))")
    done = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"JUPYTER_FLOWS_STORE": str(flows.store)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "({'at': 3}, 'Cached')\n"


def test_hooks_at_the_end_of_a_kernel(new_kernel: Callable[..., Any], tmp_path: Any) -> None:
    """A kernel that is shut down calls the hooks of its runs; one that hangs does not hold it."""
    kernel = new_kernel()
    kernel.run(
        "import threading, time\n"
        "from jupyter_flows import flow\n"
        "def tell(flow, run, state): print('told', state.name)\n"
        "def hang(flow, run, state): threading.Event().wait()\n"
        "@flow(on_cancellation=[tell, hang])\n"
        "def body():\n"
        "    begun.set()\n"
        "    time.sleep(3600)\n"
        "begun = threading.Event()\n"
        "body.start()\n"
        "begun.wait()"
    )
    run = kernel.latest()
    kernel.manager.shutdown_kernel()
    with Store(tmp_path / "flows.sqlite") as store:
        record = store.run(run)
        assert record is not None
        assert (record.state_name, record.reason) == ("Cancelled", "shutdown")
        assert [line.message for line in store.lines(run).lines] == ["told Cancelled"]

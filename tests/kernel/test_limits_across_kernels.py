"""Limits by name hold for all kernels of a user, and a dead kernel holds nothing."""

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.repeats import FULL

from .conftest import Kernel

StartKernel = Callable[..., Kernel]

HOLD = """
from jupyter_flows import concurrency, flow, set_concurrency_limit, runs
import os, time

@flow
def hold(name):
    with concurrency(name):
        print("in")
        while True: time.sleep(0.01)
"""

RACE = """
from jupyter_flows import concurrency, flow
import os, time

def enter(i, place):
    with concurrency("three"):
        mine = f"{place}/{os.getpid()}-{i}-{time.time_ns()}"
        open(mine, "x").close()
        inside = len(os.listdir(place))
        time.sleep(0.002)
        os.remove(mine)
    return inside

enters = {worker: flow(enter, name="enter", on=worker) for worker in ("thread", "process")}
"""


@pytest.fixture
def another(flows: Kernel) -> Iterator[StartKernel]:
    """Starts more kernels on the store of the module's."""
    started: list[Kernel] = []

    def start() -> Kernel:
        kernel = Kernel(flows.store)
        started.append(kernel)
        assert kernel.run("%load_ext jupyter_flows")["error"] is None
        return kernel

    yield start
    for kernel in started:
        kernel.close()


def _ran(kernel: Kernel, source: str) -> Any:
    outcome = kernel.run(source)
    assert outcome["error"] is None, outcome
    return outcome["result"]


def test_a_limit_holds_across_kernels(flows: Kernel, another: StartKernel, tmp_path: Path) -> None:
    """Of the blocks that two kernels want to enter, in threads and processes, no more are
    inside at any moment than the limit says."""
    two = (flows, another())
    place = tmp_path / "inside"
    place.mkdir()
    _ran(two[0], "from jupyter_flows import set_concurrency_limit")
    _ran(two[0], "set_concurrency_limit('three', 3)")
    for kernel in two:
        _ran(kernel, RACE)
    start = (
        f"started = [enters['process' if i % 8 == 0 else 'thread'].start(i, {str(place)!r}) "
        "for i in range(40)]"
    )
    begun = [kernel.begin(start) for kernel in two]
    for kernel, request in zip(two, begun, strict=True):
        assert kernel.finish(request)["error"] is None
    inside = [
        int(each)
        for kernel in two
        for each in _ran(kernel, "' '.join(str(run.result(60)) for run in started)")
        .strip("'")
        .split()
    ]
    assert len(inside) == 80
    assert 1 <= max(inside) <= 3


def test_the_slot_of_a_killed_kernel_is_anothers(flows: Kernel, another: StartKernel) -> None:
    """The slot of a kernel that is killed while it holds it is another's at once."""
    other = flows
    _ran(other, HOLD + "set_concurrency_limit('one', 1)")
    times = []
    for _ in range(10 if FULL else 2):
        killed = another()
        _ran(killed, HOLD + "run = hold.start('one')\nwhile not run.logs: time.sleep(0.01)")
        _ran(other, "waits = hold.start('one')\nwhile not waits.waiting: time.sleep(0.01)")
        text = "Waits for a slot of 'one' (at most 1 at once)"
        assert other.control("show", run=other.latest())["run"]["waiting"]["text"] == text
        before = time.time()
        os.kill(killed.pid, signal.SIGKILL)
        _ran(other, "while not waits.logs: time.sleep(0.001)")
        times.append(float(_ran(other, "waits.logs[0].time")) - before)
        _ran(other, "waits.cancel(); waits.wait(20)")
    print(
        f"from SIGKILL to the other's block: median {statistics.median(times) * 1e3:.0f} ms, "
        f"longest {max(times) * 1e3:.0f} ms of {len(times)}"
    )
    assert max(times) < 5


def test_a_limit_outlives_its_kernel_and_its_slots_do_not(
    flows: Kernel, another: StartKernel
) -> None:
    """A limit is kept; the slots of a kernel that ends are given back as it ends."""
    first = another()
    _ran(first, HOLD + "set_concurrency_limit('kept', 1)\nrun = hold.start('kept')")
    _ran(first, "while not run.logs: time.sleep(0.01)")
    first.client.shutdown()
    _ran(flows, HOLD + "from jupyter_flows import concurrency_limits")
    assert _ran(flows, "concurrency_limits()['kept']") == "1"
    _ran(flows, "with concurrency('kept', timeout_seconds=20): pass")


def test_without_a_store_no_slot_is_given(new_kernel: StartKernel, tmp_path: Path) -> None:
    """When the store cannot be used a block is not entered, and the error says why."""
    kernel = new_kernel()
    (tmp_path / "flows.sqlite").unlink(missing_ok=True)
    (tmp_path / "flows.sqlite").mkdir()
    refused = kernel.run("from jupyter_flows import concurrency\nwith concurrency('one'): print(1)")
    assert refused["error"]["ename"] == "StoreUnavailable"
    assert "so none is given" in refused["error"]["evalue"]
    assert refused["text"] == ""


def test_the_kernels_limit_is_a_setting(flows: Kernel) -> None:
    """`FlowsConfig.max_runs` limits the runs of cells; one that waited sees the names that
    the run before it has published."""
    kernel = flows
    _ran(kernel, "%config FlowsConfig.max_runs = 1\nimport threading\ngo = threading.Event()")
    _ran(kernel, "%%flow --no-view\nimport time\nwhile not go.is_set(): time.sleep(0.01)\nx = 1")
    _ran(kernel, "%%flow second --no-view --out second\ny = x + 1")
    record = kernel.until(kernel.latest(), "SCHEDULED")
    assert record["waiting"]["text"] == "Waits for a slot of this kernel (at most 1 at once)"
    _ran(kernel, "go.set(); second.wait(20)")
    assert _ran(kernel, "second.state, y") == "(Completed(), 2)"
    _ran(kernel, "%config FlowsConfig.max_runs = None")


def test_a_reloaded_extension_keeps_the_limits(flows: Kernel) -> None:
    """After `%unload_ext` limits are the process's own, and after `%load_ext` the store's."""
    kernel = flows
    _ran(kernel, "from jupyter_flows import *\nset_concurrency_limit('stays', 1)")
    _ran(kernel, "%unload_ext jupyter_flows")
    assert _ran(kernel, "concurrency_limits()") == "{}"
    _ran(kernel, "%load_ext jupyter_flows")
    assert _ran(kernel, "concurrency_limits()['stays']") == "1"

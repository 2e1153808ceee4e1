import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jupyter_flows.history import Store
from jupyter_flows.history.processes import is_gone
from jupyter_flows.records import RunRecord, Waiting

from .fakes import eventually, kernel_record, line, move, run_record, task_record

KERNEL = """
import itertools, sys, time
from pathlib import Path

sys.path.insert(0, str(Path(sys.argv[2]).parent))
from fakes import Recorded, kernel_record, move, run_record, task_record
from jupyter_flows.history import Writer

writer = Writer(sys.argv[1], kernel_record(), print)
writer.run_changed(Recorded(run_record()))
writer.task_changed("run-1", Recorded(task_record()))
writer.moved("run-1", move("PENDING"))
writer.moved("run-1", move("RUNNING"))
for number in itertools.count():
    now = time.time()
    writer.line(("run-1", (number, now, 20, "stdout", f"line {number}")))
    if now > writer.due:
        writer.keep_up(now)
    if sys.argv[3] == "slowly":
        time.sleep(0.002)
    if number % 100 == 0:
        print(number, now, flush=True)
"""


def _is_kept(path: Path) -> bool:
    """Whether the store has the run: on a loaded machine it takes a while to begin."""
    with Store(path) as store:
        return store.run("run-1") is not None


@pytest.mark.parametrize("pace", ["slowly", "fast"])
def test_killed_kernel(path: Path, pace: str) -> None:
    """What a kernel printed 250 ms before its SIGKILL is kept, and its run is CRASHED."""
    with subprocess.Popen(
        [sys.executable, "-c", KERNEL, str(path), __file__, pace],
        stdout=subprocess.PIPE,
        text=True,
    ) as kernel:
        assert kernel.stdout is not None
        begun = time.monotonic()
        for text in kernel.stdout:
            number, printed = text.split()
            if time.monotonic() - begun > 1.0 and int(number) >= 200 and _is_kept(path):
                break
        with Store(path) as store:
            assert store.mark_crashed() == []  # it lives
            kernel.kill()
            killed = time.time()
        seen = [(int(number), float(printed))]
        for text in kernel.stdout:
            if text.endswith("\n"):  # the kill may have cut the last one
                number, printed = text.split()
                seen.append((int(number), float(printed)))
    with Store(path) as store:
        assert store.mark_crashed() == ["run-1"]
        assert store.mark_crashed() == []
        kept = store.lines("run-1")
        run = store.run("run-1")
        assert run is not None
        assert [said.number for said in kept.lines] == list(range(kept.count))
        old = [number for number, printed in seen if printed < killed - 0.25]
        assert not old or kept.count > max(old)
        assert kept.lines[-1].time >= killed - 0.25 - 0.1  # 0.1 s: it may just have waited
        assert (run.state_type, run.state_name) == ("CRASHED", "Crashed")
        assert str(kernel.pid) in run.state_message
        assert run.ended == run.state_time
        assert killed - 6 < run.ended <= killed
        assert run.log_count == kept.count
        assert [moved.type for moved in store.transitions("run-1")] == [
            "PENDING",
            "RUNNING",
            "CRASHED",
        ]
        (task,) = store.tasks("run-1")
        assert task.state_type == "CRASHED"
        assert [moved.type for moved in task.transitions] == ["PENDING", "RUNNING", "CRASHED"]
        assert store.is_alive("kernel-1") is False


def test_only_the_gone(store: Store) -> None:
    """Only active runs of kernels that are gone are CRASHED, each keeping what it was."""
    store.save_kernel(kernel_record("living"))
    store.save_kernel(kernel_record("dead", pid=dead_pid()))
    paused = {
        "state_type": "PAUSED",
        "paused_since": 1_000.0,
        "paused_seconds": 5.0,
        "asked": "cancel",
        "waiting": Waiting(kind="approval", text="?"),
    }
    done = run_record("done", kernel="dead", state_type="FAILED", ended=2_000.0)
    living = run_record("active", kernel="living")
    store.save(runs=[living, done, run_record("lost", kernel="dead", **paused)])
    store.save(
        tasks=[("lost", task_record(0)), ("lost", task_record(1, state_type="COMPLETED"))],
        moves=[("done", 0, move("FAILED"))],
    )
    assert store.mark_crashed() == ["lost"]
    assert store.run("active") == living
    assert store.run("done") == done
    assert [moved.type for moved in store.transitions("done")] == ["FAILED"]
    assert [moved.type for moved in store.transitions("lost")] == ["CRASHED"]
    assert [task.state_type for task in store.tasks("lost")] == ["CRASHED", "COMPLETED"]
    lost = store.run("lost")
    assert isinstance(lost, RunRecord)
    assert (lost.asked, lost.waiting, lost.paused_since) == (None, None, None)
    assert lost.ended is not None
    assert lost.paused_seconds == pytest.approx(5.0 + lost.ended - 1_000.0)


def test_ended_when_last_heard_of(store: Store) -> None:
    """A crashed run ended at its kernel's last heartbeat or its last line."""
    store.save_kernel(kernel_record(pid=dead_pid()))
    later = time.time() + 50
    store.save(runs=[run_record()], lines=[("run-1", line(0, at=later))])
    store.mark_crashed()
    run = store.run("run-1")
    assert run is not None
    assert run.ended == later


def test_reused_pid() -> None:
    """A process with the kernel's pid but another start is not the kernel."""
    now = time.time()
    me = kernel_record()
    earlier = kernel_record(process_started=me.process_started - 100)
    assert not is_gone(me, now - 1_000, now)
    assert is_gone(earlier, now - 20, now)
    assert not is_gone(earlier, now - 1, now)  # the clock was set: it still gives signs


def test_another_host() -> None:
    """A kernel on another host is gone when it was silent for a minute."""
    now = time.time()
    there = kernel_record(host="elsewhere", pid=1)
    assert not is_gone(there, now - 59, now)
    assert is_gone(there, now - 61, now)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no zombies")
def test_zombie() -> None:
    """A kernel that ended and whose parent has not noticed is gone."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    process = psutil.Process(child.pid)
    record = kernel_record(pid=child.pid, process_started=process.create_time())
    assert not is_gone(record, time.time(), time.time())
    os.kill(child.pid, signal.SIGKILL)
    eventually(lambda: process.status() == psutil.STATUS_ZOMBIE, "the child's end")
    assert is_gone(record, time.time(), time.time())
    child.wait()


def test_unknown_kernel(store: Store) -> None:
    """A kernel that nobody has heard of is not alive."""
    assert store.kernel("nobody") is None
    assert not store.is_alive("nobody")
    store.save_kernel(kernel_record(connection_file="/run/kernel.json"))
    assert store.kernel("kernel-1") == kernel_record(connection_file="/run/kernel.json")
    assert store.is_alive("kernel-1")


def dead_pid() -> int:
    """The pid of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid

"""Runs in processes are stopped, whatever they do, with all that they have started."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from jupyter_flows import (
    CancelledRun,
    FlowRun,
    checkpoint,
    current_run,
    shield,
    task,
)
from jupyter_flows.engine.processes import link
from jupyter_flows.engine.processes.attempts import Attempt
from jupyter_flows.states import StateType
from tests.engine.in_processes import ended, lines, sleeping, start

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are none on Windows")


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def looping():
    try:
        print("begun")
        while True:
            pass
    finally:
        print("cleaned up")


async def awaiting():
    try:
        print("begun")
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.01)
        print("cleaned up")


def checking():
    try:
        print("begun")
        while True:
            checkpoint()
    finally:
        print("cleaned up")


@pytest.mark.parametrize("body", [looping, sleeping, awaiting, checking])
def test_a_cancel_lets_cleanup_run(body, until):
    """A cancel is raised in the process where it costs no cleanup: `finally` runs."""
    run = start(body)
    until(lambda: "begun" in lines(run))
    run.cancel(grace=0.1)
    run.wait(30)
    assert run.state.is_cancelled()
    assert lines(run, "stdout") == ["begun", "cleaned up"]
    with pytest.raises(CancelledRun):
        run.result()


def test_asks_that_come_at_once():
    """A cancel, a kill or a pause right after the start is carried out like a later one."""
    for ask in (FlowRun.cancel, FlowRun.kill, FlowRun.pause) * 5:
        run = start(sleeping)
        ask(run)
        if ask is FlowRun.pause:
            while not run.state.is_paused():
                time.sleep(0.001)
            run.cancel()
        run.wait(30)
        assert run.state.is_cancelled()


def test_a_cancel_that_comes_too_late():
    """A cancel that is never delivered leaves the outcome of the code."""

    def body():
        with shield():
            print("begun")
            time.sleep(0.3)
            return 5

    run = start(body)
    while "begun" not in lines(run):
        time.sleep(0.01)
    run.cancel()
    assert run.result(30) == 5


def test_a_run_that_cancels_itself():
    """`current_run().cancel()` in a process is a cancel of the run."""

    def body():
        current_run().cancel()
        time.sleep(3600)

    run = ended(body)
    assert run.state.is_cancelled()
    assert run.cancel_reason == "user"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_from_outside_is_a_cancel(until, number):
    """A process that somebody sends SIGTERM or SIGINT is cancelled, and cleans up."""

    def body():
        try:
            print("begun", os.getpid())
            time.sleep(3600)
        finally:
            print("cleaned up")

    run = start(body)
    until(lambda: lines(run))
    os.kill(int(lines(run)[0].split()[1]), number)
    run.wait(30)
    assert run.state.is_cancelled()
    assert "cleaned up" in lines(run)
    assert f"Its process was sent {number.name}." in lines(run)


def tree(path):
    """Grow three generations: one ignores SIGTERM, one has a session of its own and no parent."""
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        open(sys.argv[1] + '/third', 'w').write(str(os.getpid()))\n"
        "        time.sleep(3600)\n"
        "    os._exit(0)\n"
        "open(sys.argv[1] + '/second', 'w').write(str(os.getpid()))\n"
        "time.sleep(3600)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, path])


def pids_in(path):
    """Return what `tree` has written."""
    files = [path / name for name in ("second", "third")]
    return [int(file.read_text()) for file in files if file.exists() and file.read_text()]


def test_nothing_survives_a_kill(tmp_path, until):
    """Kill ends the process and all that it started, when nothing else would."""

    def body(path, grow):
        grow(path)
        os.write(1, b"grown\n")
        sum(range(10**12))

    run = start(body, str(tmp_path), tree)
    until(lambda: len(pids_in(tmp_path)) == 2 and "grown" in lines(run))
    assert all(map(alive, pids_in(tmp_path)))
    before = time.monotonic()
    run.kill()
    run.wait(30)
    assert time.monotonic() - before < 1
    assert run.state.is_cancelled()
    assert not any(map(alive, pids_in(tmp_path)))


@pytest.mark.parametrize("how", ["return", "os._exit(1)", "1 / 0"])
def test_nothing_survives_an_end(tmp_path, until, how):
    """However a run ends, what it started is gone by then."""

    def body(path, grow, how):
        import os
        import time

        grow(path)
        while len(os.listdir(path)) < 2:
            time.sleep(0.01)
        if how != "return":
            exec(how, {"os": os})

    run = ended(body, str(tmp_path), tree, how)
    assert run.state.type in (StateType.COMPLETED, StateType.CRASHED, StateType.FAILED)
    until(lambda: len(pids_in(tmp_path)) == 2)
    assert not any(map(alive, pids_in(tmp_path)))


@pytest.mark.parametrize("stuck", [False, True])
def test_a_timeout(stuck):
    """A run that takes too long is stopped, also when C code holds it up; it is TimedOut."""

    def body(stuck):
        if stuck:
            sum(range(10**12))
        time.sleep(3600)

    run = ended(body, stuck, timeout_seconds=0.3, cancel_grace_seconds=0.1, kill_grace_seconds=0.2)
    assert run.state.name == "TimedOut"


def test_more_time():
    """`refresh_timeout` in a process gives its run more time, by the kernel's clock."""

    def body():
        for _ in range(4):
            time.sleep(0.2)
            current_run().refresh_timeout()

    assert ended(body, timeout_seconds=0.5).state.is_completed()


def test_a_timeout_of_a_task():
    """A task in a process has its own timeout."""

    def body():
        @task(timeout_seconds=0.1)
        def slow():
            time.sleep(3600)

        return str(slow(return_state=True).name)

    assert ended(body).result() == "TimedOut"


def test_the_end_of_the_supervisor(until):
    """When the supervisor is killed its runs have CRASHED, and the next one has a new one."""
    run = start(sleeping)
    until(lambda: "begun" in lines(run))
    old = link.supervisor().pid
    os.kill(old, signal.SIGKILL)
    run.wait(30)
    assert run.state.is_crashed()

    def after():
        return 1

    assert ended(after).result() == 1
    assert link.supervisor().pid != old


def test_a_cancel_that_comes_with_the_order(monkeypatch):
    """What is asked of a run as its process is told what to do takes hold there."""

    def order_and_cancel(attempt):
        order = make_order(attempt)
        attempt._run.cancel(grace=0)
        return order

    make_order = Attempt._order
    ended(lambda: None)  # the supervisor is there
    monkeypatch.setattr(Attempt, "_order", order_and_cancel)
    for _ in range(5):
        assert ended(sleeping).state.is_cancelled()

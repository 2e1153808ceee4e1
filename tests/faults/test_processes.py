"""Processes surely die: with their run, and with their kernel; paused, none of them moves."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jupyter_flows import flow
from tests.faults.conftest import milliseconds

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux alone"),
]
ROOT = Path(__file__).parents[2]
GRACE = 0.3  # seconds from a cancel to the kill

TREE = """
import os, signal, sys, time
mark = sys.argv[1]
if os.fork() == 0:                         # leaves its session, and its parent
    os.setsid()
    if os.fork() == 0:
        time.sleep(3600)
    os._exit(0)
if os.fork() == 0:                         # holds the interpreter's lock in C
    sum(range(10**12))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:                                # ignores SIGTERM, and goes on having children
    if os.fork() == 0:
        time.sleep(0.2)
        os._exit(0)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass
    time.sleep(0.05)
"""


def grower():
    """Return the body of a run, which travels by value."""

    def grow(mark, stuck):
        """Three generations, and itself stuck in C or in Python."""
        import os
        import subprocess
        import sys

        os.write(1, f"{os.getpid()}\n".encode())
        subprocess.Popen([sys.executable, "-c", TREE, mark])
        if stuck:
            sum(range(10**12))
        while True:
            pass

    return grow


def marked(mark):
    """Return the processes alive that have `mark` among their arguments."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        zombie = process.info["status"] == psutil.STATUS_ZOMBIE
        if mark in (process.info["cmdline"] or ()) and not zombie:
            found.append(process)
    return found


def test_cancels_at_random(times, figure):
    """However early or late a tree is cancelled, nothing of it survives, and in time."""
    flow(lambda: 1, on="process").start().result(60)  # the supervisor is warm
    took, grown = [], 0
    for i in range(times(10, 500)):
        mark = f"jupyter-flows-tree-{os.getpid()}-{i}"
        stuck = bool(i % 2)
        body = flow(grower(), on="process", kill_grace_seconds=GRACE, cancel_grace_seconds=0.1)
        run = body.start(mark, stuck)
        time.sleep(random.uniform(0, 0.4))
        grown += len(marked(mark)) >= 3
        before = time.monotonic()
        run.cancel()
        run.wait(30)
        took.append(time.monotonic() - before)
        assert run.state.is_cancelled(), run.state
        assert marked(mark) == []
        assert took[-1] < GRACE + 1
    assert grown, "no tree had grown when it was cancelled"
    figure(
        f"processes: {len(took)} trees cancelled at random, {grown} of them full-grown: "
        f"0 survivors, from the cancel to the end {milliseconds(took)} (grace {GRACE * 1e3:.0f} ms)"
    )


KERNEL = """
import sys, time
from jupyter_flows import flow
sys.path.insert(0, sys.argv[2])
from tests.faults.test_processes import grower

runs = [flow(grower(), on="process").start(sys.argv[1], stuck) for stuck in (False, True)]
while not all(run.state.is_running() for run in runs):
    time.sleep(0.001)
print("running", flush=True)
time.sleep(3600)
"""


def test_kernels_killed_in_mid_run(times, figure):
    """A kernel that is killed leaves no process, whatever its runs have started."""
    took, most = [], 0
    for i in range(times(3, 100)):
        mark = f"jupyter-flows-kernel-{os.getpid()}-{i}"
        arguments = [sys.executable, "-c", KERNEL, mark, str(ROOT)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=ROOT) as kernel:
            assert kernel.stdout.readline() == b"running\n"
            time.sleep(random.uniform(0, 0.8))
            below = psutil.Process(kernel.pid).children(recursive=True)
            most = max(most, len(below))
            kernel.kill()
        before = time.monotonic()
        while marked(mark) or any(map(is_alive, below)):
            assert time.monotonic() - before < 10, [each.cmdline() for each in marked(mark)]
            time.sleep(0.002)
        took.append(time.monotonic() - before)
    figure(
        f"processes: {len(took)} kernels killed in mid-run, with up to {most} processes: "
        f"0 orphans, all gone after {milliseconds(took)}"
    )


def is_alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def counter():
    """Return the body of a run, which travels by value."""

    def count(folder):
        """It and a child of its own session count, each in a file."""
        import os

        name = "own"
        if os.fork() == 0:
            os.setsid()
            name = "child"
        with open(f"{folder}/{name}", "r+b", buffering=0) as file:
            steps = 0
            while True:
                steps += 1
                file.seek(0)
                file.write(steps.to_bytes(8, "big"))

    return count


def test_pauses_at_random(times, figure, tmp_path, until):
    """PAUSED at any time, neither the process nor its children move; resumed, all go on."""
    files = [tmp_path / name for name in ("own", "child")]
    for file in files:
        file.write_bytes(bytes(8))
    run = flow(counter(), on="process", timeout_seconds=3600).start(str(tmp_path))
    until(lambda: all(any(file.read_bytes()) for file in files))
    took = []
    for _ in range(times(20, 1000)):
        time.sleep(random.uniform(0, 0.01))
        before = time.monotonic()
        run.pause()
        until(lambda: run.state.is_paused())
        took.append(time.monotonic() - before)
        held = [file.read_bytes() for file in files]
        time.sleep(0.01)
        assert [file.read_bytes() for file in files] == held, "it moves while PAUSED"
        run.resume()
        for file, was in zip(files, held, strict=True):
            while file.read_bytes() == was:
                time.sleep(0.001)
    run.pause()
    until(lambda: run.state.is_paused())
    run.cancel(grace=0)
    run.kill()
    run.wait(30)
    assert run.state.is_cancelled()
    figure(
        f"processes: {len(took)} pauses at random of two processes: none moved, "
        f"PAUSED after {milliseconds(took)}"
    )


def test_processes_that_are_killed_from_outside(times, figure, until):
    """A process that somebody kills at a random time makes its run CRASHED, never anything else."""
    names = []
    for i in range(times(10, 200)):
        mark = f"jupyter-flows-crash-{os.getpid()}-{i}"
        run = flow(grower(), on="process").start(mark, True)
        until(lambda run=run: run.logs)
        time.sleep(random.uniform(0, 0.3))
        number = random.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
        os.kill(int(run.logs[0].message), number)
        run.wait(30)
        assert run.state.is_crashed(), run.state
        assert signal.Signals(number).name in run.state.message
        assert marked(mark) == []
        names.append(number)
    figure(
        f"processes: {len(names)} killed from outside: each CRASHED with its signal, 0 survivors"
    )

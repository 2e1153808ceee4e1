"""However runs end, nothing of them is left."""

import asyncio
import gc
import os
import threading
import time

import psutil
import pytest

from jupyter_flows import flow, shield, task
from jupyter_flows.engine import interrupting, monitoring, registry

MEGABYTES = 20  # by which memory may grow

pytestmark = [
    pytest.mark.timeout(900),
    # what other tests have given up may end meanwhile; what is counted here are descriptors
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]


@task
def step(n):
    return n + 1


@flow
def completes():
    return step(1) + step.submit(2).result()


@flow
def fails():
    print("about to fail")
    raise ValueError("on purpose")


@flow
def computes(begun):
    begun.set()
    while True:
        pass


@flow
def sleeps(begun):
    begun.set()
    time.sleep(3600)


@flow(timeout_seconds=0.01, cancel_grace_seconds=0)
def times_out():
    while True:
        pass


@flow
def retries_in_vain():
    with shield():
        raise ValueError


@flow
async def awaits(begun):
    begun.set()
    await asyncio.sleep(3600)


@flow
async def blocks_its_loop(begun):
    begun.set()
    while True:
        pass


@flow
async def gathers():
    return await asyncio.gather(*(asyncio.sleep(0, n) for n in range(3)))


def cancelled(made):
    begun = threading.Event()
    run = made.start(begun)
    begun.wait(20)
    run.cancel(grace=0)
    return run


def killed(made):
    begun = threading.Event()
    run = made.start(begun)
    begun.wait(20)
    run.kill()
    return run


def given_up(made):
    run = killed(made)
    if run.state_is_final():
        return run
    try:
        run.abandon()
    except Exception:
        assert run.state_is_final()
    return run


WAYS = [
    completes.start,
    fails.start,
    times_out.start,
    retries_in_vain.with_options(retries=1).start,
    gathers.start,
    lambda: cancelled(computes),
    lambda: cancelled(sleeps),
    lambda: cancelled(awaits),
    lambda: cancelled(blocks_its_loop),
    lambda: killed(computes),
    lambda: killed(sleeps),
    lambda: given_up(computes),
]


def left():
    """Count what runs could leave behind."""
    gc.collect()
    this = psutil.Process()
    return {
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
        "children": len(this.children(recursive=True)),
        "watched code": monitoring.watched(),
        "attended runs": len(interrupting._attended),
        "active runs": len(registry.active()),
    }


def no_more_than(before):
    now = left()
    return all(now[what] <= before[what] for what in before)


def run_all(count):
    for n in range(count):
        run = WAYS[n % len(WAYS)]()
        run.wait(30)
        assert run.state_is_final(), (n % len(WAYS), run.state, run.where())


def test_nothing_is_left_of_runs_that_ended_in_every_way(times, figure, until):
    """Threads, descriptors, children and watched code are as before; memory has not grown."""
    run_all(600)  # until the registry holds as many as it keeps
    until(lambda: all(run.abandoned for run in list(interrupting._attended)))
    before, memory = left(), psutil.Process().memory_info().rss
    repeats = times(600, 5_000)
    run_all(repeats)
    until(lambda: no_more_than(before), f"{left()}, before: {before}")
    grown = (psutil.Process().memory_info().rss - memory) / 2**20
    figure(f"leaks after {repeats} runs: none; memory grew by {grown:.1f} MB; {before}")
    assert grown < MEGABYTES

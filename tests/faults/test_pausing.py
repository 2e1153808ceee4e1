"""Paused at random, nothing moves; resumed, nothing is lost."""

import asyncio
import random
import threading
import time

import pytest

from jupyter_flows import flow, task
from jupyter_flows.engine import monitoring
from tests.faults.conftest import milliseconds

pytestmark = pytest.mark.timeout(900)
needs_watching = pytest.mark.skipif(
    not monitoring.available(), reason="code without checkpoints can be held on Python 3.12"
)


class Progress:
    """What the code of a run counts, step by step and without a gap."""

    def __init__(self):
        self.counts = {}
        self.over = False

    def work(self, name):
        """Count, without a checkpoint."""
        count = 0
        while not self.over:
            count += 1
            assert self.counts.get(name, 0) == count - 1, "a step is lost or doubled"
            self.counts[name] = count

    async def work_async(self, name):
        count = 0
        while not self.over:
            count += 1
            assert self.counts.get(name, 0) == count - 1, "a step is lost or doubled"
            self.counts[name] = count
            await asyncio.sleep(0)

    def now(self):
        return dict(self.counts)


def of_threads(progress):
    @task
    def step(name):
        progress.work(name)

    @flow(timeout_seconds=3600)
    def works():
        futures = [step.submit("task 1"), step.submit("task 2")]
        progress.work("body")
        for future in futures:
            future.result()
        return "done"

    return works


def of_a_loop(progress):
    @task
    async def step(name):
        await progress.work_async(name)

    @flow(timeout_seconds=3600)
    async def works():
        await asyncio.gather(step("task 1"), step("task 2"), progress.work_async("body"))
        return "done"

    return works


@pytest.mark.parametrize("make", [pytest.param(of_threads, marks=needs_watching), of_a_loop])
def test_nothing_moves_while_paused(make, times, figure, until):
    """Paused at random again and again: nothing moves while PAUSED, all goes on afterwards."""
    seed = random.randrange(2**32)
    made_random = random.Random(seed)
    progress = Progress()
    run = make(progress).start()
    until(lambda: len(progress.counts) == 3)
    took = []
    repeats = times(40, 1_000)
    for _ in range(repeats):
        time.sleep(made_random.uniform(0, 0.003))
        asked = time.perf_counter()
        run.pause()
        until(lambda: run.state.is_paused(), f"paused (seed {seed})")
        took.append(time.perf_counter() - asked)
        before = progress.now()
        clock = run.clock()
        time.sleep(0.002)
        assert progress.now() == before, seed
        assert run.clock() == clock, "the clock of its timeout stands still"
        run.resume()
        until(lambda before=before: all(progress.counts[n] > before[n] for n in before))
    progress.over = True
    assert run.result(30) == "done"
    figure(f"pauses {make.__name__:11} {repeats:5}: 0 moved, 0 lost, {milliseconds(took)}")


@pytest.mark.parametrize("make", [pytest.param(of_threads, marks=needs_watching), of_a_loop])
def test_a_cancel_while_paused(make, times, until):
    """A paused run that is cancelled ends CANCELLED."""
    for _ in range(times(5, 100)):
        progress = Progress()
        run = make(progress).start()
        until(lambda progress=progress: len(progress.counts) == 3)
        run.pause()
        until(lambda run=run: run.state.is_paused())
        run.cancel(grace=0)
        assert run.wait(30).state.is_cancelled()


@needs_watching
def test_a_timeout_does_not_run_while_paused(until):
    """A run that is paused for longer than its timeout goes on; then it times out."""
    begun = threading.Event()

    @flow(timeout_seconds=0.3, cancel_grace_seconds=0)
    def works():
        begun.set()
        while True:
            pass

    run = works.start()
    begun.wait(20)
    run.pause()
    until(lambda: run.state.is_paused())
    time.sleep(0.5)
    assert run.state.is_paused()
    run.resume()
    assert run.wait(30).state.name == "TimedOut"

"""What is raised in another thread is raised where it was looked for, and nowhere else."""

import random
import sys
import threading

import pytest

from jupyter_flows import CancelledRun, Concurrency, checkpoint, flow, task
from jupyter_flows.engine.injecting import inject, place_to_hit
from tests.repeats import FULL

KILLS = 1_000 if FULL else 60


@pytest.fixture
def switching():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_code_that_has_gone_on_into_the_engine_is_not_hit(until):
    """What is to be hit in code of the user's is not hit once this has called the engine."""
    looked = False
    goes_on, has_gone_on = threading.Event(), threading.Event()

    @task
    def in_the_engine():
        has_gone_on.set()
        while not goes_on.is_set():
            checkpoint()

    @flow
    def works():
        while not looked:
            pass
        in_the_engine()
        return "all done"

    run = works.start()
    until(lambda: run.thread is not None)
    place = None
    while place is None:
        place = place_to_hit(run)
    looked = True
    assert has_gone_on.wait(20)
    assert not inject(run, place)
    goes_on.set()
    assert run.result() == "all done"


def test_code_that_is_where_it_was_looked_for_is_hit(until):
    """A loop of the user's is hit in the frame that was found."""
    goes_on = True

    @flow
    def loops():
        while goes_on:
            pass

    run = loops.start()
    until(lambda: run.thread is not None)
    place = None
    while place is None:
        place = place_to_hit(run)
    assert inject(run, place)
    run.wait(20)
    goes_on = False
    assert run.state.is_final()


def test_a_wait_of_the_users_own_may_be_hit(until):
    """A thread is hit in the standard library too, where code of the user's has called that."""
    goes_on = threading.Event()

    @flow
    def waits():
        goes_on.wait()

    run = waits.start()
    until(lambda: place_to_hit(run) is not None, "the user's own wait may be hit")
    goes_on.set()
    run.result()


def test_runs_killed_at_random_lose_no_slot(switching, until):
    """However runs are killed that wait for slots, hold them and give them back, none is lost."""
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    together = threading.Barrier(2)
    limit = Concurrency(2)

    @task(concurrency=limit)
    def unstoppable():
        try:
            pass
        finally:
            for _ in range(3_000):
                pass

    @task(name="unstoppable", concurrency=limit)
    def meets():
        together.wait(20)

    @flow(concurrency=limit)
    def works():
        try:
            pass
        finally:
            while True:
                unstoppable()

    @flow(name="works", concurrency=limit)
    def two_at_once():
        meets()

    active = []
    for _ in range(KILLS):
        active.append(works.start())
        if len(active) > 3:
            run = active.pop(chance.randrange(4))
            if run.state.name != "AwaitingConcurrencySlot":
                until(lambda run=run: run.tasks or run.state.is_final())
            run.kill()
    for run in active:
        run.kill()
    for run in active:
        with pytest.raises(CancelledRun):
            run.result()
    for run in [two_at_once.start(), two_at_once.start()]:
        run.result()

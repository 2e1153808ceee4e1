"""Cancels and kills that race with the end of what they are to stop."""

import random
import sys
import threading
import time
from collections import Counter

import pytest

from jupyter_flows import flow, task
from jupyter_flows.engine import ladder
from jupyter_flows.states import StateType

pytestmark = pytest.mark.timeout(900)


LONGEST = 0.002  # seconds that a body computes, or that an ask is late


def compute(seconds):
    """Compute, without a checkpoint."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return "done"


def wait_a_while(made_random):
    threading.Event().wait(made_random.uniform(0, LONGEST))


@pytest.fixture(autouse=True)
def threads_take_turns_often():
    """A thread that computes gives way sooner than after the usual 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def ask_to_cancel(life, made_random):
    life.ask_cancel("user", made_random.choice((0, 0, 1)))


def ask_to_kill(life, made_random):
    life.ask_cancel("user")
    ladder.kill(life)


ASKS = pytest.mark.parametrize("ask", [ask_to_cancel, ask_to_kill])


def check(life):
    """Check that a life ended once, and as it was told."""
    ends = [state for state in life.states if state.is_final()]
    assert len(ends) == 1, life.states
    assert life.state.type in (StateType.COMPLETED, StateType.CANCELLED), life.states
    if life.started is not None:  # else it was cancelled before it began
        assert life.state.is_cancelled() == life.delivered, (life.states, life.delivered)


@ASKS
def test_a_cancel_that_races_with_the_end_of_a_run(ask, times, figure):
    """A run ends once: CANCELLED exactly when the cancel was delivered; the next is never hit."""
    seed = random.randrange(2**32)
    made_random = random.Random(seed)
    ended = Counter()

    @flow
    def computes(seconds):
        return compute(seconds)

    for _ in range(times(300, 10_000)):
        run = computes.start(made_random.uniform(0, LONGEST))
        wait_a_while(made_random)
        ask(run, made_random)
        following = computes.start(0.0)
        run.wait(30)
        following.wait(30)
        check(run)
        assert following.state.is_completed(), (seed, following.state)
        ended[run.state.type.value] += 1
    figure(f"races of {ask.__name__} with the end of a run: {dict(ended)}, 0 wrong")


@ASKS
def test_a_cancel_that_races_with_the_end_of_a_task(ask, times, figure):
    """A task ends once, and neither the next on its thread nor its flow is ever hit."""
    seed = random.randrange(2**32)
    made_random = random.Random(seed)
    ended = Counter()
    threads = set()

    @task
    def computes(seconds):
        threads.add(threading.get_ident())
        return compute(seconds)

    @flow
    def asks(repeats):
        for _ in range(repeats):
            future = computes.submit(made_random.uniform(0, LONGEST))
            wait_a_while(made_random)
            ask(future.task_run, made_random)
            future.wait()
            following = computes.submit(0.0)
            assert following.result() == "done"
            check(future.task_run)
            ended[future.state.type.value] += 1

    run = asks.start(times(300, 10_000))
    run.wait(600)
    assert run.state.is_completed(), (seed, run.state, run.record().error)
    assert len(threads) <= 3, "the tasks shared their threads"
    figure(f"races of {ask.__name__} with the end of a task: {dict(ended)}, 0 wrong")

"""Attempts: when there is another, how long it waits, and what a timeout means."""

import asyncio
import logging
import threading
import time

import pytest

from jupyter_flows import (
    StateType,
    current_run,
    flow,
    runs,
    task,
)

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_failed_attempt_is_retried(kind):
    """A run that fails is tried again, AwaitingRetry and Retrying between, until it works."""

    def body():
        attempts.append(current_run().attempt)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return "at last"

    async def body_async():
        return body()

    attempts = []
    run = flow(retries=3, retry_delay_seconds=0.01)(body if kind == "sync" else body_async).start()
    assert run.result(20) == "at last"
    assert attempts == [1, 2, 3]
    names = [transition.name for transition in run.transitions()]
    assert names == [
        "Pending",
        "Running",
        *["AwaitingRetry", "Retrying"] * 2,
        "Completed",
    ]


def test_retries_run_out():
    """After the last retry the run is FAILED with the last exception."""

    @flow(retries=2)
    def fails():
        raise ValueError(current_run().attempt)

    with pytest.raises(ValueError, match="3"):
        fails.start().result(20)


@pytest.mark.parametrize("on", ["thread", "async", "main", "process"])
def test_a_failed_attempt_is_told_in_the_log(on, kernel_loop):
    """What failed, when it is tried again, and that no retry is left is in the run's log."""

    def step():
        raise ValueError("two\nlines")

    def body():
        task(name="step", retries=2, retry_delay_seconds=[0, 0.001])(step)(return_state=True)
        list(steps())
        raise KeyError("whole")

    async def step_async():
        step()

    async def body_async():
        made = task(name="step", retries=2, retry_delay_seconds=[0, 0.001])(step_async)
        await made(return_state=True)
        list(steps())
        raise KeyError("whole")

    @task(retries=1)
    def steps():
        yield 1
        if current_run().attempt == 1:
            raise ValueError

    made = flow(body_async if on in ("async", "main") else body)
    run = made.with_options(on=on, retries=1, retry_delay_seconds=0).start().wait(20)
    told = [(line.source, line.level, line.message) for line in run.logs]
    of_tasks = [
        ("step-0 · task", logging.INFO, "Failed, retry 1 of 2 begins at once: ValueError: two"),
        ("step-0 · task", logging.INFO, "lines"),
        ("step-0 · task", logging.INFO, "Failed, retry 2 of 2 begins in 0.001 s: ValueError: two"),
        ("step-0 · task", logging.INFO, "lines"),
        ("step-0 · task", logging.ERROR, "Failed, no retry is left: ValueError: two"),
        ("step-0 · task", logging.ERROR, "lines"),
        ("steps-0 · task", logging.INFO, "Failed, retry 1 of 1 begins at once: ValueError: "),
    ]
    assert told[:8] == [
        *of_tasks,
        ("flow", logging.INFO, "Failed, retry 1 of 1 begins at once: KeyError: 'whole'"),
    ]
    assert len(told) == 16
    assert told[15] == ("flow", logging.ERROR, "Failed, no retry is left: KeyError: 'whole'")


def test_a_failure_without_retries_is_not_told_in_the_log():
    """A run and a task that have no retries, or need none, write nothing of their own."""

    @task
    def fails():
        raise ValueError

    @task(retries=1)
    def works():
        return 1

    @flow
    def both():
        works()
        fails()

    run = both.start().wait(20)
    assert run.state.is_failed()
    assert not run.logs


def test_the_delays_of_retries():
    """The delay is one number, one for each attempt, or what a function of `retries` says."""
    from jupyter_flows.engine.options import Options

    def delays(**options):
        made = Options(retries=3, **options)
        return [made.retry_delay(attempt) for attempt in (1, 2, 3)]

    assert delays() == [0, 0, 0]
    assert delays(retry_delay_seconds=2) == [2, 2, 2]
    assert delays(retry_delay_seconds=[1, 5]) == [1, 5, 5]
    assert delays(retry_delay_seconds=lambda n: [i * n for i in range(n)]) == [0, 3, 6]


def test_a_delay_that_cannot_be_had_fails_the_run():
    """A function of delays that raises makes the run FAILED with that, after its own error."""

    @flow(retries=1, retry_delay_seconds=lambda retries: 1 / 0)
    def fails():
        raise ValueError

    run = fails.start()
    with pytest.raises(ZeroDivisionError) as caught:
        run.result(20)
    assert isinstance(caught.value.__context__, ValueError)
    assert "During handling of the above" in run.record().error.traceback


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_cancelled_run_never_retries(kind):
    """A run that was asked to stop and then fails by itself has no other attempt."""

    def body():
        attempts.append(1)
        current_run().cancel()
        raise ValueError("after the cancel")

    async def body_async():
        body()

    attempts = []
    run = flow(retries=5)(body if kind == "sync" else body_async).start().wait(20)
    assert run.state.is_failed()  # it failed by itself before a checkpoint could deliver the cancel
    assert attempts == [1]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_cancel_ends_the_wait_for_a_retry(kind, until):
    """A run that waits an hour for its next attempt ends CANCELLED at once when asked."""

    def body():
        print("half a line", end="")
        raise ValueError

    async def body_async():
        body()

    decorate = flow(retries=1, retry_delay_seconds=3600)
    run = decorate(body if kind == "sync" else body_async).start()
    until(lambda: run.state.name == "AwaitingRetry")
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert "half a line" in [line.message for line in run.logs]


def test_a_run_says_when_it_is_tried_again(until):
    """Between two attempts a run says why it waits and until when, with its pauses."""

    @flow(retries=1, retry_delay_seconds=3600)
    def body():
        raise ValueError("not yet")

    run = body.start()
    until(lambda: run.state.name == "AwaitingRetry")
    waiting = run.record().waiting
    assert (waiting.kind, waiting.text) == ("retry", "ValueError: not yet")
    assert waiting.until == pytest.approx(run.record().state_time + 3600, abs=1)
    run.pause()
    paused = time.time()
    until(lambda: time.time() > paused + 0.05)
    assert run.record().waiting.held
    run.resume()
    assert not run.record().waiting.held
    assert run.record().waiting.until >= waiting.until + 0.05
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert run.record().waiting is None


def test_a_timeout_is_told_from_a_cancel():
    """A run that takes too long is FAILED under the name TimedOut, not CANCELLED."""

    @flow(timeout_seconds=0.05)
    def slow():
        time.sleep(20)

    @flow(timeout_seconds=0.05)
    async def slow_async():
        await asyncio.sleep(20)

    for each in (slow, slow_async):
        run = each.start()
        with pytest.raises(TimeoutError, match="longer than its timeout"):
            run.result(20)
        assert (run.state.type, run.state.name) == (StateType.FAILED, "TimedOut")
        assert run.record().reason == "timeout"


def test_a_timeout_is_of_one_attempt():
    """Each attempt has the whole timeout, and one that timed out is retried."""

    @flow(timeout_seconds=0.2, retries=2)
    def slow_at_first():
        if current_run().attempt < 3:
            time.sleep(20)
        return current_run().attempt

    assert slow_at_first.start().result(20) == 3


def test_a_timeout_that_comes_too_late_changes_nothing():
    """A body that returns although its time was up, having met no checkpoint, has its result."""

    @flow(timeout_seconds=0.01)
    def busy():
        while not runs.list(name="busy")[0].cancel_reason:
            pass
        return "done"

    run = busy.start()
    assert run.result(20) == "done"


def test_a_cancel_replaces_a_timeout(until):
    """A user's cancel of a run that is cleaning up after its timeout makes it CANCELLED."""

    @flow(timeout_seconds=0.05, retries=3)
    def slow():
        try:
            time.sleep(20)
        finally:
            cleaning.set()
            go.wait(20)

    cleaning, go = threading.Event(), threading.Event()
    run = slow.start()
    assert cleaning.wait(20)
    assert run.cancel()
    go.set()
    assert run.wait(20).state.is_cancelled()
    assert run.attempt == 1

"""What takes too long is stopped, and told from what was cancelled."""

import asyncio
import threading
import time
from datetime import timedelta

import pytest

from jupyter_flows import (
    current_run,
    flow,
    shield,
    task,
    timeout,
    timeout_async,
)
from jupyter_flows.engine import monitoring
from jupyter_flows.errors import NotInARun, WouldDeadlock

needs_watching = pytest.mark.skipif(not monitoring.available(), reason="needs Python 3.12")
IMPATIENT = {"cancel_grace_seconds": 0}


def compute():
    while True:
        pass


@needs_watching
def test_a_flow_that_computes_too_long_is_timed_out():
    """A flow that reaches no checkpoint is stopped at a safe line, and is FAILED as TimedOut."""
    tidied = []

    @flow(timeout_seconds=0.05, **IMPATIENT)
    def computes():
        try:
            compute()
        finally:
            tidied.append(1)

    run = computes.start().wait(20)
    assert (run.state.type, run.state.name) == ("FAILED", "TimedOut")
    assert tidied
    with pytest.raises(TimeoutError):
        run.result()


@needs_watching
@pytest.mark.parametrize("how", ["called", "submitted"])
def test_a_task_that_computes_too_long_fails_alone(how):
    """A task is timed out; its flow goes on, and may handle it."""

    @task(timeout_seconds=0.05)
    def computes():
        compute()

    @flow(**IMPATIENT)
    def calls():
        try:
            computes() if how == "called" else computes.submit().result()
        except TimeoutError:
            return "handled"

    run = calls.start().wait(20)
    assert run.result() == "handled"
    assert run.tasks[0].state.name == "TimedOut"


@needs_watching
def test_a_loop_that_is_blocked_is_timed_out():
    """An async flow that computes instead of awaiting is stopped at a safe line."""

    @flow(timeout_seconds=0.05, **IMPATIENT)
    async def computes():
        compute()

    assert computes.start().wait(20).state.name == "TimedOut"


def test_a_block_that_sleeps_too_long_raises():
    """`timeout` raises TimeoutError after the block was stopped, and its cleanup has run."""
    tidied = []

    @flow
    def sleeps():
        try:
            with timeout(seconds=0.05):
                try:
                    time.sleep(3600)
                finally:
                    tidied.append(1)
        except TimeoutError as error:
            return str(error)

    run = sleeps.start()
    assert "0.05 s" in run.result(20)
    assert tidied
    assert run.tasks == []


@needs_watching
def test_a_block_that_computes_too_long_raises():
    """`timeout` stops a block at a safe line, and only the block."""
    after = []

    @flow(**IMPATIENT)
    def computes():
        for _ in range(3):
            try:
                with timeout(0.02):
                    compute()
            except TimeoutError:
                after.append(1)
        return sum(range(100_000))

    assert computes.start().result(20) == sum(range(100_000))
    assert after == [1, 1, 1]


def test_a_block_in_time_is_left_alone():
    """A block that ends in time changes nothing; None is for ever."""

    @flow
    def quick():
        with timeout(60) as outer, timeout(None):
            value = 1
        assert outer
        return value

    run = quick.start()
    assert run.result(20) == 1
    assert run.state.is_completed()


def test_the_outer_of_two_timeouts_raises_once():
    """Of nested timeouts the one that is over raises, through the inner block."""

    @flow
    def nests():
        inner = False
        try:
            with timeout(0.05):
                try:
                    with timeout(60):
                        time.sleep(3600)
                except TimeoutError:
                    inner = True
        except TimeoutError:
            return inner

    assert nests.start().result(20) is False


def test_a_task_within_a_block_is_stopped_with_it():
    """A task that a block calls is cancelled by the block's timeout, and the flow goes on."""

    @task
    def sleeps():
        time.sleep(3600)

    @flow
    def calls():
        try:
            with timeout(0.05):
                sleeps()
        except TimeoutError:
            return "handled"

    run = calls.start()
    assert run.result(20) == "handled"
    assert run.tasks[0].state.is_cancelled()


def test_a_cancel_in_a_block_is_no_timeout(until):
    """A run that is cancelled within a `timeout` ends CANCELLED; no TimeoutError is raised."""
    begun, seen = threading.Event(), []

    @flow
    def sleeps():
        try:
            with timeout(60):
                begun.set()
                time.sleep(3600)
        except TimeoutError:
            seen.append("timeout")

    run = sleeps.start()
    begun.wait(20)
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert seen == []


def test_timeout_async():
    """`timeout_async` raises TimeoutError at an await, of the kind that was asked for."""

    class TooLong(TimeoutError):
        pass

    @flow
    async def waits():
        with pytest.raises(TimeoutError, match=r"0\.05 s"):
            async with timeout_async(seconds=0.05):
                await asyncio.sleep(3600)
        with pytest.raises(TooLong):
            async with timeout_async(0.01, TooLong):
                await asyncio.sleep(3600)
        async with timeout_async(60):
            await asyncio.sleep(0)
        with pytest.raises(TooLong), timeout_async(0.01, TooLong):  # as in Prefect
            await asyncio.sleep(3600)
        with timeout_async(60):
            await asyncio.sleep(0)
        return "done"

    assert waits.start().result(20) == "done"


@pytest.mark.parametrize("more", [None, 60, timedelta(minutes=1)])
def test_refresh_timeout_gives_more_time(more):
    """`refresh_timeout` lets the attempt have its time anew, or so much more."""

    @flow(timeout_seconds=0.1)
    def refreshes():
        for _ in range(8):
            time.sleep(0.03)
            current_run().refresh_timeout(more)
        return "done"

    assert refreshes.start().result(20) == "done"


def test_refresh_timeout_without_a_timeout_is_harmless():
    """A run that has no timeout may refresh it all the same; nonsense is refused."""

    @flow
    def refreshes():
        current_run().refresh_timeout()
        with pytest.raises(TypeError, match="increment_by"):
            current_run().refresh_timeout("10 apples")
        return "done"

    assert refreshes.start().result(20) == "done"


def test_a_timeout_waits_for_a_shield():
    """What is shielded is not stopped by a timeout before it has ended."""
    whole = []

    @flow(timeout_seconds=0.05, **IMPATIENT)
    def writes():
        with shield():
            time.sleep(0.2)
            whole.append(1)
        time.sleep(3600)
        whole.append(2)

    assert writes.start().wait(20).state.name == "TimedOut"
    assert whole == [1]


def test_where_a_timeout_cannot_serve():
    """Outside of runs, on an event loop, or with nonsense it says what to do."""
    with pytest.raises(NotInARun, match="inside a running flow"), timeout(1):
        pass
    with pytest.raises(ValueError, match="seconds"):
        timeout(-1)

    @flow
    async def waits():
        with pytest.raises(WouldDeadlock, match="timeout_async"), timeout(1):
            pass

    waits.start().result(20)

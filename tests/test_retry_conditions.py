"""Retries that are decided: by a condition, by an exception, and how long each waits."""

import asyncio
import logging
import threading
from _thread import get_ident
from datetime import timedelta

import pytest

from jupyter_flows import (
    NonRetryableException,
    current_run,
    exponential_backoff,
    flow,
    task,
)
from jupyter_flows import tasks as tasks_module
from jupyter_flows.engine.options import Options

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def as_kind(body, kind):
    """Return a body, or an async function that does the same."""

    async def body_async(*args):
        await asyncio.sleep(0)
        return body(*args)

    return body if kind == "sync" else body_async


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
WORKERS = [("thread", "sync"), ("async", "async"), ("main", "async"), ("process", "sync")]


# -- how long ------------------------------------------------------------------------------


def test_exponential_backoff():
    """Delays double, from the factor on; the function is where Prefect has it too."""
    options = Options(retries=4, retry_delay_seconds=exponential_backoff(backoff_factor=3))
    assert [options.retry_delay(attempt) for attempt in (1, 2, 3, 4, 5)] == [3, 6, 12, 24, 24]
    assert tasks_module.exponential_backoff is exponential_backoff


def test_jitter_keeps_the_average():
    """A delay with jitter f is from 0 to 1 + f times as long, and on average as long."""
    options = Options(retries=1, retry_delay_seconds=10, retry_jitter_factor=0.5)
    delays = [options.retry_delay(1) for _ in range(4_000)]
    assert all(0 <= delay <= 15 for delay in delays)
    assert 9.5 < sum(delays) / len(delays) < 10.5
    assert max(delays) > 14
    assert min(delays) < 5
    assert Options(retry_delay_seconds=10, retry_jitter_factor=0).retry_delay(1) == 10


@pytest.mark.parametrize("decorate", [flow, task])
@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"retry_jitter_factor": -1}, ValueError, "retry_jitter_factor must be a number, 0 or"),
        ({"retry_jitter_factor": "much"}, ValueError, "retry_jitter_factor must be a number"),
        ({"retry_condition_fn": True}, TypeError, "retry_condition_fn must be a function"),
        ({"retries": -1}, ValueError, "retries must be 0 or more"),
        ({"retries": True}, ValueError, "retries must be 0 or more, and whole, not True"),
        ({"retry_delay_seconds": True}, ValueError, "retry_delay_seconds must be 0 or more"),
        ({"retry_jitter_factor": True}, ValueError, "retry_jitter_factor must be a number"),
        ({"timeout_seconds": True}, ValueError, "timeout_seconds must be a number above 0"),
        ({"retry_delay_seconds": [1, -1]}, ValueError, "retry_delay_seconds must be 0 or more"),
        ({"retry_delay_seconds": timedelta(1)}, ValueError, "retry_delay_seconds must be 0 or"),
    ],
)
def test_wrong_options_are_told_where_they_are_written(decorate, options, error, says):
    """An option of retries that makes no sense is an error of the decorator."""
    with pytest.raises(error, match=says):
        decorate(**options)(lambda: None)


@pytest.mark.parametrize("decorate", [flow, task])
def test_none_is_no_retry(decorate):
    """None, which Prefect has for "not said", is no retry and no delay."""
    options = decorate(retries=None, retry_delay_seconds=None)(lambda: None).options
    assert (options.retries, options.retry_delay(1)) == (0, 0.0)


def test_a_wrong_backoff_is_told_where_it_is_written():
    """So is a factor of `exponential_backoff` that makes no sense."""
    with pytest.raises(ValueError, match="backoff_factor must be a number, 0 or more, not -1"):
        exponential_backoff(-1)


# -- whether -------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("condition_kind", ["sync", "async"])
@pytest.mark.parametrize("decorate", [flow, task])
def test_a_condition_decides(decorate, kind, condition_kind):
    """`retry_condition_fn` is asked after each failed attempt, with what failed and how."""

    def body():
        attempts.append(1)
        raise KeyError(len(attempts))

    def condition(author, run, state):
        asked.append((author, run.attempt, state.name))
        with pytest.raises(KeyError):
            state.result()
        return len(asked) < 3

    attempts, asked = [], []
    made = decorate(retries=9, name="mine", retry_condition_fn=as_kind(condition, condition_kind))(
        as_kind(body, kind)
    )
    caller = made if decorate is flow else flow(as_kind_of_call(made, kind))
    with pytest.raises(KeyError, match="3"):
        caller.start().result(20)
    assert asked == [(made, 1, "Failed"), (made, 2, "Failed"), (made, 3, "Failed")]


def as_kind_of_call(made, kind):
    """Return the body of a flow that calls a task."""

    async def call_async():
        return await made()

    return (lambda: made()) if kind == "sync" else call_async


def test_a_condition_is_not_asked_in_vain():
    """It is asked neither after the last attempt nor after one that worked."""

    @flow(retries=1, retry_condition_fn=lambda *what: asked.append(what) or True)
    def body(fails):
        if fails:
            raise ValueError

    asked = []
    body.start(False).wait(20)
    assert asked == []
    assert body.start(True).wait(20).state.is_failed()
    assert len(asked) == 1


@KINDS
def test_a_condition_that_fails_means_no(kind):
    """Its exception is in the run's log, and the run ends as the attempt did."""

    def condition(flow, run, state):
        print("thinking")
        raise LookupError("no idea")

    body = flow(retries=3, retry_condition_fn=as_kind(condition, kind))(as_kind(fails, kind))
    run = body.start().wait(20)
    assert run.attempt == 1
    assert run.state.is_failed()
    assert isinstance(run.state.data, ValueError)
    assert run.logs[0].message == "thinking"
    (line,) = [line for line in run.logs if "retry_condition_fn failed" in line.message]
    assert line.level == logging.ERROR
    assert any("LookupError: no idea" in line.message for line in run.logs)


def fails():
    raise ValueError("as ever")


@KINDS
def test_a_condition_may_look_at_a_timeout(kind, until):
    """An attempt that timed out is judged as TimedOut, and what the condition prints is no harm."""

    def condition(flow, run, state):
        seen.append(state.name)
        print("judging")
        return run.attempt < 2

    async def wait():
        await asyncio.sleep(3600)

    def block():
        threading.Event().wait(0.1)
        while True:
            print("busy")

    seen = []
    body = flow(retries=5, timeout_seconds=0.05, retry_condition_fn=condition, log_prints=True)(
        block if kind == "sync" else wait
    )
    run = body.start().wait(20)
    assert seen == ["TimedOut", "TimedOut"]
    assert (run.state.name, run.attempt) == ("TimedOut", 2)
    assert [line.message for line in run.logs if line.message == "judging"] == ["judging"] * 2


@KINDS
def test_a_cancel_stops_a_condition(kind, until):
    """A condition that takes for ever can be cancelled as the body can: the run is CANCELLED."""

    def condition(flow, run, state):
        begun.set()
        while True:
            pass

    async def condition_async(flow, run, state):
        begun.set()
        await asyncio.sleep(3600)

    begun = threading.Event()
    body = flow(retries=3, retry_condition_fn=condition if kind == "sync" else condition_async)(
        as_kind(fails, kind)
    )
    run = body.start()
    assert begun.wait(20)
    run.cancel(grace=0)
    assert run.wait(20).state.is_cancelled()
    assert run.attempt == 1


@KINDS
@pytest.mark.parametrize("decorate", [flow, task])
def test_an_exception_may_forbid_retries(decorate, kind):
    """After `NonRetryableException` no attempt follows: FAILED with it."""

    def body():
        attempts.append(1)
        raise NonRetryableException("the account is closed")

    attempts = []
    made = decorate(retries=5)(as_kind(body, kind))
    run = (made if decorate is flow else flow(as_kind_of_call(made, kind))).start().wait(20)
    assert run.state.is_failed()
    with pytest.raises(NonRetryableException, match="account is closed"):
        run.result()
    assert attempts == [1]


@pytest.mark.parametrize(("on", "kind"), WORKERS)
def test_on_every_worker(on, kind, kernel_loop):
    """Conditions and exceptions decide about retries wherever the run is."""

    def body():
        import os

        print("pid", os.getpid())
        if current_run().attempt == 2:
            raise NonRetryableException
        raise ValueError

    def condition(flow, run, state):
        asked.append((type(state.data), get_ident()))
        return True

    asked = []
    body = flow(on=on, retries=5, retry_condition_fn=condition)(as_kind(body, kind))
    run = body.start().wait(30)
    assert isinstance(run.state.data, NonRetryableException), run.state.data
    assert [each for each, _ in asked] == [ValueError]
    assert run.attempt == 2
    pids = {line.message for line in run.logs if line.message.startswith("pid")}
    assert len(pids) == (2 if on == "process" else 1)


def test_an_async_condition_of_a_sync_flow_on_a_thread_with_a_loop():
    """A foreground call of a sync flow, as in a notebook's cell, may have an async condition."""

    async def condition(flow, run, state):
        await asyncio.sleep(0)
        return run.attempt < 2

    @flow(retries=5, retry_condition_fn=condition)
    def body():
        raise ValueError(current_run().attempt)

    async def cell():
        with pytest.raises(ValueError, match="2"):
            body()

    asyncio.run(cell())


# -- meanwhile ------------------------------------------------------------------------------


@pytest.mark.parametrize(("on", "kind"), WORKERS)
def test_a_cancel_while_it_waits(on, kind, kernel_loop, until):
    """A cancel before the next attempt is the end, on every worker: that attempt never begins."""
    body = flow(on=on, retries=1, retry_delay_seconds=3600)(as_kind(fails, kind))
    run = body.start()
    until(lambda: run.state.name == "AwaitingRetry")
    assert run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert run.attempt == 1


@KINDS
def test_a_cancel_while_a_task_waits(kind, until):
    """Nor does a task try again when its flow is cancelled while it waits to."""

    def body():
        attempts.append(1)
        raise ValueError

    attempts = []
    step = task(retries=3, retry_delay_seconds=3600)(as_kind(body, kind))
    run = flow(as_kind_of_call(step, kind)).start()
    until(lambda: run.tasks and run.tasks[0].state.name == "AwaitingRetry")
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert run.tasks[0].state.is_cancelled()
    assert attempts == [1]


def test_the_delay_stands_still_while_paused(kernel_loop, until):
    """What is left of a delay when a run is paused is left when it is resumed, on every worker."""
    delay = 0.5

    def body():
        if current_run().attempt == 1:
            raise ValueError
        return "again"

    decorate = flow(retries=1, retry_delay_seconds=delay)
    runs = [decorate(as_kind(body, kind)).with_options(on=on).start() for on, kind in WORKERS]
    for run in runs:
        until(lambda run=run: run.state.name == "AwaitingRetry")
        run.pause()
    for run in runs:
        until(lambda run=run: run.state.is_paused())
        assert run.asked is None
        assert run.record().waiting.held
    threading.Event().wait(2 * delay)
    assert [run.state.name for run in runs] == ["Paused"] * len(runs)
    for run in runs:
        run.resume()
        assert run.result(20) == "again"
        names = [each.name for each in run.transitions()]
        assert names[2:] == ["AwaitingRetry", "Paused", "AwaitingRetry", "Retrying", "Completed"]
        assert run.record().paused_seconds >= 2 * delay
        waits, goes_on = run.states[2].time, run.states[5].time
        assert goes_on - waits >= 2.5 * delay


def test_states_and_attempts_are_counted():
    """Each attempt of a task is a pair of states, AwaitingRetry and Retrying, and is counted."""

    @task(retries=2, retry_delay_seconds=0)
    def step():
        seen.append(current_run().attempt)
        raise ValueError

    @flow
    def body():
        return step(return_state=True)

    seen = []
    run = body.start().wait(20)
    assert seen == [1, 2, 3]
    assert run.tasks[0].record().attempt == 3
    assert [state.name for state in run.tasks[0].states] == [
        *["Pending", "Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying"],
        "Failed",
    ]


def test_options_are_kept():
    """`with_options` keeps how a flow or task is retried, and changes it where it says so."""

    def condition(*what):
        return True

    for decorate in (flow, task):
        made = decorate(retries=2, retry_jitter_factor=0.3, retry_condition_fn=condition)(fails)
        again = made.with_options(retries=7).options
        assert (again.retries, again.retry_jitter_factor) == (7, 0.3)
        assert again.retry_condition_fn is condition


def test_a_run_that_was_given_up_keeps_its_reason(until, alive):
    """An attempt that fails after its run was given up changes nothing of what is kept of it."""

    @flow(retries=1, retry_condition_fn=lambda *_: True, timeout_seconds=0.001)
    def stuck():
        begun.set()
        blocked.acquire()
        raise ValueError("too late")

    begun, blocked = threading.Event(), threading.Lock()
    blocked.acquire()
    run = stuck.start()
    assert begun.wait(20)
    until(lambda: run.cancel_reason == "timeout")
    run.abandon()
    kept = run.record()
    assert (kept.state_name, kept.reason) == ("Abandoned", "timeout")
    blocked.release()
    until(lambda: not alive())
    assert run.record() == kept

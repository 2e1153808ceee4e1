"""What a run's code learns of its run, and does about it: Hatchet's context."""

import asyncio
import threading
import time
from datetime import timedelta

import pytest

from jupyter_flows import (
    CancelledRun,
    RunCancellation,
    checkpoint,
    current_run,
    flow,
    is_cancellation,
    task,
    timeout,
)
from jupyter_flows.errors import NotInARun

pytestmark = pytest.mark.usefixtures("nothing_is_left")

WORKERS = [
    ("thread", False),
    ("process", False),
    ("async", True),
    ("main", True),
    ("process", True),
]


def say(text):
    """Print where a cancel does not take hold, so that the code comes to what follows."""
    try:
        text = str(text)  # something that may raise, or Python leaves the block out
    finally:
        print(text)


def said(run):
    return [line.message for line in run.logs if line.source == "stdout"]


def waits_for_it():
    say("waits")
    told = current_run().wait_for_cancel(3600)
    print("cleans up")
    time.sleep(0.001)
    print("told", told)


async def awaits_it():
    say("waits")
    told = await current_run().wait_for_cancel(3600)
    print("cleans up")
    await asyncio.sleep(0.001)
    print("told", told)


@pytest.mark.parametrize(("on", "is_async"), WORKERS)
def test_waiting_for_a_cancel_ends_at_once(on, is_async, until, kernel_loop):
    """A cancel ends the wait, which returns True; the code then ends by itself, CANCELLED."""
    run = flow(awaits_it if is_async else waits_for_it, on=on).start()
    until(lambda: said(run) == ["waits"])
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert said(run) == ["waits", "cleans up", "told True"]


def gives_up():
    return current_run().wait_for_cancel(0.001), current_run().wait_for_cancel(timedelta(0))


async def gives_up_async():
    context = current_run()
    return await context.wait_for_cancel(0.001), await context.wait_for_cancel(timedelta(0))


@pytest.mark.parametrize(("on", "is_async"), WORKERS)
def test_waiting_for_a_cancel_that_does_not_come_ends_in_time(on, is_async, kernel_loop):
    """The wait returns False when its time is over, and the run goes on."""
    run = flow(gives_up_async if is_async else gives_up, on=on).start()
    assert run.result(20) == (False, False)


@pytest.mark.parametrize(("on", "is_async"), WORKERS)
def test_who_waits_for_a_cancel_is_parked(on, is_async, until, kernel_loop):
    """A run that waits for a cancel can be paused and resumed, and waits on."""
    run = flow(awaits_it if is_async else waits_for_it, on=on).start()
    until(lambda: said(run) == ["waits"])
    run.pause()
    until(lambda: run.state.is_paused())
    run.resume()
    until(lambda: run.state.is_running())
    assert said(run) == ["waits"]
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert said(run)[-1] == "told True"


def test_a_cancel_while_paused_ends_the_wait(until):
    """A run that is paused in its wait is told when it is cancelled."""
    run = flow(waits_for_it).start()
    until(lambda: said(run) == ["waits"])
    run.pause()
    until(lambda: run.state.is_paused())
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert said(run)[-1] == "told True"


def test_the_wait_is_for_the_cancel_of_a_timeout_too():
    """A run that takes longer than its timeout is told, and has failed for that."""

    @flow(timeout_seconds=0.05)
    def waits():
        print("told", current_run().wait_for_cancel(), current_run().cancel_reason)

    run = waits.start().wait(20)
    assert run.state.name == "TimedOut"
    assert said(run) == ["told True timeout"]


def test_a_task_waits_for_the_cancel_of_its_run(until):
    """The wait of a submitted task, on a thread of its own, ends with its run's cancel."""

    @task
    def waits():
        say("waits")
        return current_run().wait_for_cancel()

    @flow
    def submits():
        waits.submit().result()

    run = submits.start()
    until(lambda: [line.message for line in run.logs] == ["waits"])
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert run.tasks[0].state.is_cancelled()


def test_a_time_out_around_the_wait_is_not_taken_for_a_cancel():
    """What cancels the wait for other reasons is passed on."""

    @flow
    async def waits():
        try:
            async with asyncio.timeout(0.001):
                await current_run().wait_for_cancel()
        except TimeoutError:
            return "timed out"

    assert waits.start().result(20) == "timed out"


def test_an_awaited_wait_that_ended_so_takes_the_cancel_with_it(until):
    """After the wait was told, later awaits, time-outs and task groups of the cleanup work."""

    @flow(cancel_grace_seconds=20)
    async def waits():
        say("waits")
        await current_run().wait_for_cancel()
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0.001))
        print("cleaned up")

    run = waits.start()
    until(lambda: said(run) == ["waits"])
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert said(run) == ["waits", "cleaned up"]


def test_code_that_was_told_is_left_to_end_by_itself(until):
    """After `exit_flag` was seen, prints, logs, sleeps and tasks of the run go on in its grace."""

    @task
    def reports():
        print("task")

    @flow(cancel_grace_seconds=20)
    def looks():
        run = current_run()
        say("looks")
        while not run.exit_flag:
            pass
        for i in range(3):
            print("last", i)
            run.log(f"logged {i}")
            time.sleep(0.001)
        reports()

    run = looks.start()
    until(lambda: said(run) == ["looks"])
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert said(run) == ["looks", "last 0", "last 1", "last 2"]
    assert "task" in [line.message for line in run.logs]


def test_code_that_was_told_and_goes_on_is_stopped_after_its_grace(until):
    """Looking at the flag only buys the grace: code that goes on is interrupted then."""

    @flow(cancel_grace_seconds=0.05)
    def ignores():
        say("begun")
        while not current_run().is_cancelled:
            pass
        while True:
            print("told")

    run = ignores.start()
    until(lambda: said(run))
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert said(run)[-1] == "told"


def test_an_explicit_checkpoint_stops_code_that_was_told(until):
    """`checkpoint()` says that stopping is fine, and so it stops, told or not."""

    @flow(cancel_grace_seconds=20)
    def looks():
        say("looks")
        while not current_run().exit_flag:
            pass
        checkpoint()
        print("not reached")

    run = looks.start()
    until(lambda: said(run) == ["looks"])
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert said(run) == ["looks"]


def cancels_itself():
    run = current_run()
    asked = run.cancel("had enough")
    print(asked, run.exit_flag, run.cancel_reason, run.cancel())


async def cancels_itself_async():
    run = current_run()
    asked = await run.aio_cancel("had enough")
    print(asked, run.exit_flag, run.cancel_reason, await run.aio_cancel())


@pytest.mark.parametrize(("on", "is_async"), WORKERS)
def test_code_may_cancel_its_own_run(on, is_async, kernel_loop):
    """`cancel(reason)` and `aio_cancel` set the flag at once; the first reason stands."""
    run = flow(cancels_itself_async if is_async else cancels_itself, on=on).start().wait(20)
    assert run.state.is_cancelled()
    assert run.state.message == "Cancelled: had enough"
    assert run.record().reason == "had enough"
    assert said(run) == ["True True had enough False"]


@pytest.mark.parametrize("on", ["thread", "process"])
def test_an_odd_reason_is_refused(on):
    """A reason that is no text is an error where it is given, and nothing is cancelled."""

    @flow(on=on)
    def cancels():
        with pytest.raises(ValueError, match="reason must be a text"):
            current_run().cancel("")
        return "goes on"

    assert cancels.start().result(20) == "goes on"


# -- what it is --------------------------------------------------------------------------


def describes():
    run = current_run()
    return {
        name: getattr(run, name)
        for name in (
            "attempt",
            "attempt_number",
            "retry_count",
            "max_attempts",
            "tags",
            "metadata",
            "additional_metadata",
            "workflow_run_id",
            "parent_workflow_run_id",
            "step_run_id",
        )
    }


@pytest.mark.parametrize("on", ["thread", "process"])
def test_code_knows_its_run(on):
    """Ids, attempts, tags and metadata are there under Hatchet's names, on every worker."""
    options = {"tags": ["a"], "metadata": {"k": "v"}, "retries": 2}
    run = flow(describes, on=on, **options).start().wait(20)
    told = run.result()
    assert told["workflow_run_id"] == told["step_run_id"] == run.id
    assert (told["attempt"], told["attempt_number"], told["retry_count"]) == (1, 1, 0)
    assert told["tags"] == {"a"}
    assert told["metadata"] == told["additional_metadata"] == {"k": "v"}
    assert told["parent_workflow_run_id"] is None


def test_a_task_knows_its_own_attempts():
    """In a task, attempts are the task's, and ids tell the task run from the flow run."""
    seen = []

    @task(retries=2)
    def flaky():
        run = current_run()
        seen.append((run.attempt, run.retry_count, run.max_attempts))
        if len(seen) < 3:
            raise ValueError
        return run.workflow_run_id, run.step_run_id

    @flow
    def calls():
        return flaky()

    run = calls.start()
    assert run.result(20) == (run.id, f"{run.id}/0")
    assert seen == [(1, 0, 3), (2, 1, 3), (3, 2, 3)]


def test_a_subflow_knows_who_called_it():
    """In a subflow `parent_workflow_run_id` is the calling run's id."""
    inner = flow(lambda: current_run().parent_workflow_run_id, name="inner")
    run = flow(lambda: inner(), name="outer").start()
    assert run.result(20) == run.id


def test_a_block_under_a_timeout_is_a_part_of_its_run():
    """Within `timeout()` the attempt and the ids are those of the run."""

    @flow
    def times():
        with timeout(20):
            return current_run().attempt, current_run().step_run_id

    run = times.start()
    assert run.result(20) == (1, run.id)


def test_durations_are_read_as_hatchet_writes_them(monkeypatch):
    """`refresh_timeout` takes seconds, a timedelta, or a text such as "1m30s"."""
    given = []

    @flow(timeout_seconds=20)
    def refreshes():
        run = current_run()
        monkeypatch.setattr(type(run.flow_run.timeout), "refresh", lambda self, s: given.append(s))
        for each in (5, timedelta(minutes=1), "1m30s", "500ms", "2h", "1.5s", None):
            run.refresh_timeout(each)
        for odd in ("soon", "", "5", True):
            with pytest.raises(TypeError, match="increment_by"):
                run.refresh_timeout(odd)

    refreshes.start().result(20)
    assert given == [5, 60, 90, 0.5, 7200, 1.5, None]


def test_outside_of_a_run_there_is_no_context():
    """`current_run()` outside of a run says where it can be used."""
    with pytest.raises(NotInARun, match="only inside a running flow or task"):
        current_run()


# -- a cancel and an error -----------------------------------------------------------------


def tells_apart():
    try:
        print("waits")
        while True:
            time.sleep(3600)
    except BaseException as error:
        print(is_cancellation(error))
        raise


async def tells_apart_async():
    try:
        print("waits")
        await asyncio.sleep(3600)
    except BaseException as error:
        print(is_cancellation(error))
        raise


@pytest.mark.parametrize(("on", "is_async"), WORKERS)
def test_a_cancel_is_told_from_an_error(on, is_async, until, kernel_loop):
    """In `except`, `is_cancellation` is true of what a cancel raises, sync and async."""
    run = flow(tells_apart_async if is_async else tells_apart, on=on).start()
    until(lambda: said(run) == ["waits"])
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert said(run) == ["waits", "True"]


def test_errors_are_no_cancels():
    """Exceptions, interrupts, other time-outs and other runs' cancels are not taken for one."""

    @flow
    async def raises():
        told = []
        try:
            async with asyncio.timeout(0.001):
                try:
                    await asyncio.sleep(20)
                except asyncio.CancelledError as error:
                    told.append(is_cancellation(error))
                    raise
        except TimeoutError as error:
            told.append(is_cancellation(error))
        return told

    assert raises.start().result(20) == [False, False]
    for error in (ValueError(), KeyboardInterrupt(), CancelledRun(), asyncio.CancelledError()):
        assert not is_cancellation(error)


def test_groups_are_cancels_if_all_of_them_is():
    """An exception group is a cancel if each exception in it is."""
    cancel = RunCancellation("id", "user")
    assert is_cancellation(BaseExceptionGroup("both", [cancel, cancel]))
    assert not is_cancellation(BaseExceptionGroup("mixed", [cancel, ValueError()]))


def test_the_cancel_of_a_subflow_is_an_error_to_its_caller():
    """A run whose subflow was cancelled catches `CancelledRun`, which is no cancel of its own."""
    started = threading.Event()

    @flow
    def inner():
        started.set()
        current_run().cancel("inner only")
        checkpoint()

    @flow
    def outer():
        try:
            inner()
        except CancelledRun as error:
            return is_cancellation(error)

    assert outer.start().result(20) is False

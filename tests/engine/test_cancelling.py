"""Cancelling: where it takes hold, what it reaches, and when it comes too late."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jupyter_flows import (
    RunCancellation,
    checkpoint,
    current_run,
    flow,
    get_run_logger,
    pause_flow_run,
    progress,
    task,
)
from jupyter_flows.engine.executors import for_background
from jupyter_flows.engine.ladder import hurry
from jupyter_flows.states import TERMINAL

FOR_EVER = 3600


def terminal_states(run):
    return [state for state in run.states if state.type in TERMINAL]


def cancelled_in(body, until, started):
    """Start `body`, cancel it once it has `started`, and return the run when it has ended."""
    run = flow(body, name=getattr(body, "__name__", "body")).start()
    assert started.wait(20)
    assert run.cancel()
    run.wait(20)
    return run


# -- before the start ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_cancel_before_the_start_means_that_the_body_never_starts(kind):
    """A run that is cancelled before its worker begins is CANCELLED at once; no code has run."""

    def body():
        began.append(1)

    async def body_async():
        began.append(1)

    began = []
    tested = flow(body if kind == "sync" else body_async)
    run = tested.make_run(for_background(None, is_async=tested.isasync))
    assert run.cancel()
    assert run.state.is_cancelled()
    tested.launch(run)
    run.wait(20)
    assert began == []
    assert [state.type for state in run.states] == ["PENDING", "CANCELLED"]
    assert run.attempt == 0


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_cancel_as_the_worker_begins_stops_it_before_the_body(kind):
    """A cancel between RUNNING and the body's first line still means that no line is run."""
    from jupyter_flows.engine import ports

    def body():
        began.append(1)

    async def body_async():
        began.append(1)

    def cancel_as_it_begins(life):
        if life.name == "begins" and life.state.is_running():
            life.cancel()

    began = []
    ports.listeners.append(cancel_as_it_begins)
    try:
        run = flow(body if kind == "sync" else body_async, name="begins").start().wait(20)
    finally:
        ports.listeners.remove(cancel_as_it_begins)
    assert run.state.is_cancelled()
    assert began == []


# -- where it takes hold ---------------------------------------------------------------


def _checkpoints():
    checkpoint()


def _context_checkpoint():
    current_run().checkpoint()


def _prints():
    print("here")


def _logs():
    get_run_logger().info("here")


def _sleeps():
    time.sleep(FOR_EVER)


def _steps():
    for _ in progress(range(3)):
        pass


def _calls_a_task():
    _nothing()


def _submits_a_task():
    _nothing.submit()


def _calls_a_flow():
    _empty()


def _waits_for_approval():
    pause_flow_run()


@task
def _nothing():
    return None


@flow
def _empty():
    return None


@pytest.mark.parametrize(
    "reach",
    [
        _checkpoints,
        _context_checkpoint,
        _prints,
        _logs,
        _sleeps,
        _steps,
        _calls_a_task,
        _submits_a_task,
        _calls_a_flow,
        _waits_for_approval,
    ],
    ids=lambda function: function.__name__.strip("_"),
)
def test_a_thread_stops_at_its_next_checkpoint(reach):
    """In sync code a cancel is RunCancellation, raised where the code next meets the engine."""

    def body():
        begun.set()
        go.wait(20)
        try:
            reach()
        except RunCancellation as cancellation:
            caught.append(cancellation)
            raise
        passed.append(1)

    begun, go = threading.Event(), threading.Event()
    caught, passed = [], []
    run = flow(body).start()
    begun.wait(20)
    run.cancel()
    assert run.state.is_cancelling()
    go.set()
    assert run.wait(20).state.is_cancelled()
    assert not passed
    assert [(each.run_id, each.reason) for each in caught] == [(run.id, "user")]
    assert isinstance(caught[0], BaseException)
    assert not isinstance(caught[0], Exception)


def test_a_cancel_wakes_what_sleeps_or_waits(until):
    """A cancel ends `time.sleep`, `future.result()` and `run.wait()` of a run that is in them."""

    @task
    def long():
        time.sleep(FOR_EVER)

    def sleeps():
        started.set()
        time.sleep(FOR_EVER)

    def waits_for_a_task():
        future = long.submit()
        started.set()
        future.result()

    def waits_for_a_run():
        run = flow(sleeps).start()
        run.wait()

    for body in (sleeps, waits_for_a_task, waits_for_a_run):
        started = threading.Event()
        run = cancelled_in(body, until, started)
        assert run.state.is_cancelled(), body


def test_an_async_run_stops_at_its_next_await(until):
    """In async code a cancel is CancelledError at the next await, and a cleanup may await."""

    async def body():
        started.set()
        try:
            await asyncio.sleep(FOR_EVER)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            print("cleaned up")
            raise

    started = threading.Event()
    run = cancelled_in(body, until, started)
    assert run.state.is_cancelled()
    assert [line.message for line in run.logs] == ["cleaned up"]


def test_a_cleanup_that_awaits_is_left_to_end(until):
    """A cancel that comes while an async cleanup is under way waits for it, within the grace."""

    @flow
    async def body():
        try:
            await asyncio.sleep(0)
        finally:
            started.set()
            for _ in range(30):
                await asyncio.sleep(0.001)
            print("whole")
        await asyncio.sleep(FOR_EVER)

    started = threading.Event()
    run = body.start()
    started.wait(20)
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert [line.message for line in run.logs] == ["whole"]


def test_a_cleanup_that_awaits_for_ever_is_cancelled_by_a_kill(until):
    """An async cleanup that does not end within `kill_grace_seconds` gets the cancel."""

    @flow(cancel_grace_seconds=0.02, kill_grace_seconds=0.05)
    async def body():
        try:
            await asyncio.sleep(0)
        finally:
            started.set()
            await asyncio.sleep(FOR_EVER)

    started = threading.Event()
    run = body.start()
    started.wait(20)
    run.cancel()
    assert run.wait(20).state.is_cancelled()


@pytest.mark.parametrize("how", ["a person", "in time"])
@pytest.mark.parametrize("called", ["flow", "task", "started", "async flow"])
def test_a_kill_reaches_what_a_cleanup_has_called(called, how, until):
    """What a cleanup has called is left alone by the cancel, but ends when its run is killed."""

    def waits():
        begun.set()
        pause_flow_run()

    async def waits_async():
        begun.set()
        await pause_flow_run()

    def body():
        try:
            started.set()
            while True:
                checkpoint()
        finally:
            {"flow": flow(waits), "task": task(waits), "started": start}[called]()

    async def body_async():
        try:
            started.set()
            await asyncio.sleep(FOR_EVER)
        finally:
            await flow(waits_async)()

    def start():
        flow(waits).start().wait()

    started, begun = threading.Event(), threading.Event()
    made = flow(body_async if called == "async flow" else body, name="body")
    made = made.with_options(kill_grace_seconds=600 if how == "a person" else 0.2)
    run = made.start()
    assert started.wait(20)
    run.cancel()
    assert begun.wait(20)
    if how == "a person":
        run.kill()
    assert run.wait(20).state.is_cancelled()
    until(lambda: all(task.state.is_cancelled() for task in run.tasks))


def test_what_a_killed_run_still_calls_is_stopped_too(until):
    """Code that swallows a kill and then calls a flow that waits does not wait there for ever."""

    @flow
    def waits():
        pause_flow_run()

    @flow(kill_grace_seconds=600)
    def body():
        started.set()
        for _ in range(100):
            try:
                blocked.acquire(timeout=20)
                waits()
            except BaseException:
                pass

    started, blocked = threading.Event(), threading.Semaphore(0)
    run = body.start()
    assert started.wait(20)
    run.kill()
    until(lambda: run.killed)
    blocked.release(100)
    assert run.wait(20).state.is_cancelled()


def test_a_helper_thread_is_stopped_and_the_body_is_not_told_by_that():
    """A run whose thread a cancel has stopped is CANCELLED; the body is still to be told."""

    def work():
        try:
            begun.set()
            go.wait(20)
            print("in the helper")
        except RunCancellation:
            stopped.append(1)
            raise

    @flow
    def body():
        helper = threading.Thread(target=work)
        helper.start()
        helper.join()
        joined.append(run.delivered)
        if goes_on:
            checkpoint()
            joined.append("not told")
        return "done"

    for goes_on in (False, True):
        begun, go, stopped, joined = threading.Event(), threading.Event(), [], []
        run = body.start()
        begun.wait(20)
        run.cancel()
        go.set()
        assert run.wait(20).state.is_cancelled()
        assert (stopped, joined, run.delivered) == ([1], [False], goes_on)


def test_a_helper_thread_that_a_timeout_stops():
    """A task whose thread its timeout has stopped is TimedOut, and may be tried again."""

    @task(timeout_seconds=0.05, retries=1)
    def helped():
        attempts.append(1)
        helper = threading.Thread(target=lambda: [time.sleep(0.005) for _ in range(4_000)])
        helper.start()
        helper.join()
        return "done"

    @flow
    def body():
        return helped(return_state=True)

    attempts = []
    run = body.start()
    assert run.wait(20).state.name == "TimedOut"
    assert [state.name for state in run.task_runs[0].states].count("AwaitingRetry") == 1
    assert len(attempts) == 2


async def _sleeps_in_a_thread():
    await asyncio.to_thread(time.sleep, 60)


async def _sleeps_in_an_executor():
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)


def _sleeps_in_a_pool():
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(time.sleep, [60, 60]))


@pytest.mark.parametrize("body", [_sleeps_in_a_thread, _sleeps_in_an_executor, _sleeps_in_a_pool])
def test_a_sleep_that_a_pool_was_given_ends_with_its_run(body, until):
    """`time.sleep` itself as the job of a pool's thread is ended by a cancel at once."""
    run = flow(body, name="sleeps").start()
    until(lambda: run.book.waiters)
    run.cancel(grace=60)
    assert run.wait(20).state.is_cancelled()
    pools = ("ThreadPoolExecutor", "asyncio_")
    until(lambda: not any(each.name.startswith(pools) for each in threading.enumerate()))


# -- what it says ----------------------------------------------------------------------


def test_a_second_cancel_is_harmless_and_the_first_reason_stands(until):
    """Cancelling again, while it stops or when it has, returns False and changes nothing."""

    def body():
        try:
            started.set()
            time.sleep(FOR_EVER)
        finally:
            go.wait(20)

    started, go = threading.Event(), threading.Event()
    run = flow(body).start()
    started.wait(20)
    assert run.cancel(reason="concurrency")
    assert not run.cancel(reason="user")
    until(lambda: run.delivered)
    assert not run.cancel(reason="shutdown")
    go.set()
    run.wait(20)
    assert not run.cancel()
    assert run.record().reason == "concurrency"
    assert "newer run" in run.state.message
    assert len(terminal_states(run)) == 1


@pytest.mark.parametrize(
    "after",
    [lambda: "a result", lambda: 1 / 0, lambda: current_run().attempt],
)
def test_a_delivered_cancel_makes_it_cancelled_whatever_follows(after):
    """Once the cancel was raised in its code a run is CANCELLED, though that swallows it."""

    @flow(retries=3)
    def body():
        attempts.append(1)
        current_run().cancel()
        with contextlib.suppress(RunCancellation):
            checkpoint()
        return after()

    attempts = []
    assert body.start().wait(20).state.is_cancelled()
    assert attempts == [1]


def test_a_swallowed_cancel_in_async_code_counts_too():
    """An async run that swallows its CancelledError and returns is CANCELLED all the same."""

    @flow
    async def body():
        current_run().cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(FOR_EVER)
        await asyncio.sleep(0)
        return "a result"

    assert body.start().wait(20).state.is_cancelled()


def test_a_cancel_that_comes_too_late_leaves_the_outcome():
    """A body that returns without meeting a checkpoint has its result, though it was asked."""

    @flow
    def body():
        current_run().cancel()
        return "done"

    run = body.start()
    assert run.result(20) == "done"
    assert [state.type for state in run.states][-2:] == ["CANCELLING", "COMPLETED"]


def test_a_swallowed_cancel_is_raised_again_only_where_it_is_safe():
    """After it was swallowed a cancel comes again at a safe place, never into a cleanup."""

    @flow
    def body():
        current_run().cancel()
        try:
            print("one")
        except RunCancellation:
            print("swallowed")
            checkpoint()
            where.append("handler")
        try:
            where.append("body")
            print("two")
            where.append("not here")
        finally:
            print("three")
            checkpoint()
            where.append("cleanup")

    where = []
    run = body.start().wait(20)
    assert run.state.is_cancelled()
    assert where == ["handler", "body", "cleanup"]


def test_exit_flag_counts_as_told():
    """Code that has seen `exit_flag` True was told: the run is CANCELLED when it returns."""

    @flow
    def body():
        context = current_run()
        assert not context.exit_flag
        context.cancel()
        assert context.is_cancelled
        assert context.exit_flag
        return "partial"

    assert body.start().wait(20).state.is_cancelled()


def test_a_flag_read_after_the_end_changes_nothing():
    """A helper that reads `exit_flag` when its run has ended does not touch how it ended."""

    @flow
    def body():
        contexts.append(current_run())
        current_run().cancel()
        return "done"

    contexts = []
    run = body.start()
    assert run.result(20) == "done"
    assert contexts[0].exit_flag
    assert not run.delivered
    assert run.state.is_completed()


# -- what it reaches -------------------------------------------------------------------


def test_children_are_cancelled_with_their_parent(until):
    """A cancel reaches tasks in threads, on loops, subflows and their tasks, as "parent"."""

    @task
    def sleeps():
        begun.release()
        time.sleep(FOR_EVER)

    @task
    async def sleeps_async():
        begun.release()
        await asyncio.sleep(FOR_EVER)

    @flow
    def inner():
        return [sleeps.submit(), sleeps_async.submit()]

    @flow
    async def inner_async():
        await asyncio.gather(sleeps_async(), sleeps_async())

    @flow
    def outer():
        sleeps.submit()
        sleeps_async.submit()
        background.append(inner_async.start())
        inner()

    begun, background = threading.Semaphore(0), []
    run = outer.start()
    for _ in range(6):
        assert begun.acquire(timeout=20)
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert background[0].wait(20).state.is_cancelled()
    children = [each for each in run.tasks if hasattr(each, "run")]
    everything = [*run.tasks, *(task_run for child in children for task_run in child.run.tasks)]
    assert len(everything) == 8
    assert all(each.state.is_cancelled() for each in everything)
    assert {child.run.record().reason for child in children} == {"parent"}


def test_one_cancel_passes_through_a_whole_loop(until):
    """Of an async run's gathered tasks each gets one CancelledError, so that each can clean up."""

    @task
    async def sleeps(i):
        try:
            begun.release()
            await asyncio.sleep(FOR_EVER)
        finally:
            for _ in range(5):
                await asyncio.sleep(0.001)
            tidied.append(i)

    @flow
    async def inner(i):
        await sleeps(i)

    async def body():
        beside = asyncio.ensure_future(sleeps("beside"))
        try:
            await asyncio.gather(sleeps(1), inner(2), sleeps(3))
        finally:
            await asyncio.gather(beside, return_exceptions=True)
            tidied.append("body")

    for on in ("async", "main"):
        begun, tidied = threading.Semaphore(0), []
        if on == "async":
            run = flow(body).start()
            for _ in range(4):
                assert begun.acquire(timeout=20)
            run.cancel()
            run.wait(20)
        else:

            async def main():
                run = flow(body, on="main").start()
                while not begun.acquire(blocking=False):  # noqa: B023
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.01)
                run.cancel()
                await run.wait_async()
                return run

            run = asyncio.run(main())
        assert run.state.is_cancelled()
        assert tidied[-1] == "body"
        assert set(tidied) == {1, 2, 3, "beside", "body"}


def test_an_asyncio_task_is_left_as_it_was_found():
    """A flow awaited by other code leaves that code's asyncio task uncancelled."""

    @flow
    async def inner():
        current_run().cancel()
        await asyncio.sleep(FOR_EVER)

    async def main():
        state = await inner(return_state=True)
        assert state.is_cancelled()
        assert not asyncio.current_task().cancelling()
        async with asyncio.timeout(20):
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_task_in_a_cleanup_is_left_to_run(until):
    """A task that a cleanup calls or submits after the cancel runs to its end."""

    @task
    def tidy(i):
        print("tidying", i)
        time.sleep(0.001)
        return i

    @flow
    def body():
        try:
            started.set()
            time.sleep(FOR_EVER)
        finally:
            results.append(tidy(1))
            results.append(tidy.submit(2).result())

    started, results = threading.Event(), []
    run = body.start()
    started.wait(20)
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert results == [1, 2]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_paused_run_can_be_cancelled(kind, until):
    """A cancel lifts a pause: the run stops where it is held, in a cleanup too."""

    def body():
        for i in range(FOR_EVER):
            seen.append(i)
            time.sleep(0.001)

    async def body_async():
        for i in range(FOR_EVER):
            seen.append(i)
            await asyncio.sleep(0.001)

    def in_a_cleanup():
        try:
            seen.append("in")
        finally:
            for i in range(20):
                seen.append(i)
                time.sleep(0.01)
                checkpoint()

    for each in (body if kind == "sync" else body_async, in_a_cleanup):
        seen = []
        run = flow(each).start()
        until(lambda seen=seen: seen)
        run.pause()
        until(lambda run=run: run.state.is_paused())
        run.cancel()
        assert run.wait(20).state.is_cancelled()


def test_a_cancel_reaches_tasks_whose_caller_has_ended(until):
    """A task that was submitted by a task that has ended is cancelled with their flow."""

    @task
    def goes_on():
        while True:
            time.sleep(0.01)

    @task
    def submits():
        goes_on.submit()

    @flow
    def body():
        submits()

    run = body.start()
    until(lambda: len(run.tasks) == 2 and run.tasks[0].state.is_completed())
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert run.tasks[1].state.is_cancelled()


def test_a_second_cancel_reaches_what_was_called_after_the_first_was_swallowed():
    """A run that is called by one that swallowed its caller's cancel is CANCELLED, not CRASHED."""
    begun, begun_again = threading.Event(), threading.Event()

    @flow
    async def third():
        begun_again.set()
        await asyncio.sleep(3600)

    @flow
    async def second():
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await third()

    @flow
    async def first():
        await second()

    run = first.start()
    assert begun.wait(20)
    run.cancel(grace=600)
    assert begun_again.wait(20)
    hurry(run)
    assert run.wait(20).state.is_cancelled()
    (second_run,) = run.tasks
    (third_run,) = second_run.run.tasks
    assert (second_run.state.type, third_run.state.type) == ("CANCELLED", "CANCELLED")

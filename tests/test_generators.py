"""Generator tasks and flows: their values come one by one, and they run as long as that."""

import asyncio
import contextlib
import gc
import threading
import time

import pytest

from jupyter_flows import checkpoint, current_run, flow, get_run_context, runs, runtime, task

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@task
def count(n):
    """Yield some numbers, and note how it ended."""
    try:
        for i in range(n):
            print("giving", i)
            yield i
        return "all"
    finally:
        ended.append(n)


@task
async def count_async(n):
    try:
        for i in range(n):
            await asyncio.sleep(0)
            print("giving", i)
            yield i
    finally:
        await asyncio.sleep(0)
        ended.append(n)


ended = []


@pytest.fixture(autouse=True)
def _nothing_has_ended():
    ended.clear()


def states(run):
    return [each.state.type for each in run.tasks]


# -- tasks -----------------------------------------------------------------------------


def test_a_generator_task_yields_as_it_runs():
    """Values come as they are made; the task run is RUNNING from the first to the last."""

    @flow
    def takes():
        values = count(3)
        seen = [len(get_run_context().flow_run.tasks)]
        for value in values:
            seen += [value, runtime.task_run.name, runtime.flow_run.name]
            seen += states(get_run_context().flow_run)
        return seen

    run = takes.start()
    step = [None, "takes", "RUNNING"]
    assert run.result(20) == [0, 0, *step, 1, *step, 2, *step]
    assert states(run) == ["COMPLETED"]
    assert run.tasks[0].state.data == "all"
    assert [(line.source, line.message) for line in run.logs] == [
        ("count-0", f"giving {i}") for i in range(3)
    ]


def test_an_async_generator_task_yields_as_it_runs():
    """An async generator task does so in async code, several side by side too."""

    async def all_of(n):
        return [value async for value in count_async(n)]

    @flow
    async def takes():
        return await asyncio.gather(all_of(2), all_of(3))

    run = takes.start()
    assert run.result(20) == [[0, 1], [0, 1, 2]]
    assert states(run) == ["COMPLETED", "COMPLETED"]
    assert asyncio.run(takes()) == [[0, 1], [0, 1, 2]]


def test_yield_from_a_task():
    """`yield from` and `send` go through to the generator; its return value comes back."""

    @task
    def echoes():
        got = yield "first"
        while got is not None:
            got = yield got
        return "done"

    @flow
    def takes():
        def outer():
            return (yield from echoes())

        generator = outer()
        seen = [next(generator), generator.send("a"), generator.send("b")]
        with pytest.raises(StopIteration) as last:
            generator.send(None)
        return [*seen, last.value.value]

    assert takes.start().result(20) == ["first", "a", "b", "done"]


def test_what_the_caller_throws_goes_in():
    """`throw` raises in the generator, where it waits."""

    @task
    def forgives():
        while True:
            try:
                yield "next"
            except KeyError as error:
                yield f"forgiven {error}"

    @flow
    def takes():
        generator = forgives()
        next(generator)
        return generator.throw(KeyError("k"))

    assert takes.start().result(20) == "forgiven 'k'"


@pytest.mark.parametrize("how", ["break", "close", "drop"])
def test_closing_it_early_ends_the_run(how):
    """A generator that is closed, dropped or left by `break` ends its run, cleanup and all."""

    @flow
    def takes():
        if how == "break":
            for _ in count(9):
                break
        elif how == "close":
            generator = count(9)
            next(generator)
            generator.close()
        else:
            generator = count(9)
            next(generator)
            del generator
        return list(ended), states(get_run_context().flow_run)

    run = takes.start()
    assert run.result(20) == ([9], ["COMPLETED"])


def test_one_that_is_left_open_ends_with_its_caller():
    """A generator that its caller keeps, open, is closed when the caller has left its body."""

    @flow
    def takes():
        kept.append(count(9))
        return next(kept[0])

    @flow
    async def takes_async():
        kept.append(count_async(9))
        return await anext(kept[1])

    kept = []
    for each in (takes, takes_async):
        run = each.start()
        assert run.result(20) == 0
        assert states(run) == ["COMPLETED"]
    assert ended == [9, 9]


def test_an_async_one_that_is_closed_or_left_ends():
    """An async generator ends with `aclosing` at once, after a `break` before its caller does."""

    @flow
    async def takes():
        async with contextlib.aclosing(count_async(8)) as values:
            async for _ in values:
                break
        closed = list(ended)
        async for _ in count_async(9):
            break
        return closed

    for run in (takes.start(), takes.start()):
        assert run.result(20)[:1] == [8]
        assert states(run) == ["COMPLETED", "COMPLETED"]
    gc.collect()
    assert sorted(ended) == [8, 8, 9, 9]


def test_one_that_is_never_asked_never_runs():
    """A generator task of which no value is taken has no run."""

    @flow
    def takes():
        count(3)
        count_async(3)

    run = takes.start().wait(20)
    assert run.tasks == []


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_failure_is_raised_to_the_caller(kind):
    """What a generator raises reaches the caller after the values before it; the run FAILED."""

    @task
    def breaks():
        yield 1
        raise ValueError("mine")

    @task
    async def breaks_async():
        yield 1
        raise ValueError("mine")

    @flow
    def takes():
        values = breaks()
        assert next(values) == 1
        with pytest.raises(ValueError, match="mine"):
            next(values)

    @flow
    async def takes_async():
        values = breaks_async()
        assert await anext(values) == 1
        with pytest.raises(ValueError, match="mine"):
            await anext(values)

    run = (takes if kind == "sync" else takes_async).start()
    run.result(20)
    assert states(run) == ["FAILED"]


def test_a_retry_begins_anew():
    """A generator task that is retried begins anew, and its values with it, as in Prefect."""

    @task(retries=1)
    def breaks_once():
        yield current_run().attempt
        if current_run().attempt == 1:
            raise ValueError
        yield "end"

    @flow
    def takes():
        return list(breaks_once())

    run = takes.start()
    assert run.result(20) == [1, 2, "end"]
    assert run.tasks[0].attempt == 2


@pytest.mark.parametrize("where", ["in a step", "between steps"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_cancel_reaches_it(kind, where):
    """A cancel stops a generator in a step and between two; its cleanup runs, once."""

    @task
    def gives():
        try:
            for i in range(10_000):
                if where == "in a step" and i == 1:
                    begun.set()
                    time.sleep(20)
                yield i
        finally:
            ended.append("cleanup")

    @task
    async def gives_async():
        try:
            for i in range(10_000):
                if where == "in a step" and i == 1:
                    begun.set()
                    await asyncio.sleep(20)
                yield i
        finally:
            await asyncio.sleep(0)
            ended.append("cleanup")

    @flow
    def takes():
        for i in gives():
            if i == 1:
                begun.set()
                time.sleep(20)

    @flow
    async def takes_async():
        async for i in gives_async():
            if i == 1:
                begun.set()
                await asyncio.sleep(20)

    begun = threading.Event()
    run = (takes if kind == "sync" else takes_async).start()
    assert begun.wait(20)
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert states(run) == ["CANCELLED"]
    assert ended == ["cleanup"]


def test_it_is_interrupted_at_a_safe_line():
    """A generator that reaches no checkpoint is interrupted as any code of the run."""

    @task
    def spins():
        try:
            yield 1
            begun.set()
            while True:
                pass
        finally:
            ended.append("cleanup")

    @flow
    def takes():
        return list(spins())

    begun = threading.Event()
    run = takes.start()
    assert begun.wait(20)
    run.cancel(grace=0)
    assert run.wait(20).state.is_cancelled()
    assert states(run) == ["CANCELLED"]
    assert ended == ["cleanup"]


def test_a_pause_holds_it(until):
    """A run is PAUSED between two values and in a step, and goes on from there."""

    @task
    def gives():
        while not go.is_set():
            checkpoint()
            yield 1

    @flow
    def takes():
        return sum(gives())

    go = threading.Event()
    run = takes.start()
    for _ in range(20):
        until(lambda: run.state.is_running())
        run.pause()
        until(lambda: run.state.is_paused())
        run.resume()
    go.set()
    assert run.result(20) >= 0


def test_it_times_out():
    """A generator's timeout counts from its first value to its last."""

    @task(timeout_seconds=0.05)
    def slow():
        yield 1
        time.sleep(20)

    @task(timeout_seconds=0.05)
    async def slow_async():
        yield 1
        await asyncio.sleep(20)

    @flow
    def takes():
        with pytest.raises(TimeoutError):
            list(slow())

    @flow
    async def takes_async():
        with pytest.raises(TimeoutError):
            async for _ in slow_async():
                pass

    for each in (takes, takes_async):
        run = each.start()
        run.result(20)
        assert run.tasks[0].state.name == "TimedOut"


def test_a_task_in_a_generator_task():
    """What a generator task calls is its child."""

    @task
    def double(x):
        return 2 * x

    @task
    def gives():
        for i in range(2):
            yield double(i)

    @flow
    def takes():
        return list(gives())

    run = takes.start()
    assert run.result(20) == [0, 2]
    assert [each.record().parent for each in run.tasks] == [None, 0, 0]


def test_a_submitted_generator_gives_all_of_its_values():
    """`submit` of a generator task gives the list of its values, as nobody takes them singly."""

    @flow
    def submits():
        return count.submit(3).result(), count_async.submit(2).result(), count.map([1, 2]).result()

    assert submits.start().result(20) == ([0, 1, 2], [0, 1], [[0], [0, 1]])


def test_a_generator_has_no_state_to_return():
    """`return_state` of a generator is an error: its run is yet to be."""
    with pytest.raises(ValueError, match="is a generator"):
        flow(lambda: (yield))(return_state=True)

    @flow
    def calls():
        with pytest.raises(ValueError, match="Task 'count' is a generator"):
            count(3, return_state=True)

    calls.start().result(20)


def test_dependencies_of_a_generator():
    """A generator task is given futures' results, waits for others, and is named, as any."""

    @task(task_run_name="gives {n}")
    def gives(n):
        yield from range(n)

    @task
    def make():
        return 3

    @flow
    def takes():
        return list(gives(make.submit(), wait_for=[make.submit()]))

    run = takes.start()
    assert run.result(20) == [0, 1, 2]
    assert [each.name for each in run.tasks] == ["make-0", "make-1", "gives 3"]
    assert run.tasks[2].record().upstream == (0, 1)


# -- flows -----------------------------------------------------------------------------


@flow
def numbers(n: int):
    for i in range(n):
        yield current_run().flow_run.name, i


@flow
async def numbers_async(n: int):
    for i in range(n):
        await asyncio.sleep(0)
        yield i


def test_a_generator_flow():
    """A generator flow yields to its caller, is RUNNING meanwhile, and listed as a run."""
    values = numbers("2")
    assert next(values) == ("numbers", 0)
    run = runs.list(name="numbers")[0]
    assert run.state.is_running()
    assert list(values) == [("numbers", 1)]
    assert run.state.is_completed()


def test_an_async_generator_flow():
    """An async generator flow yields to async code."""

    async def main():
        return [each async for each in numbers_async(3)]

    assert asyncio.run(main()) == [0, 1, 2]
    assert runs.list(name="numbers-async")[0].state.is_completed()


def test_a_generator_subflow():
    """A generator flow called in a flow is its subflow; one that is cancelled ends it too."""

    @flow
    def outer():
        return [i for _, i in numbers(3)]

    @flow
    async def outer_async():
        return [i async for i in numbers_async(3)]

    for each in (outer, outer_async):
        run = each.start()
        assert run.result(20) == [0, 1, 2]
        assert states(run) == ["COMPLETED"]


@pytest.mark.parametrize("on", ["thread", "process"])
def test_a_generator_flow_in_the_background(on):
    """`start` of a generator flow gives the list of its values."""
    run = numbers.with_options(on=on).start(2)
    assert run.result(20) == [("numbers", 0), ("numbers", 1)]


def test_an_async_generator_flow_in_the_background(kernel_loop):
    """So does that of an async one, on every worker for async code."""
    for on in ("async", "main", "process"):
        assert numbers_async.with_options(on=on).start(2).result(20) == [0, 1]


def test_a_paused_generator_flow_yields_nothing(until):
    """A generator flow that is paused gives its next value when it goes on."""
    values = numbers(2)
    next(values)
    run = runs.list(name="numbers")[0]
    run.pause()
    until(lambda: run.state.is_paused())
    timer = threading.Timer(0.05, run.resume)
    timer.start()
    assert next(values) == ("numbers", 1)
    timer.join()
    values.close()
    assert run.state.is_completed()


def test_a_generator_task_called_alone():
    """A generator task called outside of a flow yields too."""
    assert list(count(2)) == [0, 1]


def test_a_generator_that_others_cancel_between_two_attempts_has_ended(until):
    """A time-out around the caller's loop ends a run that waits for its next attempt, too."""

    @task(retries=1, retry_delay_seconds=3600)
    async def fails():
        yield 1
        raise ValueError

    @flow
    async def takes():
        try:
            async with asyncio.timeout(3600) as timeout:
                ends.append((asyncio.get_running_loop(), timeout))
                async for _ in fails():
                    pass
        except TimeoutError:
            return "in time"

    ends = []
    run = takes.start()
    until(lambda: run.tasks and run.tasks[0].state.name == "AwaitingRetry")
    loop, timeout = ends[0]
    loop.call_soon_threadsafe(timeout.reschedule, 0)
    assert run.result(20) == "in time"
    assert run.tasks[0].state.is_crashed()


def test_what_fails_as_it_is_closed_is_not_tried_again():
    """A cleanup that fails ends the run: nobody takes the values of another attempt."""

    @task(retries=3)
    def one():
        try:
            yield 1
        finally:
            raise ValueError("no")

    @task(retries=3)
    async def one_async():
        try:
            yield 1
        finally:
            raise ValueError("no")

    @flow
    def takes():
        values = one()
        next(values)
        with pytest.raises(ValueError, match="no"):
            values.close()

    @flow
    async def takes_async():
        values = one_async()
        await anext(values)
        with pytest.raises(ValueError, match="no"):
            await values.aclose()

    for run in (takes.start(), takes_async.start()):
        assert run.wait(20).state.is_completed()
        assert states(run) == ["FAILED"]
        assert run.tasks[0].attempt == 1


def test_a_flow_that_is_cancelled_as_its_generators_are_closed_ends_after_them():
    """A cancel by others that comes meanwhile goes to the cleanup, which is still waited for."""
    closing, ends = threading.Event(), []

    @task
    async def one():
        try:
            yield 1
        finally:
            try:
                closing.set()
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.01)

    @flow
    async def leaves_open():
        values = one()
        await anext(values)
        ends.append(values)  # left open

    @flow
    async def body():
        try:
            async with asyncio.timeout(3600) as timeout:
                ends.append((asyncio.get_running_loop(), timeout))
                await leaves_open()
        except TimeoutError:
            return "in time"

    run = body.start()
    closing.wait(20)
    loop, timeout = ends[0]
    loop.call_soon_threadsafe(timeout.reschedule, 0)
    assert run.result(20) == "in time"
    subflow = run.tasks[0].run
    assert subflow.tasks[0].ended <= subflow.ended


def test_a_cancel_that_comes_as_a_generator_is_dropped_is_raised_later(monkeypatch):
    """A cancel as a generator is dropped is lost in no finalizer: it is raised after that."""

    def ask(*_):
        current_run()._life.flow_run.cancel()
        goes_on.wait(20)

    @task(on_completion=[ask], on_cancellation=[ask])
    def values():
        try:
            yield 1
        finally:
            if cancels_itself:
                ask()
                checkpoint()

    @flow
    def drops():
        for _ in values():
            break
        told.append(current_run()._life.delivered)
        goes_on.set()
        try:
            checkpoint()
        finally:
            told.append(current_run()._life.delivered)

    ignored = []
    monkeypatch.setattr("sys.unraisablehook", ignored.append)
    for cancels_itself in (False, True):
        goes_on, told = threading.Event(), []
        if cancels_itself:
            goes_on.set()
        assert drops.start().wait(20).state.is_cancelled()
        assert told == [False, True]
    assert not ignored

"""The life of a flow's runs, on every worker."""

import asyncio
import contextlib
import threading

import pytest

from jupyter_flows import (
    CancelledRun,
    CrashedRun,
    RunCancellation,
    checkpoint,
    current_run,
    flow,
    runs,
    task,
)
from jupyter_flows.engine.threads import EngineThread
from jupyter_flows.errors import AmbiguousRun, NoSuchWorker, NotInARun, UnknownRun, WouldDeadlock
from jupyter_flows.states import Cancelled, Completed, Failed, Running

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def types(run):
    return [transition.type for transition in run.transitions()]


# -- workers ---------------------------------------------------------------------------


def test_a_sync_flow_runs_on_a_thread_of_its_own():
    """`start` of a sync flow returns a run whose body is on another thread."""

    @flow
    def where():
        return threading.current_thread()

    run = where.start()
    assert run.result(20) is not threading.current_thread()
    assert run.record().on == "thread"
    assert types(run) == ["PENDING", "RUNNING", "COMPLETED"]


def test_an_async_flow_runs_on_a_loop_of_its_own(until):
    """`start` of an async flow gives it a thread and an event loop that nobody else uses."""

    @flow
    async def where():
        await asyncio.sleep(0)
        return threading.current_thread(), asyncio.get_running_loop()

    (one, loop_of_one), (other, loop_of_other) = where.start().result(20), where.start().result(20)
    assert one is not other
    assert loop_of_one is not loop_of_other
    until(loop_of_one.is_closed)


def test_a_flow_on_main_runs_on_the_kernels_loop(kernel_loop):
    """`on="main"` runs an async flow as a task of the kernel's own loop."""

    @flow(on="main")
    async def where():
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    run = where.start()
    assert run.result(20) is kernel_loop
    assert run.record().on == "main"


def test_main_needs_a_loop():
    """Without a running loop `on="main"` says so, and the run has crashed."""

    @flow(on="main")
    async def nowhere():
        """Never begins."""

    with pytest.raises(NoSuchWorker, match="needs a running event loop"):
        nowhere.start()
    assert runs.list(name="nowhere")[0].state.is_crashed()


@pytest.mark.parametrize("on", ["main", "async"])
def test_a_worker_for_other_code_is_refused(on):
    """A sync flow cannot be given to a worker for async code: the decorator says so."""
    with pytest.raises(NoSuchWorker, match="does not run sync code"):
        flow(on=on)(lambda: None)


def test_an_unknown_worker_is_refused():
    """A worker that does not exist is refused with the names of those that do."""
    with pytest.raises(NoSuchWorker, match="thread, async, process, main"):
        flow(on="cloud")(lambda: None)


def test_a_foreground_call_runs_here():
    """Calling a sync flow runs it on this thread and returns its result, as in Prefect."""

    @flow
    def here(x):
        return threading.current_thread(), x

    assert here(3) == (threading.current_thread(), 3)


def test_a_foreground_await_runs_here():
    """Awaiting an async flow runs it on this loop and returns its result."""

    @flow
    async def here(x):
        await asyncio.sleep(0)
        return asyncio.get_running_loop(), x

    async def main():
        assert await here(3) == (asyncio.get_running_loop(), 3)

    asyncio.run(main())


def test_a_run_can_be_awaited():
    """`await run` gives the result of a background run without blocking the loop."""

    @flow
    def slow():
        gate.wait(20)
        return "done"

    gate = threading.Event()

    async def main():
        run = slow.start()
        waiting = asyncio.ensure_future(run._result_async())
        await asyncio.sleep(0)
        assert not waiting.done()
        gate.set()
        assert await run == "done"
        return await waiting

    assert asyncio.run(main()) == "done"


def test_a_method_can_be_a_flow():
    """A flow that is a method is bound to its instance."""

    class Model:
        def __init__(self, rate):
            self.rate = rate

        @flow
        def train(self, steps):
            return self.rate * steps

    assert Model(2).train(3) == 6
    assert Model(2).train.start(4).result(20) == 8


# -- outcomes --------------------------------------------------------------------------


def test_the_original_exception_is_raised():
    """`result()` raises the very exception that the flow raised."""

    @flow
    def fails():
        raise error

    error = ValueError("mine")
    run = fails.start()
    with pytest.raises(ValueError, match="mine") as caught:
        run.result(20)
    assert caught.value is error
    assert run.state.is_failed()
    assert run.result(raise_on_failure=False) is error
    assert "ValueError: mine" in run.record().error.traceback
    assert "jupyter_flows/engine" not in run.record().error.traceback


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_foreground_call_raises_what_the_flow_raised(kind):
    """A foreground call raises the flow's exception where it is called."""

    @flow
    def fails():
        raise KeyError("mine")

    @flow
    async def fails_async():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fails() if kind == "sync" else asyncio.run(fails_async())


def test_return_state_gives_the_state():
    """`return_state=True` returns the final state instead of raising, as in Prefect."""

    @flow
    def fails():
        raise ValueError("mine")

    @flow
    async def works():
        return 3

    assert fails(return_state=True).is_failed()
    assert asyncio.run(works(return_state=True)).result() == 3


@pytest.mark.parametrize(
    ("value", "type_", "data"),
    [
        (None, "COMPLETED", None),
        ([1, 2], "COMPLETED", [1, 2]),
        ([], "COMPLETED", []),
        (Failed("no"), "FAILED", None),
        (Completed(data=5), "COMPLETED", 5),
        (Cancelled("enough"), "CANCELLED", None),
    ],
)
def test_what_a_flow_returns_decides_its_state(value, type_, data):
    """A returned state is the run's state; any other value is the data of COMPLETED."""

    @flow
    def returns():
        return value

    state = returns(return_state=True)
    assert (state.type, state.data) == (type_, data)


@pytest.mark.parametrize(
    ("states", "type_"),
    [
        ([Completed(), Completed()], "COMPLETED"),
        ([Completed(), Failed(data=ValueError("one"))], "FAILED"),
        ([Cancelled(), Failed()], "CANCELLED"),
    ],
)
def test_of_several_returned_states_the_worst_counts(states, type_):
    """Of returned states CANCELLED beats FAILED, and FAILED beats COMPLETED."""

    @flow
    def returns():
        return states

    assert returns(return_state=True).type == type_


def test_a_returned_state_that_is_not_final_fails_the_run():
    """A flow cannot end in a state that is no end: it has FAILED and says why."""

    @flow
    def returns():
        return Running()

    state = returns(return_state=True)
    assert state.is_failed()
    assert "not ended" in state.message


def test_a_value_that_holds_itself_is_a_value():
    """A huge or self-referring result is kept as it is, not searched for states."""

    @flow
    def returns():
        loop = [1]
        loop.append(loop)
        return loop

    result = returns.start().result(20)
    assert result[1] is result


def test_a_result_whose_text_cannot_be_made_is_a_result():
    """A result whose repr raises, prints or asks for a checkpoint does not stop the run's end."""

    class Rude:
        def __repr__(self):
            print("being shown")
            run.cancel()
            checkpoint()
            raise ValueError("no text")

    started = threading.Event()

    @flow
    def begin():
        started.wait(20)
        return Rude()

    run = begin.start()
    started.set()
    assert isinstance(run.result(20), Rude)
    assert "its text cannot be made" in run.record().result


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_nobody_asked_for_is_a_crash(error):
    """A run that is interrupted or exits is CRASHED, and a foreground call raises that again."""

    @flow
    def interrupted():
        raise error("from outside")

    run = interrupted.start().wait(20)
    assert run.state.is_crashed()
    with pytest.raises(CrashedRun):
        run.result()
    with pytest.raises(error):
        interrupted()


def test_an_interrupt_as_a_worker_is_started(monkeypatch):
    """Who starts a run is interrupted: the run goes on if it has begun, else it never does."""
    begun, go = threading.Event(), threading.Event()
    start = EngineThread.start

    @flow
    def goes_on():
        begun.set()
        go.wait(20)
        return "done"

    def interrupt(thread):
        is_worker = "goes-on" in thread.name  # the timer's may be started meanwhile
        if starts_first or not is_worker:
            start(thread)
        if is_worker:
            assert not starts_first or begun.wait(20)
            raise KeyboardInterrupt

    for starts_first in (True, False):
        with monkeypatch.context() as patched:
            patched.setattr(EngineThread, "start", interrupt)
            with pytest.raises(KeyboardInterrupt):
                goes_on.start()
        run = runs.list(name="goes-on")[0]
        if starts_first:
            assert run.state.is_running()
            go.set()
            assert run.result(20) == "done"
        else:
            assert run.state.is_crashed()


def test_an_interrupt_in_a_task_beside_the_body_is_a_crash():
    """`KeyboardInterrupt` in an asyncio task beside the body ends the run as CRASHED."""

    @flow
    async def interrupted():
        async def bad():
            raise KeyboardInterrupt

        asyncio.ensure_future(bad()).add_done_callback(lambda task: task.exception())
        await asyncio.sleep(20)

    assert interrupted.start().wait(20).state.is_crashed()


def test_a_cancelled_error_nobody_asked_for_is_a_crash():
    """A CancelledError that no cancel of the run explains makes it CRASHED."""

    @flow
    async def cancels_itself():
        asyncio.current_task().cancel()
        await asyncio.sleep(20)

    assert cancels_itself.start().wait(20).state.is_crashed()

    async def main():
        running = asyncio.ensure_future(sleeps())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    @flow
    async def sleeps():
        await asyncio.sleep(20)

    asyncio.run(main())
    assert runs.list(name="sleeps")[0].state.is_crashed()


def test_what_an_async_body_leaves_behind_ends_before_the_run():
    """Tasks that an async body started and forgot have ended, cleanup and all, when the run has."""

    @flow
    async def forgets():
        async def ticks():
            try:
                await asyncio.sleep(20)
            finally:
                await asyncio.sleep(0.01)
                print("tidied up")

        left.append(asyncio.ensure_future(ticks()))
        await asyncio.sleep(0)

    left = []
    run = forgets.start().wait(20)
    assert [line.message for line in run.logs] == ["tidied up"]
    assert run.state.is_completed()


# -- subflows --------------------------------------------------------------------------


def test_a_subflow_is_listed_in_its_parent():
    """A flow called in a flow is a run of its own, and among its caller's tasks."""

    @flow
    def inner(x):
        return x + 1

    @flow
    def outer():
        return inner(1) + inner(2)

    run = outer.start()
    assert run.result(20) == 5
    assert [each.name for each in run.tasks] == ["inner", "inner"]
    assert [each.run.record().parent for each in run.tasks] == [run.id, run.id]
    assert all(each.record().flow_run == each.run.id for each in run.tasks)


def test_an_async_subflow_is_awaited():
    """An async flow awaits other flows, side by side too."""

    @flow
    async def inner(x):
        await asyncio.sleep(0)
        return x + 1

    @flow
    async def outer():
        return await asyncio.gather(inner(1), inner(2))

    assert outer.start().result(20) == [2, 3]
    assert asyncio.run(outer()) == [2, 3]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_subflow_that_was_cancelled_cancels_its_caller(kind):
    """A flow ends CANCELLED when a subflow that it called was, unless it handled that."""

    @flow
    def inner():
        current_run().cancel()
        checkpoint()

    @flow
    async def inner_async():
        current_run().cancel()
        await asyncio.sleep(20)

    @flow
    def outer():
        inner()

    @flow
    async def outer_async():
        await inner_async()

    @flow
    def handles():
        with contextlib.suppress(CancelledRun):
            inner()

    run = (outer if kind == "sync" else outer_async).start().wait(20)
    assert run.state.is_cancelled()
    assert run.cancel_reason is None
    assert handles.start().wait(20).state.is_completed()


# -- waiting ---------------------------------------------------------------------------


def test_code_of_a_run_does_not_wait_for_its_end(until):
    """It is refused in the body, a task or a subflow; a thread beside the body may wait."""
    watched = []

    def waits(own):
        return own.result()

    @flow
    def outer(how):
        own = current_run().flow_run
        if how is None:
            threading.Thread(target=lambda: watched.append(own.wait())).start()
        else:
            how(own)

    @flow
    async def awaits():
        await current_run().flow_run

    started = [outer.start(how) for how in (waits, task(waits), task(waits).submit, flow(waits))]
    for run in (*started[:2], started[3], awaits.start()):
        with pytest.raises(WouldDeadlock, match="itself, which comes after it"):
            run.result(20)
    assert isinstance(started[2].wait(20).task_runs[0].state.data, WouldDeadlock)
    run = outer.start(None)
    until(lambda: watched == [run])


def test_waiting_can_be_given_up():
    """`wait` and `result` with a timeout come back in time; the run goes on."""

    @flow
    def slow():
        go.wait(20)
        return 1

    go = threading.Event()
    run = slow.start()
    assert run.wait(0.01) is run
    with pytest.raises(TimeoutError, match="goes on"):
        run.result(0.01)
    go.set()
    assert run.result(20) == 1


def test_runs_are_found_by_the_beginning_of_their_id():
    """A unique beginning of an id is an id; an ambiguous or unknown one is an error."""

    @flow(tags=["findable"])
    def found():
        return 1

    run = found.start().wait(20)
    assert runs.get(run.id[:18]) is run
    assert runs.list(tag="findable", state="COMPLETED")[0] is run
    assert runs.list(tag="findable", state="FAILED") == []
    assert runs.list(limit=0) == []
    with pytest.raises(UnknownRun):
        runs.get("no such run")
    with pytest.raises(UnknownRun):
        runs.get("")
    for _ in range(17):  # more runs than an id's first digit can tell apart
        found.start().wait(20)
    firsts = [each.id[0] for each in runs.list(limit=1000)]
    with pytest.raises(AmbiguousRun, match="give more of it"):
        runs.get(next(first for first in firsts if firsts.count(first) > 1))


def test_current_run_is_of_runs():
    """`current_run()` outside of a run is an error that says so."""
    with pytest.raises(NotInARun, match="only inside a running flow"):
        current_run()


def test_a_cancelled_run_says_so():
    """The result of a cancelled run raises CancelledRun, an ordinary exception."""

    @flow
    def cancelled():
        current_run().cancel()
        try:
            checkpoint()
        except RunCancellation as cancellation:
            reasons.append(cancellation.reason)
            raise

    reasons = []
    with pytest.raises(CancelledRun, match="by the user"):
        cancelled.start().result(20)
    assert reasons == ["user"]


@task
def _double(x):
    return 2 * x


def test_a_run_is_not_kept_for_ever():
    """Of ended runs the newest are kept, older ones are let go, and long logs of old ones too."""
    from jupyter_flows.engine import logs, registry

    @flow
    def prints():
        for i in range(logs.HELD_AFTER + 10):
            print(i)

    first = prints.start().wait(20)
    assert len(first.logs) == logs.HELD_AFTER + 10
    for _ in range(registry.KEPT_WHOLE):
        _double(1)
    assert len(first.logs) == logs.HELD_AFTER
    assert first.record().log_first == 10
    for _ in range(registry.KEPT):
        _double(1)
    assert registry.find(first.id) is None


def test_options_that_make_no_sense():
    """Options are checked where they are written."""
    for options in (
        {"timeout_seconds": 0},
        {"timeout_seconds": "x"},
        {"retries": -1},
        {"retries": 1.5},
        {"retry_delay_seconds": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            flow(**options)(lambda: None)
    for decorate in (flow, task):
        for options in ({"name": 3}, {"tags": 3}):
            with pytest.raises(TypeError, match=next(iter(options))):
                decorate(**options)(lambda: None)


def test_a_value_whose_text_cannot_be_made():
    """A result whose `repr` ends the program does not decide how its run ended."""

    class Bad:
        def __repr__(self):
            raise SystemExit

    @flow
    def gives(bad):
        return bad

    run = gives.start(Bad()).wait(10)
    assert run.state.is_completed()


def test_return_state_of_a_task():
    """A task called with `return_state=True` gives its state, as in Prefect."""

    @task
    def fails():
        raise LookupError("x")

    @flow
    def looks():
        return fails(return_state=True).name

    assert looks() == "Failed"

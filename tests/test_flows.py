"""The life of a flow's runs, on every worker."""

import asyncio
import contextlib
import threading
import time

import pytest

from jupyter_flows import (
    CancelledRun,
    CrashedRun,
    Flow,
    ParameterError,
    RunCancellation,
    StateType,
    checkpoint,
    current_run,
    flow,
    get_run_context,
    runs,
    task,
)
from jupyter_flows.engine.executors import callers_loop
from jupyter_flows.errors import AmbiguousRun, NoSuchWorker, NotInARun, UnknownRun
from jupyter_flows.states import Cancelled, Completed, Failed, Running

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def types(run):
    return [transition.type for transition in run.transitions()]


@pytest.fixture
def kernel_loop():
    """An event loop on a thread of its own, as a kernel's is, that `on="main"` runs on."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="kernel loop")
    thread.start()
    callers_loop.main_loop = loop
    yield loop
    callers_loop.main_loop = None
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


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


# -- parameters ------------------------------------------------------------------------


def test_parameters_are_converted():
    """Parameters are converted to their annotations, defaults filled in, as in Prefect."""

    @flow
    def takes(day: int, rate: float = 0.5, *rest, name="x", **more):
        return day, rate, rest, name, more

    assert takes("3", name="y", other=1) == (3, 0.5, (), "y", {"other": 1})
    assert takes("3", "1.5", 7, 8) == (3, 1.5, (7, 8), "x", {})


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "missing a required argument: 'day'"),
        ((1, 2), {}, "too many"),
        ((1,), {"nigth": 3}, "nigth"),
        (("soon",), {}, "day: Input should be a valid integer"),
    ],
)
def test_wrong_parameters_start_nothing(args, kwargs, says):
    """A call with wrong parameters raises one error that says what is wrong; nothing has run."""

    @flow
    def never(day: int):
        began.append(day)

    began = []
    before = len(runs.list(name="never"))
    for call in (never, never.start):
        with pytest.raises(ParameterError, match=says):
            call(*args, **kwargs)
    assert not began
    assert len(runs.list(name="never")) == before


def test_a_parameter_may_be_called_anything():
    """Parameters named as pydantic's own attributes, or `self`-like words, are parameters."""

    @flow
    def odd(model_fields: int, copy: int, json: int = 3, schema: int = 4):
        return model_fields + copy + json + schema

    assert odd("1", copy="2") == 10


def test_parameters_can_be_left_alone():
    """`validate_parameters=False` gives the function what it was called with."""

    @flow(validate_parameters=False)
    def takes(day: int):
        return day

    assert takes("3") == "3"


def test_parameters_are_kept_as_they_came():
    """The record shows the parameters as they were before the body changed them."""

    @flow
    def changes(rows: list):
        rows.append(2)

    run = changes.start([1]).wait(20)
    assert run.record().parameters == {"rows": "[1]"}


def test_a_runs_name_can_be_a_template():
    """`flow_run_name` names each run by its parameters."""

    @flow(flow_run_name="etl-{day}", tags=["demo"])
    def etl(day: str):
        return get_run_context().tags

    run = etl.start("monday")
    assert run.result(20) == {"demo"}
    assert run.name == "etl-monday"
    assert repr(run) == "<FlowRun 'etl-monday'>"


def test_options_can_be_changed():
    """`with_options` gives the same flow with other options and leaves the first as it was."""

    @flow(retries=1, name="first")
    def fails():
        attempts.append(current_run().attempt)
        raise ValueError

    attempts = []
    assert fails.with_options(retries=0, name="second").start().wait(20).name == "second"
    assert attempts == [1]
    fails.start().wait(20)
    assert attempts == [1, 1, 2]


def test_what_is_no_function_is_refused():
    """`@flow` on something that cannot be called, or with fewer than no retries, is refused."""
    with pytest.raises(TypeError, match="decorates a function"):
        Flow(3)
    with pytest.raises(ValueError, match="retries must be 0 or more"):
        flow(retries=-1)(lambda: None)


# -- retries and timeouts --------------------------------------------------------------


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


def test_the_delays_of_retries():
    """The delay is one number, one for each attempt, or what a function of `retries` says."""
    from jupyter_flows.engine.runs import Options

    def delays(**options):
        made = Options(retries=3, **options)
        return [made.retry_delay(attempt) for attempt in (1, 2, 3)]

    assert delays() == [0, 0, 0]
    assert delays(retry_delay_seconds=2) == [2, 2, 2]
    assert delays(retry_delay_seconds=[1, 5]) == [1, 5, 5]
    assert delays(retry_delay_seconds=lambda n: [i * n for i in range(n)]) == [0, 3, 6]


def test_a_delay_that_cannot_be_had_fails_the_run():
    """A function of delays that raises makes the run FAILED with that, and it ends."""

    @flow(retries=1, retry_delay_seconds=lambda retries: 1 / 0)
    def fails():
        raise ValueError

    with pytest.raises(ZeroDivisionError):
        fails.start().result(20)


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
    assert [line.message for line in run.logs] == ["half a line"]


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


# -- waiting ---------------------------------------------------------------------------


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
    """Options are checked where they are written, and generators are refused."""
    for options in (
        {"timeout_seconds": 0},
        {"timeout_seconds": "x"},
        {"retries": -1},
        {"retries": 1.5},
        {"retry_delay_seconds": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            flow(**options)(lambda: None)

    def counting():
        yield 1

    for decorator in (flow, task):
        with pytest.raises(TypeError, match="return a list"):
            decorator(counting)


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

"""Flows as Prefect's users write them, with ``jupyter_flows`` in the import lines."""

import asyncio
import importlib
import threading
from datetime import UTC, datetime

import pytest

import jupyter_flows
from jupyter_flows import flow, get_run_logger, pause_flow_run, resume_flow_run, task, unmapped
from jupyter_flows.context import FlowRunContext, TaskRunContext, get_run_context
from jupyter_flows.exceptions import MissingContextError, PrefectException, UnfinishedRun
from jupyter_flows.futures import PrefectFuture, PrefectFutureList, as_completed, wait
from jupyter_flows.logging import disable_run_logger, get_logger
from jupyter_flows.settings import PREFECT_UI_URL
from jupyter_flows.states import Completed, Failed
from jupyter_flows.tasks import task_input_hash
from jupyter_flows.utilities.asyncutils import run_sync_in_worker_thread
from jupyter_flows.utilities.processutils import run_process

pytestmark = pytest.mark.usefixtures("nothing_is_left")

NAMES = {
    "": "flow task Flow Task State get_run_logger tags unmapped allow_failure pause_flow_run "
    "resume_flow_run apause_flow_run aresume_flow_run runtime",
    "context": "get_run_context FlowRunContext TaskRunContext tags",
    "exceptions": "CancelledRun CrashedRun FailedRun MissingResult FlowPauseTimeout "
    "NotPausedError ReservedArgumentError UpstreamTaskError MappingLengthMismatch "
    "MappingMissingIterable MissingContextError ParameterTypeError ParameterBindError "
    "PrefectException UnfinishedRun ObjectNotFound",
    "flow_runs": "pause_flow_run resume_flow_run",
    "flows": "Flow flow",
    "futures": "PrefectFuture PrefectFutureList as_completed wait",
    "logging": "get_run_logger get_logger disable_run_logger",
    "runtime": "flow_run task_run",
    "states": "State StateType Completed Failed Cancelled Crashed Pending Running Scheduled "
    "Paused Cancelling AwaitingRetry Retrying",
    "task_runners": "ThreadPoolTaskRunner ConcurrentTaskRunner",
    "tasks": "Task task",
    "utilities.annotations": "unmapped allow_failure quote",
    "utilities.asyncutils": "run_sync_in_worker_thread",
    "utilities.processutils": "run_process",
    "utilities.timeout": "timeout timeout_async",
}


@pytest.mark.parametrize("module", NAMES)
def test_the_names_are_where_they_are_in_prefect(module):
    """What needs no server can be imported from where Prefect has it."""
    found = importlib.import_module(f"jupyter_flows{'.' if module else ''}{module}")
    missing = [name for name in NAMES[module].split() if not hasattr(found, name)]
    assert not missing


def test_a_flow_that_waits_for_approval(until):
    """A flow sends word of itself with its id, is approved by that, and logs all of its steps."""

    def address():
        run = get_run_context().flow_run
        return f"{PREFECT_UI_URL.value() or 'http://here'}/runs/{run.dict().get('id')}"

    @task
    def prepare():
        get_run_logger().info("preparing")

    @task
    def deploy():
        get_run_logger().info("deploying %s", model)

    @flow
    def asks_first(name: str = "a model") -> None:
        logger = get_run_logger()
        prepare()
        sent.append(f"{name} is ready: {address()}")
        pause_flow_run(timeout=600)
        logger.info("approved")
        deploy()

    model, sent = "m1", []
    run = asks_first.start()
    until(lambda: run.state.is_paused())
    assert sent == [f"a model is ready: http://here/runs/{run.id}"]
    resume_flow_run(sent[0].rpartition("/")[2])
    assert run.wait(20).state.is_completed()
    assert [line.message for line in run.logs if line.source != "flow"] == [
        "preparing",
        "deploying m1",
    ]
    assert "approved" in [line.message for line in run.logs]


def test_the_context_of_a_run():
    """The context knows the flow run and the task run; outside of runs there is none."""

    @task
    def look():
        context = get_run_context()
        assert TaskRunContext.get().task_run is context.task_run
        return context.task_run.dict()["name"], context.flow_run.name, context.task_run.id

    @flow
    def looks():
        assert TaskRunContext.get() is None
        assert FlowRunContext.get().flow_run.id == get_run_context().flow_run.id
        return look()

    run = looks.start()
    assert run.result(20) == ("look-0", "looks", run.tasks[0].id)
    assert FlowRunContext.get() is None
    with pytest.raises(MissingContextError):
        get_run_context()
    with pytest.raises(RuntimeError):
        get_run_logger()


def test_prints_of_a_flow_and_what_it_calls():
    """Prints of a flow, its tasks and their helpers are logged, save where a task says no."""

    def helper():
        print("from a helper")

    @task
    def says():
        print("from a task")
        helper()

    @task(log_prints=False)
    def keeps_quiet():
        print("a secret")
        helper()

    @flow(log_prints=True)
    def talks():
        print("from a flow")
        says()
        keeps_quiet()

    run = talks.start().wait(20)
    assert [line.message for line in run.logs] == ["from a flow", "from a task", "from a helper"]


def test_mapping_and_waiting():
    """Futures of `map` and `submit` are waited for, all or one by one."""

    @task
    def multiply(x, by):
        return x * by

    @flow
    def maps(numbers: list[int]):
        futures = multiply.map(numbers, by=unmapped(10))
        assert isinstance(futures, PrefectFutureList)
        assert isinstance(futures[0], PrefectFuture)
        futures.wait()
        done, not_done = wait(futures, timeout=10)
        assert (len(done), len(not_done)) == (len(numbers), 0)
        assert {future.task_run_id for future in as_completed(futures)} == {
            each.id for each in get_run_context().flow_run.tasks
        }
        return multiply.map(futures, 2).result()

    assert maps.start(["1", "2", "3"]).result(20) == [20, 40, 60]


def test_a_list_that_a_task_returned_is_mapped_over():
    """`map` over the future of a list is over the list's elements, as in Prefect."""

    @task
    def numbers():
        return [1, 2, 3]

    @task
    def add(x, y):
        return x + y

    @flow
    def maps():
        return add.map(numbers.submit(), unmapped(numbers())).wait(), add.map(
            numbers.submit(), 1
        ).result()

    with pytest.raises(TypeError):  # an int and a list
        jupyter_flows.flow(lambda: add.map(numbers.submit(), unmapped(numbers())).result())()
    assert maps.start().result(20) == (None, [2, 3, 4])


def test_results_of_a_list_of_futures():
    """`result` of a list raises the first failure at once, or returns each in its place."""

    @task
    def works(x):
        if x == "bad":
            raise ValueError(x)
        if x == "slow":
            go.wait(20)
        return x

    @flow
    def maps():
        futures = works.map(["slow", "bad"])
        with pytest.raises(ValueError, match="bad"):
            futures.result()
        with pytest.raises(TimeoutError, match="1 futures have not ended"):
            futures.result(timeout=0.05, raise_on_failure=False)
        go.set()
        slow, bad = futures.result(raise_on_failure=False)
        return slow, str(bad)

    go = threading.Event()
    assert maps.start().result(20) == ("slow", "bad")


def test_states_as_results():
    """A task returns a state of its own making; a flow returns the states of its tasks."""

    @task
    def decides(ok):
        return Completed(message="fine", data=1) if ok else Failed(message="not fine")

    @flow
    def returns():
        states = [decides(ok, return_state=True) for ok in (True, False)]
        assert [state.message for state in states] == ["fine", "not fine"]
        return states

    state = returns(return_state=True)
    assert state.is_failed()
    assert "1/2 states failed" in state.message


def test_async_tasks_and_blocking_code():
    """An async task awaits blocking code on a thread, commands, and other tasks."""

    @task
    async def waits():
        return await run_sync_in_worker_thread(sum, [1, 2])

    @task
    async def commands():
        await run_process(["echo", "hello"], stream_output=True)

    @flow
    async def awaits():
        three, _ = await asyncio.gather(waits(), commands())
        return three

    run = awaits.start()
    assert run.result(20) == 3
    assert "hello" in [line.message for line in run.logs]


def test_subflows():
    """Flows call flows, with parameters that are converted, and have their results."""

    @task
    def shout(text):
        return text.upper()

    @flow
    def inner(text: str):
        return shout(text)

    @flow(name="Outer Flow", description="calls", version="1")
    def outer():
        return inner("a") + inner(text="b")

    run = outer.start()
    assert run.result(20) == "AB"
    assert (outer.description, outer.version, run.flow_name) == ("calls", "1", "Outer Flow")


def test_errors_are_caught_as_in_prefect():
    """What is asked too early, or made wrong, raises what Prefect's users catch."""

    @task
    def waits():
        go.wait(20)

    @flow
    def asks():
        future = waits.submit()
        try:
            with pytest.raises(UnfinishedRun):
                future.state.result()
        finally:
            go.set()
        with pytest.raises(PrefectException, match="of one length"):
            waits.map([1], [2, 3])
        with pytest.raises(ValueError, match="must be 0 seconds or more"):
            list(as_completed([future], timeout=-1))

    go = threading.Event()
    asks.start().result(20)
    assert get_logger("mine").name == "jupyter_flows.mine"


@pytest.mark.parametrize("on", ["thread", "process"])
def test_what_hooks_and_names_ask_of_a_run(on):
    """Runs of flows and tasks have Prefect's names for their state, attempts and times."""

    def describe(_, run, state):
        assert (run.state_name, run.state_type) == ("Completed", state.type)
        assert run.start_time <= run.end_time <= datetime.now(UTC)
        assert run.total_run_time == run.end_time - run.start_time
        print(run.flow_run_id, run.run_count)

    @task(on_completion=[describe], retries=1)
    def asks(x):
        context = get_run_context()
        assert context.task.name == "asks"
        assert context.parameters == {"x": x}
        assert context.start_time <= datetime.now(UTC)
        assert context.task_run.end_time is None
        if context.task_run.run_count == 1:
            raise ValueError

    @flow(name="is-asked", on_completion=[describe], on=on)
    def is_asked(y):
        asks(y + 1)
        context = get_run_context()
        assert context.task is None
        assert context.parameters == {"y": y}
        if on == "process":
            with pytest.raises(MissingContextError, match="in the kernel"):
                assert context.flow
        else:
            assert context.flow is is_asked

    run = is_asked.start(1).wait(20)
    assert run.state.is_completed(), run.state
    assert [line.message for line in run.logs.filter(level="INFO")] == [
        "Failed, retry 1 of 1 begins at once: ValueError: ",
        f"{run.id} 2",
        f"{run.id} 1",
    ]


def test_a_key_within_a_flow_run():
    """A `cache_key_fn` made of the flow run's id keeps results within the flow run."""

    def within_the_flow_run(context, parameters):
        return f"{context.task_run.flow_run_id}-{task_input_hash(context, parameters)}"

    @task(cache_key_fn=within_the_flow_run)
    def counts(x):
        called.append(x)

    @flow
    def calls():
        counts(1)
        counts(1)
        counts(2)

    called = []
    for _ in range(2):
        assert calls.start().wait(20).state.is_completed()
    assert called == [1, 2, 1, 2]


def test_a_test_calls_the_function_of_a_task():
    """With `disable_run_logger` what logs can be called outside of runs, and logs nothing."""

    @task
    def logs():
        get_run_logger().info("never")
        return 42

    with disable_run_logger():
        assert logs.fn() == 42
        assert len(flow(logs.fn).start().wait(20).logs) == 0
    with pytest.raises(MissingContextError):
        logs.fn()
    assert len(flow(logs.fn).start().wait(20).logs) == 1

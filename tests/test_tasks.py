"""Tasks: called, submitted, mapped, gathered and nested; waited for in every way."""

import asyncio
import contextlib
import signal
import threading
import time

import pytest

from jupyter_flows import (
    CancelledRun,
    RunCancellation,
    Task,
    UpstreamTaskError,
    as_completed,
    checkpoint,
    current_run,
    flow,
    get_run_context,
    task,
    unmapped,
    wait,
)
from jupyter_flows.engine import registry, threads
from jupyter_flows.engine.stacks import stack_of
from jupyter_flows.errors import NotInARun

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@task
def add(x, y=0):
    return x + y


@task
async def add_async(x, y=0):
    await asyncio.sleep(0)
    return x + y


@task
def fails(message="mine"):
    raise ValueError(message)


# -- calls -----------------------------------------------------------------------------


def test_a_task_called_in_a_flow_runs_here():
    """A task that is called runs in its caller's thread, as a task run of the flow."""

    @task
    def where():
        return threading.current_thread(), get_run_context().task_run

    @flow
    def calls():
        return threading.current_thread(), where()

    run = calls.start()
    here, (there, task_run) = run.result(20)
    assert here is there
    assert run.tasks == [task_run]
    assert task_run.name == "where-0"
    assert repr(task_run) == "<TaskRun 'where-0'>"
    assert [state.type for state in task_run.states] == ["PENDING", "RUNNING", "COMPLETED"]


def test_tasks_are_numbered_within_their_run():
    """The task runs of each run are numbered from 0, so that a notebook run again looks alike."""

    @flow
    def calls():
        add(1)
        add(2)
        add_async.submit(3)

    for _ in range(2):
        assert [each.name for each in calls.start().wait(20).tasks] == [
            "add-0",
            "add-1",
            "add_async-0",
        ]


def test_a_task_called_outside_of_a_flow_runs():
    """A task called alone runs like a flow of its own and returns its result."""
    assert add(1, 2) == 3
    assert asyncio.run(add_async(1, 2)) == 3
    with pytest.raises(ValueError, match="mine"):
        fails()


def test_async_tasks_are_gathered():
    """Async tasks run side by side in their flow's loop, each a task run of its own."""

    @flow
    async def gathers():
        return await asyncio.gather(*(add_async(i, 1) for i in range(20)))

    run = gathers.start()
    assert run.result(20) == list(range(1, 21))
    assert len(run.tasks) == 20
    assert all(each.state.is_completed() for each in run.tasks)


def test_tasks_call_tasks():
    """A task called in a task is its child; both are listed in the flow."""

    @task
    def outer(x):
        return add(x, 1) + add_later.submit(x).result()

    @task
    def add_later(x):
        return add(x, 2)

    @flow
    def calls():
        return outer(10)

    run = calls.start()
    assert run.result(20) == 23
    records = [each.record() for each in run.tasks]
    assert [(record.name, record.parent) for record in records] == [
        ("outer-0", None),
        ("add-0", 0),
        ("add_later-0", 0),
        ("add-1", 2),
    ]


def test_a_task_raises_what_it_raised():
    """A failed task raises its own exception in its caller, called or submitted."""

    @flow
    def calls():
        with contextlib.suppress(ValueError):
            fails()
        future = fails.submit("later")
        with pytest.raises(ValueError, match="later"):
            future.result()
        return future.result(raise_on_failure=False)

    run = calls.start()
    assert isinstance(run.result(20), ValueError)
    assert [each.state.type for each in run.tasks] == ["FAILED", "FAILED"]


def test_a_task_is_retried_and_timed_out():
    """A task has retries and a timeout of its own, by which its flow is not touched."""

    @task(retries=2, retry_delay_seconds=0.01)
    def at_last():
        attempts.append(current_run().attempt)
        if len(attempts) < 3:
            raise ValueError
        return "ok"

    @task(timeout_seconds=0.05)
    def slow():
        time.sleep(20)

    @task(timeout_seconds=0.05)
    async def slow_async():
        await asyncio.sleep(20)

    @flow
    def calls():
        for how in (slow, lambda: slow.submit().result(), lambda: slow_async.submit().result()):
            with pytest.raises(TimeoutError):
                how()
        return at_last()

    @flow
    async def awaits():
        with pytest.raises(TimeoutError):
            await slow_async()
        return await asyncio.sleep(0, "ok")

    attempts = []
    run = calls.start()
    assert run.result(20) == "ok"
    assert attempts == [1, 2, 3]
    assert [each.state.name for each in run.tasks] == ["TimedOut"] * 3 + ["Completed"]
    assert awaits.start().result(20) == "ok"


def test_a_task_that_was_cancelled_cancels_its_flow():
    """A flow that waited for a cancelled task ends CANCELLED, unless it handled that itself."""

    @task
    def waits():
        while True:
            time.sleep(0.01)

    @flow
    def lets_it_pass():
        future = waits.submit()
        future.cancel()
        future.result()

    @flow
    def handles():
        future = waits.submit()
        assert future.cancel()
        assert not future.cancel()
        with contextlib.suppress(CancelledRun):
            future.result()
        return "handled"

    run = lets_it_pass.start().wait(20)
    assert run.state.is_cancelled()
    assert run.cancel_reason is None
    assert handles.start().result(20) == "handled"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_submitted_task_can_be_cancelled_alone(kind):
    """Cancelling a future stops that task where it waits, and no other."""

    @task
    def sleeps():
        begun.release()
        time.sleep(20)

    @task
    async def sleeps_async():
        begun.release()
        await asyncio.sleep(20)

    @flow
    def submits():
        task_ = sleeps if kind == "sync" else sleeps_async
        futures = [task_.submit() for _ in range(2)]
        for _ in futures:
            begun.acquire(timeout=20)
        futures[0].cancel()
        futures[0].wait()
        states = [future.state.type for future in futures]
        futures[1].cancel()
        futures[1].wait()
        return [*states, futures[1].state.type]

    begun = threading.Semaphore(0)
    assert submits.start().result(20) == ["CANCELLED", "RUNNING", "CANCELLED"]


# -- submit ----------------------------------------------------------------------------


def test_a_submitted_task_runs_on_another_thread():
    """`submit` returns at once a future whose task runs on a thread of the run's own."""

    @task
    def where():
        return threading.current_thread()

    @flow
    def submits():
        return threading.current_thread(), where.submit().result()

    here, there = submits.start().result(20)
    assert here is not there


def test_only_futures_are_waited_for_together():
    """`wait` and `as_completed` say so when they are given a run."""

    @flow
    def waits():
        for wait_for in (wait, lambda those: list(as_completed(those))):
            with pytest.raises(TypeError, match=r"Futures can be waited for .*of its own"):
                wait_for([add.submit(1), current_run().flow_run])

    waits.start().result(20)


def test_submitting_outside_of_a_flow_is_an_error():
    """`submit` outside of a run says that it needs a flow."""
    with pytest.raises(NotInARun, match="only inside a flow"):
        add.submit(1)


def test_futures_are_resolved():
    """A future given to a task, in lists and dicts too, arrives as its result."""

    @task
    def total(rows, more):
        return sum(rows) + sum(more.values())

    @flow
    def submits():
        one, two = add.submit(1), add.submit(2)
        return total.submit([one, (3, two)[1]], more={"x": one}).result()

    assert submits.start().result(20) == 4


def test_a_failed_future_fails_what_it_is_given_to():
    """A task that is given a failed future does not begin, and says whose failure it was."""

    @task
    def never(x):
        began.append(x)

    @flow
    def submits():
        never.submit(fails.submit()).result()

    began = []
    with pytest.raises(UpstreamTaskError, match="never-0 was not run, as fails-0") as caught:
        submits.start().result(20)
    assert str(caught.value.__cause__) == "mine"
    assert not began


def test_returned_futures_are_waited_for():
    """A flow that returns futures ends as they do, sync or async."""

    @flow
    def submits():
        return [add.submit(1), fails.submit()]

    @flow
    async def submits_async():
        return [add_async.submit(1), add.submit(2)]

    assert submits(return_state=True).is_failed()
    state = asyncio.run(submits_async(return_state=True))
    assert [future.result() for future in state.data] == [1, 2]


def test_a_run_waits_for_what_it_submitted():
    """A run ends after all its submitted tasks, those that tasks submitted too."""

    @task
    def first():
        second.submit()
        go.wait(20)

    @task
    def second():
        third.submit()
        go.wait(20)

    @task
    def third():
        go.wait(20)
        ended.append(3)

    @flow
    def submits():
        first.submit()

    go, ended = threading.Event(), []
    run = submits.start()
    run.wait(0.05)
    assert not run.state.is_final()
    go.set()
    run.wait(20)
    assert ended == [3]
    assert all(each.state.is_completed() for each in run.tasks)


def test_a_cancel_after_the_body_reaches_the_tasks(until):
    """A run that only waits for its tasks any more is CANCELLED when they are, by its cancel."""

    @task
    def sleeps():
        time.sleep(20)

    @flow
    def submits():
        sleeps.submit()

    @flow
    async def submits_async():
        sleeps.submit()

    for each in (submits, submits_async):
        run = each.start()
        until(lambda run=run: run.tasks and run.tasks[0].state.is_running())
        assert run.cancel()
        assert run.wait(20).state.is_cancelled()
        assert run.tasks[0].state.is_cancelled()


def test_an_interrupted_foreground_flow_takes_its_tasks_along():
    """`KeyboardInterrupt` in a foreground flow cancels its tasks instead of waiting for them."""

    @task
    def sleeps():
        begun.set()
        time.sleep(20)

    @flow
    def submits():
        sleeps.submit()
        begun.wait(20)
        raise KeyboardInterrupt

    begun = threading.Event()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        submits()
    assert time.monotonic() - start < 10


def test_what_is_submitted_after_the_end_leaves_no_thread(until):
    """A thread that a run has left behind can submit a task, whose thread ends with it."""

    def later():
        ended.wait(20)
        results.append(add.submit(1, 2).result())

    @flow
    def leaves():
        threading.Thread(target=later).start()

    ended, results = threading.Event(), []
    leaves.start().wait(20)
    ended.set()
    until(lambda: results == [3])


def test_nested_submits_do_not_deadlock():
    """However deep tasks wait for tasks that they submitted, each has a thread to run on."""

    @task
    def depth(n):
        return 0 if n == 0 else 1 + depth.submit(n - 1).result()

    @flow
    def submits():
        return depth.submit(60).result()

    assert submits.start().result(30) == 60


def test_threads_are_reused_within_a_run():
    """Tasks one after another share a thread; those at one time do not."""

    @task
    def where():
        return threading.get_ident()

    @task
    def together():
        barrier.wait(20)
        return threading.get_ident()

    @flow
    def submits():
        one_by_one = {where.submit().result() for _ in range(50)}
        futures = [together.submit() for _ in range(5)]
        return one_by_one, {future.result() for future in futures}

    barrier = threading.Barrier(5)
    one_by_one, at_once = submits.start().result(20)
    assert len(one_by_one) < 25  # a thread is idle a moment after its task has ended
    assert len(at_once) == 5


def test_more_tasks_than_threads_take_turns(monkeypatch):
    """Beyond the most threads a run has, tasks wait for a thread and all of them run."""
    monkeypatch.setattr(threads, "MOST", 3)

    @task
    def work(i):
        with lock:
            at_work.append(1)
            most[0] = max(most[0], len(at_work))
        checkpoint()
        with lock:
            at_work.pop()
        return i

    @flow
    def submits():
        return [future.result() for future in work.map(range(40))]

    lock, at_work, most = threading.Lock(), [], [0]
    assert submits.start().result(20) == list(range(40))
    assert most[0] <= 3


def test_threads_end_with_the_run(alive, until):
    """After 500 runs with tasks no thread and no file descriptor of any of them is left."""
    import psutil

    @flow
    def submits():
        return add.submit(1).result() + add(1)

    @flow
    async def submits_async():
        return add_async.submit(1).result() + await add_async(1)

    process = psutil.Process()
    submits_async.start().wait(20)
    until(lambda: not alive())
    before = process.num_fds() if hasattr(process, "num_fds") else 0
    for _ in range(25):
        runs = [(submits, submits_async)[i % 2].start() for i in range(20)]
        assert {run.result(20) for run in runs} == {2}
    until(lambda: not alive())
    assert not before or process.num_fds() <= before


def test_a_thread_that_cannot_be_started_fails_the_task(monkeypatch):
    """When no thread can be started, `submit` raises, the task has crashed and the run ends."""

    def start(thread):
        raise RuntimeError("can't start new thread")

    @flow
    def submits():
        with monkeypatch.context() as patch:
            patch.setattr(threads.EngineThread, "start", start)
            with pytest.raises(RuntimeError, match="can't start"):
                add.submit(1)
        return add.submit(2).result()

    run = submits.start()
    assert run.result(20) == 2
    assert [each.state.type for each in run.tasks] == ["CRASHED", "COMPLETED"]


# -- map -------------------------------------------------------------------------------


def test_map():
    """`map` submits a task for each element, side by side; texts and `unmapped` stay whole."""

    @task
    def join(*parts, end):
        return (*parts, end)

    @flow
    def maps():
        return [f.result() for f in join.map([1, 2], "ab", unmapped([3]), end=iter("xy"))]

    assert maps.start().result(20) == [(1, "ab", [3], "x"), (2, "ab", [3], "y")]


@pytest.mark.parametrize("columns", [([1], [1, 2]), (1, "text")])
def test_map_needs_one_length(columns):
    """`map` over arguments of different lengths, or none, is an error and submits nothing."""

    @flow
    def maps():
        with pytest.raises(ValueError, match="of one length"):
            add.map(*columns)

    run = maps.start().wait(20)
    assert run.state.is_completed()
    assert run.tasks == []


# -- waiting ---------------------------------------------------------------------------


def test_wait_tells_done_from_not_done():
    """`wait` returns those that have ended and those that have not, in time."""

    @task
    def waits():
        go.wait(20)

    @flow
    def submits():
        futures = [waits.submit(), add.submit(1)]
        done, not_done = wait(futures, timeout=0.1)
        go.set()
        both = wait(futures)
        return [done, not_done], [both.done, both.not_done], futures

    go = threading.Event()
    first, second, (slow, quick) = submits.start().result(20)
    assert first == [[quick], [slow]]
    assert sorted(second[0], key=id) == sorted([quick, slow], key=id)
    assert second[1] == []


def test_as_completed_yields_in_the_order_of_their_ends():
    """`as_completed` yields each future as its task ends."""

    @task
    def waits(i):
        gates[i].wait(20)
        return i

    @flow
    def submits():
        futures = [waits.submit(i) for i in range(3)]
        found = []
        gates[2].set()
        for future in as_completed(futures):
            found.append(future.result())
            gates[{2: 0, 0: 1, 1: 1}[future.result()]].set()
        return found

    gates = [threading.Event() for _ in range(3)]
    assert submits.start().result(20) == [2, 0, 1]


def test_as_completed_gives_up_in_time():
    """`as_completed` with a timeout raises TimeoutError for what has not ended."""

    @task
    def waits():
        go.wait(20)

    @flow
    def submits():
        future = waits.submit()
        try:
            with pytest.raises(TimeoutError, match="1 futures have not ended"):
                list(as_completed([future], timeout=0.02))
            with pytest.raises(TimeoutError, match="goes on"):
                future.result(timeout=0.02)
        finally:
            go.set()

    go = threading.Event()
    assert submits.start().wait(20).state.is_completed()


def test_a_callback_is_called_once():
    """A future's callback is called once, before or after the end, and its errors go to the log."""

    @flow
    def submits():
        future = waits.submit()
        future.add_done_callback(called.append)
        future.add_done_callback(lambda future: 1 / 0)
        go.set()
        future.result()
        future.add_done_callback(called.append)

    @task
    def waits():
        go.wait(20)

    go, called = threading.Event(), []
    run = submits.start()
    run.wait(20)
    assert [future.task_run for future in called] == run.tasks * 2
    assert any("ZeroDivisionError" in line.message for line in run.logs)


def test_tasks_are_interrupted_by_their_identity():
    """A cancel that comes as its task ends never reaches the next task on the same thread."""

    @task
    def short(i):
        return i

    @flow
    def submits():
        results = []
        for i in range(300):
            future = short.submit(i)
            canceller.submit(future)
            with contextlib.suppress(CancelledRun, RunCancellation):
                results.append(future.result())
            assert add.submit(i).result() == i
        return results

    @task
    def canceller(future):
        future.cancel()

    run = submits.start().wait(60)
    assert run.state.is_completed(), run.state
    adds = [each for each in run.tasks if each.name.startswith("add")]
    assert all(each.state.is_completed() for each in adds)


def test_what_is_no_function_is_refused():
    """`@task` on something that cannot be called, or with fewer than no retries, is refused."""
    with pytest.raises(TypeError, match="decorates a function"):
        Task(3)
    with pytest.raises(ValueError, match="retries must be 0 or more"):
        task(retries=-1)(lambda: None)


def test_a_submitted_task_ends_when_what_it_left_behind_has(until):
    """Each attempt of a submitted async task ends after the asyncio tasks that it leaves behind."""
    going = []

    @task
    async def goes_on():
        going.append(1)
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            going.remove(1)

    @task(retries=1)
    async def leaves():
        before = list(going)
        left.append(asyncio.create_task(goes_on()))
        while not going:
            await asyncio.sleep(0)
        if not before:
            raise ValueError
        return before

    left = []

    @flow
    def body():
        future = leaves.submit()
        future.wait()
        return future.state, list(going)

    state, still_going = body()
    assert state.is_failed()  # the second attempt found nothing going on
    assert not still_going


@pytest.mark.parametrize("kind", ["main", "awaited"])
def test_a_flow_ends_when_the_tasks_that_it_left_behind_have(kind, until, kernel_loop):
    """Tasks that a flow leaves behind on the event loop are stopped, and end before it."""

    @task
    async def goes_on():
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)

    @task
    async def fails():
        await asyncio.sleep(0)
        raise ValueError

    @flow(on="main")
    async def body():
        await asyncio.gather(goes_on(), fails())

    if kind == "main":
        run = body.start().wait(20)
    else:
        asyncio.run_coroutine_threadsafe(body(return_state=True), kernel_loop).result(20)
        run = registry.known()[0]
    assert run.state.is_failed()
    left = next(each for each in run.tasks if each.name.startswith("goes"))
    assert left.state.is_cancelled()
    assert left.ended <= run.ended


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_cancel_reaches_a_subflow_that_waits_for_its_tasks(how, until, kernel_loop):
    """A cancel that comes as an awaited subflow waits for its submitted tasks stops these."""

    @task
    def goes_on():
        while True:
            time.sleep(0.01)

    @flow
    async def submits():
        goes_on.submit()

    @flow(on="main", cancel_grace_seconds=60)
    async def body():
        if how == "cancel":
            await submits()
        else:
            async with asyncio.timeout(0.05):
                await submits()

    run = body.start()
    until(lambda: run.tasks and run.tasks[0].run.tasks)
    subflow = run.tasks[0].run
    until(lambda: subflow.submitted is not None and subflow.tasks[0].state.is_running())
    if how == "cancel":
        run.cancel()
    run.wait(20)
    assert subflow.tasks[0].state.is_cancelled()
    assert subflow.tasks[0].ended <= subflow.ended <= run.ended
    if how == "cancel":
        assert subflow.state.is_cancelled()
        assert run.state.is_cancelled()
    else:
        assert subflow.state.is_crashed()  # as by any cancel that nobody asked for
        assert run.state.is_failed()


def test_a_run_ends_when_its_tasks_have(until):
    """A run has ended when the last of its submitted tasks has, and so says its record."""
    go_on = threading.Event()

    @task
    def goes_on():
        go_on.wait(20)

    @flow
    def body():
        goes_on.submit()

    run = body.start()
    until(lambda: run.thread and any(f.f_code.co_name == "join" for f in stack_of(run.thread)))
    go_on.set()
    run.wait(20)
    assert run.tasks[0].ended <= run.ended == run.state.time
    times = [state.time for state in run.states]
    assert times == sorted(times)


def test_an_interrupt_of_a_flow_that_waits_for_its_tasks_stops_them(until):
    """An interrupt that comes as a foreground flow waits for its submitted tasks stops these."""
    caller = threading.get_ident()

    @task
    def goes_on():
        until(lambda: any(f.f_code.co_name == "join" for f in stack_of(caller)))
        signal.pthread_kill(caller, signal.SIGINT)
        while True:
            time.sleep(0.01)

    @flow
    def body():
        goes_on.submit()

    with pytest.raises(KeyboardInterrupt):
        body()
    run = registry.known()[0]
    assert run.state.is_crashed()
    assert run.tasks[0].state.is_cancelled()
    assert run.tasks[0].ended <= run.ended

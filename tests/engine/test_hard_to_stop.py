"""Code that is hard to stop, and must be stopped all the same, or left to itself."""

import asyncio
import contextlib
import functools
import hashlib
import queue
import subprocess
import sys
import threading
import time

import anyio
import pytest

from jupyter_flows import CancelledRun, checkpoint, flow, run_process, task, timeout
from jupyter_flows.engine.injecting import place_to_hit
from jupyter_flows.states import StateType

pytestmark = pytest.mark.usefixtures("nothing_is_left")
since_312 = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="before 3.12 only plain loops are interrupted"
)
SLOW_TO_HASH = bytes(40_000_000)


# -- loops that are nearly always in one call of C -------------------------------------------


def _waits_for_an_event():
    event = threading.Event()
    while not event.wait(0.2):
        pass


def _waits_for_a_queue():
    items = queue.Queue()
    while True:
        try:
            items.get(timeout=0.2)
        except queue.Empty:
            continue


def _hashes():
    n = 0
    while True:
        n += 1
        hashlib.sha256(SLOW_TO_HASH)


def _polls_a_command():
    process = subprocess.Popen(["sleep", "600"])
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
    finally:
        process.kill()
        process.wait()


def _reduces():
    functools.reduce(lambda a, b: a + b, iter(int, 1))


def _is_positive(x): return x is not None  # fmt: skip


def _maps():
    all(map(_is_positive, iter(int, 1)))


CALLS_OF_C = [_waits_for_an_event, _waits_for_a_queue, _hashes, _polls_a_command, _reduces, _maps]


@since_312
@pytest.mark.parametrize("body", CALLS_OF_C, ids=lambda body: body.__name__.strip("_"))
def test_what_is_mostly_in_c_is_interrupted(body):
    """A loop is interrupted between two calls of C, however long it is within them."""
    run = flow(body, name="c", kill_grace_seconds=600).start()
    run.cancel(grace=0.05)
    assert run.wait(10).state.is_cancelled()


@since_312
@pytest.mark.parametrize("body", CALLS_OF_C[:3], ids=lambda body: body.__name__.strip("_"))
def test_what_is_mostly_in_c_times_out(body):
    """It is interrupted by a timeout too."""
    options = {"timeout_seconds": 0.05, "cancel_grace_seconds": 0.05, "kill_grace_seconds": 600}
    run = flow(body, name="c", **options).start()
    assert run.wait(10).state.name == "TimedOut"


# -- the last rung ---------------------------------------------------------------------------


def _sleeps():
    time.sleep(600)


def _waits_for_a_task():
    task(_sleeps).submit().result()


def _runs_a_command():
    run_process(["sleep", "600"])


@pytest.mark.parametrize("wait", [_sleeps, _waits_for_a_task, _runs_a_command])
def test_a_kill_reaches_what_waits_in_an_except(wait, until):
    """Code that waits where a cancel would cost its cleanup is stopped by a kill, CANCELLED."""
    waiting = threading.Event()

    def body():
        try:
            raise ConnectionError
        except ConnectionError:
            waiting.set()
            wait()

    run = flow(body, name="backs off").start()
    assert waiting.wait(20)
    run.cancel(grace=0)
    until(lambda: run.stopping is not None and run.stopping.rung == "interrupted")
    assert run.state.is_cancelling()
    run.kill()
    assert run.wait(10).state.is_cancelled()


def test_an_abandoned_run_hits_no_other(until):
    """After a run was given up, runs on threads with its old numbers are never hit."""
    lock = threading.Lock()

    @task
    def stuck():
        lock.acquire()

    def innocent():
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            pass
        return "fine"

    with lock:
        given_up = flow(lambda: stuck.submit().result(), name="given-up").start()
        until(lambda: "lock.acquire()" in str(given_up.where()))
        given_up.kill()
        given_up.wait(1)
        given_up.abandon()
        for _ in range(4):
            assert flow(innocent).start().result(20) == "fine"


# -- task groups --------------------------------------------------------------------------------


async def _in_a_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(600))


async def _in_an_anyio_group():
    async with anyio.create_task_group() as group:
        group.start_soon(asyncio.sleep, 600)


async def _tasks_in_a_group():
    @task
    async def sleeps():
        await asyncio.sleep(600)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(sleeps())


GROUPS = [_in_a_group, _in_an_anyio_group, _tasks_in_a_group]


@pytest.mark.parametrize("body", GROUPS, ids=lambda body: body.__name__.strip("_"))
def test_a_cancel_reaches_what_a_task_group_waits_for(body):
    """A run that waits at the end of a task group is cancelled at once."""
    run = flow(body, name="grouped", cancel_grace_seconds=600).start()
    run.cancel()
    assert run.wait(10).state.is_cancelled()


@pytest.mark.parametrize("body", GROUPS, ids=lambda body: body.__name__.strip("_"))
def test_a_timeout_reaches_what_a_task_group_waits_for(body):
    """A run that waits at the end of a task group has timed out when its time is over."""
    run = flow(body, name="grouped", timeout_seconds=0.05, cancel_grace_seconds=600).start()
    assert run.wait(10).state.name == "TimedOut"


def test_a_cleanup_in_a_task_group_is_left_to_end():
    """A cancel that comes while a task of the group cleans up waits for that."""
    cleaning, ended = threading.Event(), []

    async def body():
        async def child():
            try:
                await asyncio.sleep(0)
            finally:
                cleaning.set()
                await asyncio.sleep(0.1)
                ended.append("cleaned up")

        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            group.create_task(asyncio.sleep(600))

    run = flow(body, name="grouped").start()
    assert cleaning.wait(20)
    run.cancel()
    assert run.wait(10).state.is_cancelled()
    assert ended == ["cleaned up"]


def test_a_group_of_cancels_is_a_cancel():
    """A flow whose group of tasks raised nothing but cancels was cancelled."""

    @flow
    async def cancelled():
        raise ExceptionGroup("all", [CancelledRun("one"), CancelledRun("two")])

    assert cancelled.start().wait(10).state.type is StateType.CANCELLED


# -- threads of its own ------------------------------------------------------------------------


def _spins(beats):
    while True:
        beats.append(1)


async def _in_a_thread(beats):
    await asyncio.to_thread(_spins, beats)


async def _in_a_thread_of_anyio(beats):
    await anyio.to_thread.run_sync(_spins, beats, abandon_on_cancel=True)


def _in_a_helper(beats):
    threading.Thread(target=_spins, args=(beats,)).start()
    time.sleep(600)


@since_312
@pytest.mark.parametrize("body", [_in_a_thread, _in_a_thread_of_anyio, _in_a_helper])
def test_a_cancelled_run_has_no_thread_that_goes_on(body, until):
    """A run is CANCELLED when the threads that its code has started have stopped too."""
    beats = []
    run = flow(body, name="helped").start(beats)
    until(lambda: beats)
    run.cancel(grace=0)
    assert run.wait(10).state.is_cancelled()
    count = len(beats)
    assert flow(lambda: time.sleep(0.05), name="later").start().wait(10).state.is_completed()
    assert len(beats) == count


def test_a_cancelled_run_with_a_thread_that_does_not_stop(until):
    """While a thread of it is stuck a run is CANCELLING and shows its line; it can be given up."""
    lock, begun = threading.Lock(), threading.Event()

    def stuck():
        begun.set()
        lock.acquire()
        lock.release()

    async def body():
        await asyncio.to_thread(stuck)

    with lock:
        run = flow(body, name="helped", kill_grace_seconds=0.1).start()
        assert begun.wait(20)
        run.cancel(grace=0)
        until(lambda: run.stopping is not None and run.stopping.rung == "killed")
        assert run.state.is_cancelling()
        assert "lock.acquire()" in str(run.where())
        run.abandon()
        assert run.state.name == "Abandoned"


# -- asks of every kind --------------------------------------------------------------------------


def test_a_reason_in_words():
    """A cancel may say why in words of its own; what is no text is refused."""
    run = flow(_sleeps).start()
    for wrong in ("", None, 5, "timeout"):
        with pytest.raises(ValueError, match="reason"):
            run.cancel(reason=wrong)
    assert run.cancel(reason="the parameters were wrong \ud800")
    run.wait(10)
    assert run.state.is_cancelled()
    assert run.state.message == "Cancelled: the parameters were wrong \\ud800"
    assert run.cancel_reason == "the parameters were wrong \\ud800"


@since_312
def test_another_tool_takes_the_monitoring_away(until):
    """When a tool frees the number that watches code, another is taken, and runs are stopped."""
    from jupyter_flows.engine import monitoring

    def spins():
        while True:
            pass

    for _ in range(2):
        run = flow(spins).start()
        run.cancel(grace=0)
        assert run.wait(10).state.is_cancelled()
        sys.monitoring.free_tool_id(monitoring._tool)


def test_a_generator_that_is_suspended_in_a_timeout():
    """A block's timeout is raised in the block, never in who calls the generator meanwhile."""
    steps = []

    def numbers():
        with timeout(0.05):
            yield 1
            while True:
                checkpoint()

    def body():
        made = numbers()
        next(made)
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            checkpoint()
        steps.append("went on")
        with pytest.raises(TimeoutError):
            next(made)
        return "done"

    assert flow(body).start().result(20) == "done"
    assert steps == ["went on"]


def test_a_very_long_timeout():
    """A timeout of more seconds than a clock can wait is one."""
    assert flow(lambda: 5, name="soon", timeout_seconds=1e12).start().result(10) == 5


FORKS = """
import multiprocessing
from jupyter_flows import flow

@flow(log_prints=True)
def forks():
    print("from the run")
    child = multiprocessing.get_context("fork").Process(target=print, args=("from the child",))
    child.start()
    child.join()

run = forks.start().wait(20)
print([line.message for line in run.logs])
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork")
def test_what_a_forked_process_prints():
    """A process that a run forks in its kernel is in no run: its prints go where prints go."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == ["from the child", "['from the run']"], done.stderr


def test_what_was_given_up_stays_as_it_was(until):
    """A run that timed out and was given up keeps its reason, and is not tried again."""
    begun, go_on = threading.Event(), threading.Event()

    @flow(timeout_seconds=0.01, retries=1)
    def body():
        begun.set()
        go_on.wait(20)
        raise ValueError

    run = body.start()
    begun.wait(20)
    until(lambda: run.cancel_reason)
    run.abandon()
    before = run.record()
    go_on.set()
    until(lambda: run.thread is None)
    assert run.record() == before
    assert before.reason == "timeout"
    assert run.attempt == 1


def test_tasks_of_what_was_given_up_are_given_up(until):
    """A task that a run is in, or begins, when it is given up ends as it does."""
    begun, go_on = threading.Event(), threading.Event()

    @task
    def begins_late():
        return None

    @task
    def blocks():
        begun.set()
        try:
            go_on.wait(20)
        finally:
            begins_late()

    @flow
    def body():
        blocks()

    run = body.start()
    begun.wait(20)
    run.cancel(grace=3600)
    run.abandon()
    assert [each.state.name for each in run.tasks] == ["Abandoned"]
    go_on.set()
    until(lambda: run.thread is None)
    assert [each.state.name for each in run.tasks] == ["Abandoned"] * 2
    assert not run.active


@since_312
def test_a_kill_hits_no_other_task_of_the_loop(until):
    """A killed task whose event loop is blocked by another is not hit in the other's code."""
    stop = []

    @task(timeout_seconds=0.01)
    async def times_out():
        await asyncio.sleep(3600)

    @task
    async def blocks():
        while not stop:
            pass
        return "done"

    @flow(cancel_grace_seconds=0.01, kill_grace_seconds=0.02)
    async def body():
        return await asyncio.gather(times_out(), blocks(), return_exceptions=True)

    run = body.start()
    until(lambda: run.tasks and run.tasks[0].killed)
    until(lambda: place_to_hit(run.tasks[1]))  # not while it is just in the engine
    assert not any(place_to_hit(run.tasks[0]) for _ in range(100))
    until(lambda: place_to_hit(run))
    stop.append(1)
    assert run.result(20)[1] == "done"
    assert run.tasks[0].state.name == "TimedOut"

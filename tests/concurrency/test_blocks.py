"""How many blocks of code are active at once: `concurrency()`."""

import asyncio
import contextlib
import threading
import time
from itertools import pairwise

import pytest

from jupyter_flows import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    as_completed,
    concurrency,
    concurrency_limits,
    flow,
    set_concurrency_limit,
    task,
    timeout,
    wait,
)
from jupyter_flows.concurrency.asyncio import concurrency as from_asyncio
from jupyter_flows.concurrency.sync import concurrency as from_sync
from jupyter_flows.engine import admission, ports, slots
from jupyter_flows.errors import WouldDeadlock
from jupyter_flows.futures import FutureList
from tests.concurrency.gates import Gate
from tests.engine import in_processes

pytestmark = pytest.mark.usefixtures("nothing_is_left", "nothing_is_held")

# -- concurrency() ---------------------------------------------------------------------


def test_it_has_prefects_names():
    """Prefect's modules have it under the same name, for sync and for async code."""
    assert from_sync is from_asyncio is concurrency


def test_a_name_without_a_limit_is_not_limited():
    """A name that nobody has set a limit for is not limited, or, if strict, an error."""
    with concurrency("nothing", occupy=5), concurrency("nothing"), concurrency([]):
        pass
    with pytest.raises(ConcurrencySlotAcquisitionError, match="no limit 'nothing'"):
        concurrency("nothing", strict=True).__enter__()


def test_limits_are_set_and_lifted():
    """`set_concurrency_limit` sets, changes and lifts a limit; wrong ones are refused."""
    set_concurrency_limit("db", 3)
    set_concurrency_limit("api", 1)
    assert concurrency_limits() == {"api": 1, "db": 3}
    set_concurrency_limit("db", None)
    assert concurrency_limits() == {"api": 1}
    for wrong in (-1, 1.5, "2", True):
        with pytest.raises(ValueError, match="limit must be 0 or more"):
            set_concurrency_limit("db", wrong)
    with pytest.raises(TypeError, match="name must be a text"):
        set_concurrency_limit("", 1)
    for occupy in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="occupy must be"):
            concurrency("db", occupy=occupy)
    with pytest.raises(ValueError, match="timeout_seconds must be 0 or more"):
        concurrency("db", timeout_seconds="5")
    with pytest.raises(TypeError, match="names must be"):
        concurrency([1])
    for seconds in (-1, "1", True):
        with pytest.raises(ValueError, match="timeout_seconds must be"):
            concurrency("db", timeout_seconds=seconds)


@pytest.mark.parametrize("on", ["thread", "async", "main", "process"])
def test_slots_hold_on_every_worker(on, kernel_loop):
    """Blocks in runs of every worker, sync and async, take turns at one slot."""
    set_concurrency_limit("one", 1)

    def body():
        with concurrency("one"):
            start = time.time()
            time.sleep(0.01)
            return start, time.time()

    async def abody():
        async with concurrency("one"):
            start = time.time()
            await asyncio.sleep(0.01)
            return start, time.time()

    other = flow(body, name="other", on="thread")
    mine = flow(abody if on in ("async", "main") else body, name="mine", on=on)
    runs = [each.start() for each in (mine, other, mine, other)]
    spans = sorted(run.result(30) for run in runs)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_blocks_that_wait_enter_in_order(until):
    """Of blocks that wait the first enters first, also before one that wants less."""
    set_concurrency_limit("three", 3)
    entered = []

    def block(i, occupy):
        with concurrency("three", occupy=occupy):
            entered.append(i)

    outer = concurrency("three", occupy=2)
    threads = []
    with outer:
        for i, occupy in enumerate((3, 1, 2)):
            threads.append(threading.Thread(target=block, args=(i, occupy)))
            threads[-1].start()
            until(lambda count=i + 1: len(ports.leases._waiting) == count)
        assert entered == []  # the second would fit, and is behind the first
    for thread in threads:
        thread.join()
    assert entered[0] == 0
    assert sorted(entered) == [0, 1, 2]


def test_waiting_for_a_slot_gives_up_in_time():
    """With `timeout_seconds` a block that gets no slot is a TimeoutError, sync and async."""
    set_concurrency_limit("one", 1)

    @flow
    async def late_async():
        async with concurrency("one", timeout_seconds=0.02):
            pass

    @flow
    def late():
        with concurrency("one", timeout_seconds=0.02):
            pass

    with concurrency("one"):
        for each in (late_async, late):
            with pytest.raises(AcquireConcurrencySlotTimeoutError, match="No slot of 'one'"):
                each.start().result(20)
        elsewhere = []

        def plain():
            with pytest.raises(TimeoutError), concurrency("one", timeout_seconds=0.02):
                pass
            elsewhere.append(1)

        thread = threading.Thread(target=plain)
        thread.start()
        thread.join()
        assert elsewhere


@pytest.mark.parametrize("on", ["thread", "async", "main", "process"])
def test_a_block_that_waits_can_be_paused_and_cancelled(on, kernel_loop, until):
    """A run that waits for a slot says so, is paused and cancelled at once, and enters never."""
    set_concurrency_limit("one", 1)

    def body():
        with concurrency("one"):
            print("entered")

    async def abody():
        async with concurrency("one"):
            print("entered")

    waits = flow(abody if on in ("async", "main") else body, name="waits", on=on, log_prints=True)
    with concurrency("one"):
        run = waits.start()
        until(lambda: run.record().waiting is not None)
        assert run.record().waiting.text == "Waits for a slot of 'one' (at most 1 at once)"
        assert run.state.is_running()
        run.pause()
        until(lambda: run.state.is_paused())
        run.resume()
        until(lambda: run.state.is_running())
        run.cancel()
        run.wait(20)
    assert run.state.is_cancelled()
    assert not in_processes.lines(run, "stdout")


def _leave_normally():
    pass


def _leave_by_an_error():
    raise ValueError("left")


def _stay():
    while True:
        time.sleep(0.002)


@pytest.mark.parametrize("on", ["thread", "process"])
@pytest.mark.parametrize(
    ("what", "how"),
    [
        (_leave_normally, lambda run: None),
        (_leave_by_an_error, lambda run: None),
        (_stay, lambda run: run.cancel()),
        (_stay, lambda run: run.kill()),
        (_stay, lambda run: (run.cancel(grace=10), run.abandon())),
    ],
    ids=["return", "error", "cancel", "kill", "abandon"],
)
def test_a_slot_is_given_back_however_its_run_ends(on, what, how, until):
    """A slot is free again when the run has returned, failed, been stopped or given up."""
    set_concurrency_limit("one", 1)

    def body():
        with concurrency("one"):
            print("in")
            what()

    run = flow(body, name="ends", on=on, log_prints=True).start()
    until(lambda: in_processes.lines(run, "stdout") == ["in"] or run.state_is_final())
    how(run)
    run.wait(20)
    with concurrency("one", timeout_seconds=20):
        pass


def test_a_block_within_itself_is_refused():
    """Code that waits for slots that it has itself is told so, in a task that it calls too."""
    set_concurrency_limit("two", 2)

    @task
    def inner(occupy):
        with concurrency("two", occupy=occupy):
            return "in"

    @flow
    def nested(occupy):
        with concurrency("two"):
            return inner(occupy)

    @flow
    async def nested_async():
        async with concurrency("two"), concurrency("two"), concurrency("two"):
            pass

    assert nested(1) == "in"
    with pytest.raises(WouldDeadlock, match=r"holds 1 of the 2 slots of 'two' already"):
        nested(2)
    with pytest.raises(WouldDeadlock):
        nested_async.start().result(20)
    with pytest.raises(ValueError, match="can never be had"):
        concurrency("two", occupy=3).__enter__()


WAYS = {
    "result": lambda future: future.result(),
    "wait": lambda future: future.wait(),
    "wait for all": lambda future: wait([quick.submit(), future, quick.submit()]),
    "as completed": lambda future: list(as_completed([quick.submit(), future])),
    "list": lambda future: FutureList([quick.submit(), future]).result(),
}


@task
def quick():
    return 1


@task
def needs_one():
    return takes_one()


@task
def takes_one():
    with concurrency("one"):
        return "had one"


def until_somebody_waits():
    while not slots._line.waiting():
        time.sleep(0.001)


@pytest.mark.parametrize("late", [False, True], ids=["waits first", "waits last"])
@pytest.mark.parametrize(
    ("on", "how"),
    [("process", "result"), *((on, how) for on in ("thread", "async") for how in WAYS)],
)
def test_waiting_in_a_block_for_what_needs_its_slot_is_refused(on, how, late):
    """Code that waits in a block for a task which needs the block's slot does not wait for ever."""
    set_concurrency_limit("one", 1)

    def waits():
        future = needs_one.submit()
        if late:
            until_somebody_waits()
        WAYS[how](future)
        return future.state

    def body():
        with concurrency("one"):
            return waits()

    async def body_async():
        async with concurrency("one"):
            return waits()

    run = flow(body_async if on == "async" else body, on=on).start().wait(20)
    assert run.state.is_failed(), run.state
    with pytest.raises(WouldDeadlock, match=r"for ever for a slot of 'one'.*Leave that block"):
        run.result()


def test_a_task_beyond_its_limit_is_not_waited_for_in_any_way():
    """A task that waits for the slot of who waits for it is refused, however that waits."""

    @task(concurrency=1)
    def again(depth, how):
        return WAYS[how](again.submit(depth - 1, how)) if depth else "end"

    @flow
    def calls(how):
        again(1, how)

    for how in WAYS:
        run = calls.start(how).wait(20)
        ends = [each.state.data for each in run.tasks]
        assert any(isinstance(end, WouldDeadlock) for end in ends), (how, ends)


def test_a_wait_that_may_end_is_not_refused(until):
    """A wait in a block for what needs its slot is taken where something may yet end it."""
    set_concurrency_limit("one", 1)

    @task
    def in_time():
        with pytest.raises(TimeoutError), concurrency("one", timeout_seconds=0.01):
            pass
        with pytest.raises(TimeoutError), timeout(0.01), concurrency("one"):
            pass
        return "went on"

    @flow
    def gives_up():
        with concurrency("one"):
            assert in_time.submit().result() == "went on"
            future = takes_one.submit()
            until_somebody_waits()
            with pytest.raises(TimeoutError), timeout(0.01):
                future.result()
            with pytest.raises(TimeoutError):
                future.result(0.01)
        return future.result()

    @flow
    def lets_others_wait():
        results = []
        with concurrency("one"):
            future = takes_one.submit()
            helper = threading.Thread(target=lambda: results.append(future.result()))
            helper.start()
            until_somebody_waits()
            until(lambda: admission._waiters)
        helper.join()
        return results[0]

    @flow
    def others_have_one():
        set_concurrency_limit("one", 2)
        with contextlib.ExitStack() as stack:
            stack.enter_context(concurrency("one"))
            held = holds.submit()
            until(lambda: len(slots._held) == 2)
            future = takes_one.submit()
            until_somebody_waits()
            goes_on.set()
            return held.result() and future.result()

    @task
    def holds():
        with concurrency("one"):
            return goes_on.wait(20)

    goes_on = threading.Event()
    for each in (gives_up, lets_others_wait, others_have_one):
        assert each.start().result(20) == "had one"


def test_with_on_an_event_loop_is_refused():
    """`with`, which would block an event loop, is refused there: `async with` is meant."""
    set_concurrency_limit("one", 1)

    @flow
    async def blocks():
        with concurrency("one"):
            pass

    with pytest.raises(WouldDeadlock, match="async with"):
        blocks.start().result(20)


def test_several_limits_are_taken_at_once(until):
    """A block that needs slots of several limits has all of them or none."""
    set_concurrency_limit("a", 1)
    set_concurrency_limit("b", 1)
    with concurrency("b"):
        run = flow(lambda: concurrency(["a", "b"]).__enter__() and None, name="both").start()
        until(lambda: run.record().waiting)
        with concurrency("a"):  # which it does not hold meanwhile
            pass
    run.result(20)


def test_a_limit_that_is_raised_or_lifted_lets_in_who_waits(until):
    """Blocks that wait enter when the limit is raised or lifted."""
    for limit in (2, None):
        set_concurrency_limit("one", 1)

        @flow
        def waits():
            with concurrency("one"):
                return "in"

        with concurrency("one"):
            run = waits.start()
            until(lambda run=run: run.record().waiting)
            set_concurrency_limit("one", limit)
            assert run.result(20) == "in"


def test_one_object_serves_many_threads():
    """One `concurrency` object may be entered by many threads and tasks at once."""
    set_concurrency_limit("three", 3)
    shared, gate = concurrency("three"), Gate()

    def body(i):
        with shared, gate.passing(i):
            time.sleep(0.001)

    threads = [threading.Thread(target=body, args=(i,)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gate.most <= 3

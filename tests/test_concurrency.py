"""How many runs, and how many blocks, are active at once."""

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from itertools import pairwise

import pytest

from jupyter_flows import (
    AcquireConcurrencySlotTimeoutError,
    CancelledRun,
    Concurrency,
    ConcurrencyKeyError,
    ConcurrencySlotAcquisitionError,
    ConcurrencyStrategy,
    as_completed,
    concurrency,
    concurrency_limits,
    flow,
    set_concurrency_limit,
    set_max_runs,
    set_tag_limit,
    task,
    timeout,
    wait,
)
from jupyter_flows.annotations import quote
from jupyter_flows.concurrency.asyncio import concurrency as from_asyncio
from jupyter_flows.concurrency.sync import concurrency as from_sync
from jupyter_flows.engine import admission, ports, slots
from jupyter_flows.engine.leases import OwnLeases
from jupyter_flows.errors import WouldDeadlock
from jupyter_flows.futures import FutureList
from tests.engine import in_processes

pytestmark = pytest.mark.usefixtures("nothing_is_left", "nothing_is_held")

WAITS = "AwaitingConcurrencySlot"


@pytest.fixture
def nothing_is_held(until):
    """No test leaves a slot that is held, or anybody in line for one."""
    yield
    set_max_runs(None)
    until(lambda: not (admission._groups or admission._line or admission._tickets))
    until(lambda: not slots._held)
    leases = ports.leases
    assert {**leases._held, **leases._waiting} == {}
    ports.leases = OwnLeases()
    admission._tag_limits.clear()


class Gate:
    """Code that runs until it is let go, and says who is in it."""

    def __init__(self):
        self.go = threading.Event()
        self.inside = []
        self.most = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def passing(self, who):
        with self._lock:
            self.inside.append(who)
            self.most = max(self.most, len(self.inside))
        try:
            yield
        finally:
            with self._lock:
                self.inside.remove(who)

    def stay(self, who):
        with self.passing(who):
            while not self.go.is_set():
                time.sleep(0.002)
        return who

    async def stay_async(self, who):
        with self.passing(who):
            while not self.go.is_set():
                await asyncio.sleep(0.002)
        return who


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.go.set()


def names(life):
    return [transition.name for transition in life.transitions()]


# -- what an author says ---------------------------------------------------------------


@pytest.mark.parametrize("most", [0, -1, 1.5, "2", True, None])
def test_max_runs_is_a_whole_number(most):
    """A limit that is no whole number above 0 is refused where it is written."""
    with pytest.raises(ValueError, match="max_runs must be 1 or more"):
        Concurrency(most)


def test_an_unknown_strategy_is_refused():
    """A strategy that does not exist is refused, and the error names those that do."""
    with pytest.raises(
        ValueError, match=r"no concurrency strategy 'DROP'.*ENQUEUE, CANCEL_IN_PROG"
    ):
        Concurrency(1, strategy="DROP")
    assert Concurrency(1, strategy="CANCEL_NEWEST").strategy is ConcurrencyStrategy.CANCEL_NEWEST


def test_a_key_that_is_no_expression_is_refused():
    """A syntax error of a key is told where the key is written, with what a key may be."""
    for key, what in [
        ("user id", "invalid syntax"),
        ("x =", "invalid syntax"),
        ("(x", "was never"),
    ]:
        with pytest.raises(ValueError, match=f"is no expression: .*{what}.*A key is an") as caught:
            Concurrency(1, key=key)
        assert f"The concurrency key {key!r}" in str(caught.value)
        assert "\n" not in str(caught.value)
    for key in ("", "\0"):
        with pytest.raises(ValueError, match="is no expression"):
            Concurrency(1, key=key)
    with pytest.raises(ValueError, match="key must be an expression"):
        Concurrency(1, key=7)


def test_a_bool_is_no_number_of_slots():
    """``True`` where a number of slots is to be written is a slip, and is refused."""
    for limits in (True, [True], [2, False]):
        for decorate in (flow, task):
            with pytest.raises(ValueError, match="max_runs must be 1 or more, and whole"):
                decorate(concurrency=limits)(len)
    with pytest.raises(ValueError, match="max_runs must be"):
        set_tag_limit("tag", True)


@pytest.mark.parametrize("decorate", [flow, task])
@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("usr", "'usr'"),
        ("(user, dya[:7], dya)", "'dya'"),
        ("input.usr", "'usr'"),
        ("open(user)", "'open'"),
        ("__import__('os')", "'__import__'"),
        ("[input for usr in days]", "'days'"),
        (lambda user, dya: user, "'dya'"),
        (lambda usr=1, *, dya, **more: 1, "'dya'"),
    ],
)
def test_a_key_that_names_no_parameter_is_refused(decorate, key, name):
    """A key that names what the function has no parameter for is refused by the decorator."""

    def report(user, day, *rest, **more):
        raise AssertionError

    with pytest.raises(ValueError, match=rf"needs {name}, and .*report has no such.*user, day, re"):
        decorate(concurrency=[1, Concurrency(1, key=key)])(report)


@pytest.mark.parametrize("decorate", [flow, task])
@pytest.mark.parametrize(
    "key",
    [
        "(input.user, day[:7], len(rest), more, input.__dict__)",
        "[each for each in user if (last := each)] and (lambda x: x)(last)",
        "[input.nothing for input in day]",
        lambda user, **more: user,
        lambda user="me", nobody=2, *rest, **more: user,
        dict,
    ],
)
def test_a_key_that_may_work_is_taken(decorate, key):
    """A key is taken that names parameters, its own names, and what a key may call."""

    def report(user, day, *rest, **more):
        raise AssertionError

    decorate(concurrency=Concurrency(1, key=key))(report)
    decorate(concurrency=Concurrency(1, key="whatever"))(dict)  # which does not tell


@pytest.mark.parametrize("decorate", [flow, task])
@pytest.mark.parametrize("wrong", ["two", 2.5, {"max_runs": 2}, [Concurrency(1), "x"]])
def test_the_option_takes_limits_only(decorate, wrong):
    """The option of a flow or task is a Concurrency, a number or a list of them."""
    with pytest.raises(TypeError, match="concurrency must be a Concurrency"):
        decorate(concurrency=wrong)(len)


def test_with_options_keeps_and_changes_the_limit():
    """`with_options` keeps the limits of a flow or task, and may set others."""
    for decorate in (flow, task):
        limited = decorate(concurrency=[1, Concurrency(2, key="a")])(lambda a: a)
        assert limited.with_options().options == limited.options
        assert limited.with_options(concurrency=3).options.concurrency == (Concurrency(3),)


# -- ENQUEUE ---------------------------------------------------------------------------


def test_a_run_without_a_slot_waits_in_order(gate, until):
    """Of three runs where one may be active the others wait, say for what, and go in order."""
    began = []

    @flow(concurrency=1)
    def limited(i):
        began.append(i)
        gate.stay(i)

    first, second, third = (limited.start(i) for i in range(3))
    until(lambda: gate.inside == [0])
    for waiting in (second, third):
        assert waiting.state.name == WAITS
        assert waiting.record().waiting.kind == "slot"
        assert "flow 'limited' (at most 1 at once)" in waiting.record().waiting.text
        assert waiting.state.message == waiting.record().waiting.text
    gate.go.set()
    third.result(20)
    assert began == [0, 1, 2]
    assert names(second) == ["Pending", WAITS, "Pending", "Running", "Completed"]
    assert third.record().waiting is None
    assert names(first) == ["Pending", "Running", "Completed"]


@pytest.mark.parametrize("on", ["thread", "async", "main", "process"])
def test_the_limit_holds_on_every_worker(on, kernel_loop, until):
    """Whatever worker runs it, a flow of which one may be active is active once."""
    spans = []
    asynchronous = on in ("async", "main")

    def body():
        start = time.time()
        time.sleep(0.02)
        return start, time.time()

    async def abody():
        start = time.time()
        await asyncio.sleep(0.02)
        return start, time.time()

    limited = flow(abody if asynchronous else body, name="limited", on=on, concurrency=1)
    runs = [limited.start() for _ in range(3)]
    spans = sorted(run.result(30) for run in runs)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert any(WAITS in names(run) for run in runs)


def test_a_waiting_run_has_no_thread(gate, until, alive):
    """A background run that waits takes no thread."""

    @flow(concurrency=1)
    def limited():
        gate.stay(1)

    runs = [limited.start() for _ in range(20)]
    until(lambda: gate.inside)
    assert len(alive()) == 1
    for run in runs:
        run.cancel()
    for run in runs:
        run.wait(20)


def test_a_waiting_run_says_what_it_is_called_with(gate, until):
    """The parameters of a run that waits are seen: by them it is told from others of its flow."""

    @flow(concurrency=1)
    def limited(day):
        gate.stay(day)

    first, second = limited.start("Monday"), limited.start("Tuesday")
    until(lambda: gate.inside)
    assert second.state.name == WAITS
    assert second.record().parameters == {"day": "'Tuesday'"}
    gate.go.set()
    for run in (first, second):
        run.result(20)


def test_a_waiting_run_is_cancelled_and_never_begins(gate, until):
    """A run cancelled while it waits never begins, and those behind it move up."""
    began = []

    @flow(concurrency=1)
    def limited(i):
        began.append(i)
        gate.stay(i)

    first, second, third = (limited.start(i) for i in range(3))
    until(lambda: gate.inside)
    assert second.cancel()
    assert second.wait(0).state.name == "Cancelled"
    gate.go.set()
    third.result(20)
    assert began == [0, 2]
    assert first.state.name == "Completed"
    assert second.attempt == 0


def test_a_waiting_run_that_is_paused_holds_still_when_it_begins(gate, until):
    """A pause of a waiting run takes hold when it has its slot; resumed, it goes on."""

    @flow(concurrency=1)
    def limited(i):
        gate.stay(i)

    first, second = limited.start(0), limited.start(1)
    until(lambda: gate.inside)
    second.pause()
    assert second.state.name == WAITS
    first.cancel()
    until(lambda: second.state.is_paused())
    second.resume()
    gate.go.set()
    second.result(20)


def test_a_foreground_call_waits_where_it_is(gate, until):
    """A called flow, sync or async, waits for its slot in the code that calls it."""

    @flow(concurrency=1)
    def limited(i):
        return gate.stay(i)

    running = limited.start(0)
    until(lambda: gate.inside)
    threading.Timer(0.05, gate.go.set).start()
    assert limited(1) == 1
    assert running.state.is_completed()
    gate.go.clear()

    @flow(concurrency=1)
    async def alimited(i):
        return await gate.stay_async(i)

    running = alimited.start(0)
    until(lambda: gate.inside)

    async def call():
        asyncio.get_running_loop().call_later(0.05, gate.go.set)
        return await asyncio.gather(alimited(1), alimited(2))

    assert asyncio.run(call()) == [1, 2]
    assert running.result(20) == 0


def test_a_called_flow_says_in_its_log_what_it_waits_for(gate, until, capsys):
    """A called flow has no view, so its log, on stderr, says what it waits for."""

    @flow(concurrency=1)
    def limited():
        gate.stay(0)

    limited.start()
    until(lambda: gate.inside)
    threading.Timer(0.05, gate.go.set).start()
    limited()
    assert "Waits for a slot of flow 'limited' (at most 1 at once)" in capsys.readouterr().err


def test_a_run_that_cannot_be_started_lets_the_next_one_begin(gate, until):
    """Runs whose workers cannot be started when their turn comes crash, any number of them in
    turn, and the one behind them begins."""
    unsendable = threading.Lock()
    limited = Concurrency(1)
    good = flow(gate.stay, name="limited", concurrency=limited)
    bad = flow(lambda: unsendable, name="limited", on="process", concurrency=limited)
    first = good.start(0)
    until(lambda: gate.inside)
    crashing = [bad.start() for _ in range(300)]
    last = good.start(1)
    gate.go.set()
    assert last.result(20) == 1
    assert first.state.is_completed()
    assert {run.state.name for run in crashing} == {"Crashed"}
    assert "could not be started" in crashing[0].state.message


def test_a_run_on_the_callers_loop_begins_there_when_its_turn_comes():
    """A run on a program's own loop that had to wait begins there, whoever frees its slot."""
    go = threading.Event()

    @flow(on="thread", name="limited", concurrency=1)
    def first():
        go.wait(20)

    @flow(on="main", name="limited", concurrency=1)
    async def second():
        return asyncio.get_running_loop()

    async def program():
        first.start()
        waiting = second.start()
        assert waiting.state.name == WAITS
        go.set()
        return await waiting is asyncio.get_running_loop()

    assert asyncio.run(program())


def test_retries_keep_the_slot(until):
    """A run that waits for its next attempt keeps its slot, so nobody comes between."""
    order = []

    @flow(concurrency=1, retries=1, retry_delay_seconds=0.05)
    def limited(i):
        order.append(i)
        if order.count(i) == 1:
            raise ValueError(i)

    runs = [limited.start(i) for i in range(2)]
    for run in runs:
        run.result(20)
    assert order == [0, 0, 1, 1]


# -- strategies ------------------------------------------------------------------------


def test_cancel_in_progress_cancels_the_oldest(gate, until):
    """The newest run cancels the oldest, for concurrency, and begins when that has stopped."""
    cleaned = threading.Event()

    @flow(concurrency=Concurrency(2, strategy="CANCEL_IN_PROGRESS"))
    def limited(i):
        try:
            gate.stay(i)
        finally:
            if i == 0:
                cleaned.wait(20)

    oldest, second = limited.start(0), limited.start(1)
    until(lambda: len(gate.inside) == 2)
    newest = limited.start(2)
    until(lambda: oldest.state.type == "CANCELLING")
    assert newest.state.name == WAITS
    cleaned.set()
    until(lambda: 2 in gate.inside)
    assert (oldest.state.name, oldest.cancel_reason) == ("Cancelled", "concurrency")
    gate.go.set()
    assert newest.wait(20).state.is_completed()
    assert second.wait(20).state.is_completed()


def test_cancel_in_progress_leaves_only_the_newest_waiting(gate, until):
    """Runs that come while the old one stops replace each other: only the newest begins."""
    held = threading.Event()

    @flow(concurrency=Concurrency(1, strategy="CANCEL_IN_PROGRESS"))
    def limited(i):
        try:
            gate.stay(i)
        finally:
            held.wait(20)

    first = limited.start(0)
    until(lambda: gate.inside)
    second, third = limited.start(1), limited.start(2)
    assert (second.state.name, second.cancel_reason) == ("Cancelled", "concurrency")
    held.set()
    until(lambda: gate.inside == [2])
    gate.go.set()
    assert third.wait(20).state.is_completed()
    assert first.state.is_cancelled()
    assert second.attempt == 0


def test_cancel_newest_never_begins(gate, until):
    """A run that finds no slot is cancelled, for concurrency, and says that it did not begin."""

    @flow(concurrency=Concurrency(1, strategy=ConcurrencyStrategy.CANCEL_NEWEST))
    def limited(i):
        return gate.stay(i)

    first = limited.start(0)
    until(lambda: gate.inside)
    newest = limited.start(1)
    assert (newest.state.name, newest.cancel_reason) == ("Cancelled", "concurrency")
    assert "no free slot of flow 'limited'" in newest.state.message
    assert newest.attempt == 0
    with pytest.raises(CancelledRun, match="no free slot"):
        limited(2)
    gate.go.set()
    assert first.result(20) == 0
    assert limited.start(3).result(20) == 3


def test_groups_take_turns(until):
    """With GROUP_ROUND_ROBIN groups that wait for slots that they share take turns."""
    begun, go = [], threading.Event()

    @flow(
        concurrency=[
            Concurrency(1),
            Concurrency(5, key="user", strategy="GROUP_ROUND_ROBIN"),
        ]
    )
    def limited(user, i):
        begun.append(user)
        go.wait(20)

    runs = [
        limited.start(user, i)
        for user, count in (("a", 4), ("b", 2), ("c", 2))
        for i in range(count)
    ]
    go.set()
    for run in runs:
        run.result(20)
    assert "".join(begun) == "abcabcaa"


def test_a_limit_holds_for_each_group(gate, until):
    """With a key `max_runs` is meant for each group, whatever the strategy."""

    @flow(concurrency=Concurrency(1, key="user", strategy="GROUP_ROUND_ROBIN"))
    def limited(user, i):
        gate.stay((user, i))

    runs = [limited.start(user, i) for i in range(2) for user in "ab"]
    until(lambda: len(gate.inside) == 2)
    assert sorted(gate.inside) == [("a", 0), ("b", 0)]
    assert "group 'a'" in runs[2].record().waiting.text
    gate.go.set()
    for run in runs:
        run.result(20)


# -- keys ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "user",
        "input.user",
        "(user, len(day))",
        "user if day else None",
        "[u for u in [user]][0]",
        lambda user, day, **_: user,
        lambda **given: given["user"],
    ],
)
def test_a_key_is_told_by_the_parameters(key, gate, until):
    """A key is an expression over the parameters, or a function of them; defaults count."""

    @flow(concurrency=Concurrency(1, key=key))
    def limited(user, day="mon", *rest, **more):
        gate.stay(user)

    runs = [limited.start("a"), limited.start("b"), limited.start(user="a")]
    until(lambda: len(gate.inside) == 2)
    assert sorted(gate.inside) == ["a", "b"]
    assert runs[2].state.name == WAITS
    gate.go.set()
    for run in runs:
        run.result(20)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("user.id", "AttributeError"),
        ("[user]", "unhashable"),
        ("{}[user]", "'{}[user]' failed: KeyError"),
        (lambda: 1, "TypeError"),
    ],
)
def test_a_key_that_fails_fails_the_run(key, says):
    """When the key fails the run fails and says why; its body never begins."""

    @flow(concurrency=Concurrency(1, key=key))
    def limited(user):
        raise AssertionError("it began")

    run = limited.start("a")
    run.wait(20)
    assert run.state.is_failed()
    assert says in run.state.message
    assert "parameters are: user" in run.state.message
    with pytest.raises(ConcurrencyKeyError):
        limited("a")
    limited_task = task(lambda user: 1, name="t", concurrency=Concurrency(1, key=key))

    @flow
    def calls():
        return limited_task("a", return_state=True)

    with pytest.raises(ConcurrencyKeyError):
        calls()


# -- tasks and tags --------------------------------------------------------------------


@pytest.mark.parametrize("on", ["thread", "async", "process"])
def test_submitted_tasks_wait(on):
    """Of a task's submitted runs no more are active than its limit says, on every worker."""

    def body():
        active = Counter()
        most = []

        @task(concurrency=2)
        def limited(i):
            active["now"] += 1
            most.append(active["now"])
            time.sleep(0.005)
            active["now"] -= 1
            return i

        results = [future.result() for future in limited.map(list(range(8)))]
        return results, max(most)

    async def abody():
        return body()

    run = flow(abody if on == "async" else body, name="maps", on=on).start()
    results, most = run.result(30)
    assert results == list(range(8))
    assert most <= 2


def test_awaited_tasks_wait_on_the_loop():
    """Awaited runs of a limited task wait on their loop, and others go on meanwhile."""
    active, most, ticks = [], [], []

    @task(concurrency=2)
    async def limited(i):
        active.append(i)
        most.append(len(active))
        await asyncio.sleep(0.005)
        active.remove(i)
        return i

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)

    @flow
    async def gathers():
        ticking = asyncio.create_task(tick())
        try:
            return await asyncio.gather(*map(limited, range(6)))
        finally:
            ticking.cancel()

    assert gathers.start().result(20) == list(range(6))
    assert max(most) == 2
    assert len(ticks) > 3


def test_a_task_waits_for_what_it_is_given_before_it_takes_a_slot():
    """A task that needs another's result holds no slot while it waits for that."""

    @task(concurrency=1)
    def add(one, other):
        return one + other

    @flow
    def chain():
        last = add.submit(0, 1)
        for _ in range(5):
            last = add.submit(last, 1)
        return last.result()

    assert chain.start().result(20) == 6


def test_a_waiting_task_is_cancelled_with_its_flow(gate, until):
    """Tasks that wait for a slot are cancelled with their flow, and never begin."""

    @task(concurrency=1)
    def limited(i):
        gate.stay(i)

    @flow
    def maps():
        for future in limited.map(list(range(5))):
            future.wait()

    run = maps.start()
    until(lambda: gate.inside)
    until(lambda: [each.state.name for each in run.tasks].count(WAITS) == 4)
    run.cancel()
    run.wait(20)
    assert run.state.is_cancelled()
    assert {each.state.name for each in run.tasks} == {"Cancelled"}
    assert [each.attempt for each in run.tasks].count(0) == 4


def test_a_called_task_that_waits_is_cancelled_and_paused_with_its_flow(gate, until):
    """A flow whose called task waits for a slot can be paused, and is cancelled at once."""

    @task(concurrency=1)
    def limited(i):
        gate.stay(i)

    @flow
    def calls(i):
        limited(i)

    first, second = calls.start(0), calls.start(1)
    until(lambda: gate.inside)
    blocked = second if gate.inside == [0] else first
    until(lambda: any(each.state.name == WAITS for each in blocked.tasks))
    blocked.pause()
    until(lambda: blocked.state.is_paused())
    blocked.cancel()
    blocked.wait(20)
    assert blocked.state.is_cancelled()
    assert blocked.tasks[0].attempt == 0
    gate.go.set()


def test_an_awaited_task_that_waits_is_cancelled_with_its_flow(gate, until):
    """An async flow that awaits a slot is cancelled at that await."""

    @task(concurrency=1)
    async def limited(i):
        await gate.stay_async(i)

    @flow
    async def calls(i):
        await limited(i)

    first = calls.start(0)
    until(lambda: gate.inside)
    second = calls.start(1)
    until(lambda: second.tasks and second.tasks[0].state.name == WAITS)
    second.cancel()
    second.wait(20)
    assert second.state.is_cancelled()
    assert second.tasks[0].attempt == 0
    gate.go.set()
    first.result(20)


def test_a_tag_limits_task_runs_and_flow_runs(gate, until):
    """A limit on a tag holds for all tasks that carry it, and for flows, counted apart."""
    set_tag_limit("database", 2)

    @task(tags=["database", "other"])
    def read(i):
        gate.stay(i)

    @task(tags=["database"])
    def write(i):
        gate.stay(i)

    @flow(tags=["database"])
    def uses():
        read.map([1, 2])
        write.map([3, 4])

    runs = [uses.start() for _ in range(3)]
    assert runs[2].state.name == WAITS
    assert "tag 'database' (flows)" in runs[2].state.message
    until(lambda: len(gate.inside) == 2)
    waiting = [each for run in runs for each in run.tasks if each.state.name == WAITS]
    until(lambda: len([1 for run in runs for each in run.tasks if each.state.name == WAITS]) == 6)
    assert all("tag 'database' (tasks)" in each.state.message for each in waiting)
    gate.go.set()
    for run in runs:
        run.result(20)
    assert gate.most == 2


def test_a_limit_on_a_tag_can_be_changed_and_lifted(gate, until):
    """Runs that wait for a tag's slot begin when the limit is raised or lifted."""
    set_tag_limit("gpu", Concurrency(1))

    @flow(tags=["gpu"])
    def limited(i):
        gate.stay(i)

    runs = [limited.start(i) for i in range(4)]
    until(lambda: gate.inside == [0])
    set_tag_limit("gpu", 2)
    until(lambda: gate.inside == [0, 1])
    set_tag_limit("gpu", None)
    until(lambda: len(gate.inside) == 4)
    gate.go.set()
    for run in runs:
        run.result(20)
    with pytest.raises(TypeError, match="limit must be a Concurrency"):
        set_tag_limit("gpu", "2")


# -- the kernel ------------------------------------------------------------------------


def test_a_kernel_runs_only_so_many_at_once(gate, until):
    """With `set_max_runs` further background runs wait, of whatever flow, and say so."""
    set_max_runs(2)
    one, other = flow(gate.stay, name="one"), flow(gate.stay, name="other")
    runs = [one.start(1), other.start(2), one.start(3), other.start(4)]
    until(lambda: len(gate.inside) == 2)
    assert [run.state.name for run in runs[2:]] == [WAITS, WAITS]
    assert "this kernel (at most 2 at once)" in runs[2].record().waiting.text
    assert flow(lambda: "called")() == "called"
    set_max_runs(3)
    until(lambda: len(gate.inside) == 3)
    gate.go.set()
    for run in runs:
        run.result(20)
    for wrong in (0, "2", 1.5, True):
        with pytest.raises(ValueError, match="max_runs must be"):
            set_max_runs(wrong)


def test_subflows_need_no_slot_of_the_kernel():
    """What a run calls or starts works under its slot, so that they never wait for each other."""
    set_max_runs(1)

    @flow
    def child(i):
        return i

    @flow
    def parent():
        return child(1) + child.start(2).result() + child.start(3).result()

    runs = [parent.start() for _ in range(3)]
    assert [run.result(20) for run in runs] == [6, 6, 6]


# -- deadlocks -------------------------------------------------------------------------


def test_a_flow_that_calls_itself_beyond_its_limit_is_refused():
    """A run that would wait for the slot of the run that calls it fails, saying so."""

    @flow(concurrency=1)
    def again(depth):
        return again(depth - 1) if depth else "end"

    with pytest.raises(WouldDeadlock, match=r"would wait for ever for a slot of flow 'again'"):
        again.start(1).result(20)
    assert again.start(0).result(20) == "end"

    @flow(concurrency=2)
    def twice(depth):
        return twice(depth - 1) if depth else "end"

    assert twice.start(1).result(20) == "end"

    @flow(concurrency=1)
    async def again_async(depth):
        return await again_async(depth - 1) if depth else "end"

    with pytest.raises(WouldDeadlock):
        again_async.start(1).result(20)


def test_a_task_that_calls_itself_beyond_its_limit_is_refused():
    """Likewise for tasks, through others in between."""

    @task(concurrency=1)
    def outer(depth):
        return between(depth) if depth else "end"

    @task
    def between(depth):
        return outer(depth - 1)

    @flow
    def calls():
        return outer(1)

    with pytest.raises(WouldDeadlock, match="task 'outer'"):
        calls.start().result(20)


@pytest.mark.parametrize("on", ["thread", "process"])
def test_a_task_that_waits_for_one_beyond_its_limit_is_refused(on):
    """A task that submits itself where there is no slot more, and waits for it, is refused."""

    @task(concurrency=2)
    def again(depth, late=False):
        if depth == 0:
            return "end"
        future = again.submit(depth - 1, late)
        while late and future.state.name == "Pending":
            time.sleep(0.001)
        return future.result()

    @task(concurrency=1)
    def around():
        return between(quote(around_again.submit()))

    @task
    def between(future):
        return future.result()

    around_again = around.with_options()

    @flow(on=on)
    def calls(called, *args):
        return called(*args)

    assert calls.start(again, 1).result(20) == "end"
    for args in ((again, 2), (again, 2, True), (around,)):
        with pytest.raises(WouldDeadlock, match=f"task '{args[0].name}'"):
            calls.start(*args).result(20)


def test_waiting_for_a_run_that_waits_for_ones_own_slot_is_refused():
    """A run that waits for one in the background which waits for its slot is told so."""

    @flow(concurrency=1)
    def again(depth):
        return again.start(depth - 1).result() if depth else "end"

    with pytest.raises(WouldDeadlock):
        again.start(1).result(20)

    @flow(concurrency=1)
    def looks(depth):
        return looks.start(depth - 1).wait(0.01).state.name if depth else "end"

    run = looks.start(1)
    assert run.result(20) == WAITS  # to look is not to wait

    @flow(concurrency=1)
    async def again_async(depth):
        return await again_async.start(depth - 1) if depth else "end"

    with pytest.raises(WouldDeadlock):
        again_async.start(1).result(20)


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


# -- many ------------------------------------------------------------------------------


def test_two_hundred_runs_race_for_three_slots(until):
    """Of 200 runs never more than three are inside, all end, and no slot is lost: also when
    some are cancelled at any moment."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    set_concurrency_limit("three", 3)
    gate, named = Gate(), Gate()

    @flow(concurrency=3)
    def limited(i):
        with gate.passing(i):
            time.sleep(0.0005)

    @flow
    def takes(i):
        with concurrency("three"), named.passing(i):
            time.sleep(0.0005)

    @flow
    async def takes_async(i):
        async with concurrency("three"):
            with named.passing(i):
                await asyncio.sleep(0.0005)

    runs = []
    for i in range(200):
        runs.append((limited, takes, takes_async)[i % 3].start(i))
        if chance.random() < 0.3:
            chance.choice(runs).cancel()
    for run in runs:
        run.wait(60)
        assert run.state.name in ("Completed", "Cancelled"), run.state
    assert 1 <= gate.most <= 3
    assert 1 <= named.most <= 3
    assert sum(run.state.name == "Completed" for run in runs) > 100

"""How many runs are active at once: who waits, begins or is turned away."""

import asyncio
import random
import threading
import time
from itertools import pairwise

import pytest

from jupyter_flows import (
    CancelledRun,
    Concurrency,
    ConcurrencyKeyError,
    ConcurrencyStrategy,
    concurrency,
    flow,
    set_concurrency_limit,
    set_max_runs,
    set_tag_limit,
    task,
)
from tests.concurrency.gates import WAITS, Gate, names

pytestmark = pytest.mark.usefixtures("nothing_is_left", "nothing_is_held")

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

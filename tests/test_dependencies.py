"""What a task depends on: seen from its inputs and `wait_for`, recorded, waited for, heeded."""

import asyncio
import dataclasses
import json
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

import pytest

from jupyter_flows import (
    CancelledRun,
    UpstreamTaskError,
    allow_failure,
    flow,
    get_run_context,
    tags,
    task,
    unmapped,
)
from jupyter_flows.history import Store
from jupyter_flows.kernel.control import Control
from jupyter_flows.messages import PROTOCOL
from jupyter_flows.states import Failed
from jupyter_flows.utilities.annotations import quote
from tests.history.fakes import run_record, task_record

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@task
def make(x):
    return [x]


@task
async def make_async(x):
    await asyncio.sleep(0)
    return [x]


@task
def take(*values, **named):
    return (*values, *named.values())


@task
def fails():
    raise ValueError("mine")


def upstream(run):
    return {each.name: each.record().upstream for each in run.tasks}


# -- seen ------------------------------------------------------------------------------


def test_a_future_among_the_inputs_is_a_dependency():
    """A task depends on the tasks whose futures it is given, in collections too."""

    class Pair(NamedTuple):
        one: object
        other: object

    @dataclasses.dataclass(frozen=True)
    class Config:
        rows: object
        name: str = "c"

    @flow
    def submits():
        futures = [make.submit(i) for i in range(6)]
        found = take.submit(
            futures[0],
            [1, futures[1]],
            {"key": (futures[2],)},
            Pair(futures[3], 0),
            Config(futures[4]),
            also=futures[5],
        )
        return found.result()

    run = submits.start()
    first, in_list, in_dict, pair, config, also = run.result(20)
    assert (first, in_list, in_dict, also) == ([0], [1, [1]], {"key": ([2],)}, [5])
    assert (pair.one, type(pair).__name__) == ([3], "Pair")
    assert (config.rows, config.name) == ([4], "c")
    assert upstream(run)["take-0"] == (0, 1, 2, 3, 4, 5)


def test_futures_of_a_map_are_given_whole():
    """What `map` gave, and other kinds of lists and dicts, arrive as lists and dicts of results."""

    class Rows(list):
        pass

    @flow
    def submits():
        futures = make.map([1, 2])
        ordered = OrderedDict(a=futures[0])
        return take(futures, Rows(futures), ordered, wait_for=futures)

    run = submits.start()
    results, rows, ordered = run.result(20)
    assert results == rows == [[1], [2]]
    assert (ordered, type(ordered)) == ({"a": [1]}, OrderedDict)
    assert upstream(run)["take-0"] == (0, 1)


def test_each_mapped_task_depends_on_what_is_mapped_over():
    """Tasks that are mapped over a result depend on its task; over futures, each on its own."""

    @flow
    def maps():
        rows = make(1)
        take.map(rows).wait()
        take.map(make.submit(2)).wait()
        take.map(make.map([3, 4]), unmapped(rows)).wait()

    run = maps.start().wait(20)
    assert [(each.name, each.record().upstream) for each in run.tasks] == [
        ("make-0", ()),
        ("take-0", (0,)),
        ("make-1", ()),
        ("take-1", (2,)),
        ("make-2", ()),
        ("make-3", ()),
        ("take-2", (0, 4)),
        ("take-3", (0, 5)),
    ]


def test_a_collection_that_holds_itself_is_an_input():
    """A list that holds itself is searched once; what holds no future is given as it is."""

    @flow
    def submits():
        loop = [make.submit(1)]
        loop.append(loop)
        plain = [object(), {"a": (1, [2.0])}]
        (found, same) = take(loop, plain)
        return found[0], same is plain

    assert submits.start().result(20) == ([1], True)


class Counted(dict):
    """A dict that counts how often it is looked through."""

    looks = 0

    def values(self):
        Counted.looks += 1
        return super().values()


def test_a_collection_that_is_held_often_is_looked_through_once():
    """A graph of objects costs what is in it, not what the paths through it are."""
    Counted.looks = 0

    @flow
    def submits():
        first, shared = make.submit(1), Counted(deepest={})
        for _ in range(20):
            shared = Counted(one=shared, other=shared)
        taken = take.submit(shared, first).result()
        shared = Counted(deepest=first)
        for _ in range(10):
            shared = Counted(one=shared, other=shared)
        (found,) = take.submit(shared).result()
        assert found["one"] is found["other"]
        for _ in range(10):
            found = found["other"]
        return taken[0]["one"] is taken[0]["other"], found["deepest"]

    assert submits.start().result(20) == (True, [1])
    assert Counted.looks < 500


def test_a_collection_may_be_deep():
    """What is nested deeper than Python's functions may be is given as it is."""

    @flow
    def submits():
        deep = []
        for _ in range(5_000):
            deep = [deep]
        (first, found) = take.submit(make.submit(1), deep).result()
        return first, found is deep, take(deep)[0] is deep

    assert submits.start().result(20) == ([1], True, True)


def test_a_result_is_a_dependency():
    """A task that is given what another returned depends on it, called, awaited or submitted."""

    @flow
    def calls():
        first = make(1)
        second = make.submit(2).result()
        return take(first, [second], 3)

    @flow
    async def awaits():
        _, second = await asyncio.gather(make_async(1), make_async(2))
        return take(second, 3)

    for run, expected in ((calls.start(), (0, 1)), (awaits.start(), (1,))):
        run.wait(20)
        assert upstream(run)["take-0"] == expected


def test_small_values_are_nobodys_results():
    """None, True and small numbers, which Python shares, tell nothing of where they are from."""

    @task
    def gives(value):
        return value

    @flow
    def calls():
        for value in (None, True, 7, ""):
            take(gives(value), value)

    run = calls.start().wait(20)
    assert not any(upstream(run).values())


def test_a_subflow_is_a_dependency_and_has_some():
    """Subflows depend, and are depended on, as tasks do."""

    @flow
    def inner(values):
        return [*values, "inner"]

    @flow
    def outer():
        return take(inner(make.submit(1)))

    run = outer.start()
    assert run.result(20) == ([1, "inner"],)
    assert upstream(run) == {"make-0": (), "inner": (0,), "take-0": (1,)}


def test_wait_for_is_a_dependency():
    """`wait_for` names what must have completed before, one or many, and gives no value."""

    @task
    def notes(name):
        noted.append(name)

    @flow
    def submits():
        one = notes.submit("one")
        two = notes.submit("two", wait_for=[one])
        three = notes.submit("three", wait_for=two)
        notes("four", wait_for=[one, three])

    noted = []
    run = submits.start().wait(20)
    assert noted == ["one", "two", "three", "four"]
    assert upstream(run) == {
        "notes-0": (),
        "notes-1": (0,),
        "notes-2": (1,),
        "notes-3": (0, 2),
    }


def test_dependencies_are_kept(tmp_path):
    """The store keeps whose results a task was given, and its tags."""
    store = Store(tmp_path / "flows" / "flows.sqlite")
    kept = task_record(3, upstream=(0, 2), tags=("a", "é"))
    store.save(runs=[run_record("r")], tasks=[("r", kept), ("r", task_record(4))])
    assert store.tasks("r") == [kept, task_record(4)]
    assert store.tasks("r")[0].as_json()["upstream"] == (0, 2)
    store.close()


def test_dependencies_are_told():
    """The control channel tells whose results a task was given, and its tags."""

    @flow
    def submits():
        with tags("a"):
            take(make.submit(1))

    run = submits.start().wait(20)
    request = {"protocol": PROTOCOL, "action": "tasks", "run": run.id, "start": 0, "stop": 9}
    reply = Control(None, None, None).answer(request, "a test", lambda content: None)
    told = json.loads(json.dumps(reply["tasks"]))
    assert [(each["upstream"], each["tags"]) for each in told] == [([], ["a"]), ([0], ["a"])]


def test_dependencies_in_a_process():
    """A flow in a process tells the kernel what its tasks depend on."""

    @flow(on="process")
    def submits():
        return take(make.submit(1))

    run = submits.start()
    assert run.result(20) == ([1],)
    assert upstream(run) == {"make-0": (), "take-0": (0,)}


# -- waited for ------------------------------------------------------------------------


def test_a_submitted_task_waits_for_its_inputs_elsewhere():
    """`submit` returns at once; the task is PENDING until what it is given has come."""

    @task
    def waits():
        go.wait(20)
        return "come"

    @flow
    def submits():
        future = take.submit(waits.submit())
        states = [future.state.type]
        go.set()
        return states, future.result()

    go = threading.Event()
    assert submits.start().result(20) == (["PENDING"], ("come",))


@pytest.mark.parametrize("kind", ["called", "submitted", "awaited"])
def test_a_task_that_waits_for_its_inputs_can_be_cancelled(kind, until):
    """A cancel reaches a task that waits for its inputs: it never begins."""

    @task
    def blocks():
        while True:
            time.sleep(0.001)

    @task
    def never(x):
        began.append(x)

    @task
    async def never_async(x):
        began.append(x)

    @flow
    def submits():
        future = blocks.submit()
        if kind == "called":
            never(future)
        never.submit(future).wait()

    @flow
    async def awaits():
        await never_async(blocks.submit())

    began = []
    run = (awaits if kind == "awaited" else submits).start()
    until(lambda: len(run.tasks) == 2)
    run.cancel(grace=0)
    assert run.wait(20).state.is_cancelled()
    assert [each.state.type for each in run.tasks] == ["CANCELLED", "CANCELLED"]
    assert not began


@pytest.mark.parametrize("on", ["async", "main", "thread"])
def test_a_run_is_paused_while_tasks_wait_for_their_inputs(on, until, kernel_loop):
    """A task that waits for its inputs holds up no pause, sync or async, and begins after it."""

    @task
    def blocks():
        while not go.is_set():
            time.sleep(0.001)
        return "come"

    @task
    async def take_async(value):
        return value

    def submits():
        future = blocks.submit()
        return [take.submit(future), take_async.submit(future)]

    async def submits_async():
        return submits()

    go = threading.Event()
    run = flow(on=on)(submits if on == "thread" else submits_async).start()
    until(lambda: len(run.tasks) == 3)
    run.pause()
    until(lambda: run.state.is_paused())
    go.set()
    run.resume()
    assert [future.result() for future in run.result(20)] == [("come",), "come"]


@pytest.mark.parametrize("on", ["thread", "process"])
def test_a_flow_started_with_a_future_begins_when_that_has_come(on):
    """`start` of a flow that is given a future returns at once; the run is PENDING until then."""

    @task
    def waits():
        go.wait(20)
        return 3

    @flow(flow_run_name="part {n}", on=on)
    def inner(n: int):
        return n + 1

    @flow
    def outer():
        run = inner.start(waits.submit())
        state = run.state.type
        go.set()
        return state, run.result(), run.name, run.parameters

    go = threading.Event()
    assert outer.start().result(20) == ("PENDING", 4, "part 3", {"n": 3})


def test_waiting_for_its_own_caller_is_refused():
    """A task that is to wait for the run that called it fails and says so, instead of for ever."""

    @flow
    def submits():
        return take.submit(wait_for=[get_run_context().flow_run], return_state=True).message

    message = submits.start().result(20)
    assert "take-0 cannot wait for submits, which ends after it" in message


def test_quote_is_not_searched():
    """What is marked `quote` is given as it is: futures within it stay futures."""

    @flow
    def submits():
        future = make.submit(1)
        (found,) = take.submit(quote([future])).result()
        return found[0] is future

    assert submits.start().result(20) is True


# -- not ready -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["input", "wait_for"])
@pytest.mark.parametrize("kind", ["called", "submitted"])
def test_a_failed_upstream_makes_it_not_ready(how, kind):
    """A task whose upstream failed never begins: it is FAILED under the name NotReady, and why."""

    @flow
    def submits():
        failed = fails.submit()
        args = (failed,) if how == "input" else ()
        wait_for = [failed] if how == "wait_for" else None
        if kind == "called":
            return take(*args, wait_for=wait_for)
        return take.submit(*args, wait_for=wait_for).result()

    run = submits.start()
    with pytest.raises(UpstreamTaskError, match=r"take-0 was not run, as fails-0.*mine") as caught:
        run.result(20)
    assert isinstance(caught.value.__cause__, ValueError)
    record = run.tasks[1].record()
    assert (record.state_type, record.state_name) == ("FAILED", "NotReady")
    assert [move.type for move in record.transitions] == ["PENDING", "FAILED"]
    assert record.started is None
    assert run.state.is_failed()


def test_a_cancelled_upstream_cancels_the_flow():
    """A task whose upstream was cancelled is CANCELLED as NotReady, and so is a flow that waits."""

    @task
    def blocks():
        while True:
            time.sleep(0.001)

    @flow
    def submits():
        upstream = blocks.submit()
        future = take.submit(upstream, fails.submit())
        upstream.cancel()
        future.result()

    @flow
    def handles():
        upstream = blocks.submit()
        future = take.submit(upstream)
        upstream.cancel()
        with pytest.raises(CancelledRun, match="take-0 was not run, as blocks-0"):
            future.result()
        return "handled"

    run = submits.start().wait(20)
    assert run.state.is_cancelled()
    assert (run.tasks[2].state.type, run.tasks[2].state.name) == ("CANCELLED", "NotReady")
    assert handles.start().result(20) == "handled"


def test_not_ready_passes_on():
    """What depends on a task that is not ready is not ready either."""

    @flow
    def submits():
        return take.submit(take.submit(fails.submit())).wait()

    run = submits.start().wait(20)
    assert [each.state.name for each in run.tasks] == ["Failed", "NotReady", "NotReady"]
    assert run.state.is_completed()  # it returned None, and let them fail


def test_a_state_is_an_input_too():
    """A state that a task is given arrives as its result; one that failed makes it not ready."""

    @flow
    def calls():
        state = make(1, return_state=True)
        assert take(state) == ([1],)
        bad = take(fails(return_state=True), return_state=True)
        foreign = take(Failed("elsewhere"), return_state=True)
        return bad.name, foreign.name

    run = calls.start()
    assert run.result(20) == ("NotReady", "NotReady")
    assert upstream(run) == {
        "make-0": (),
        "take-0": (0,),
        "fails-0": (),
        "take-1": (2,),
        "take-2": (),
    }


def test_a_subflow_with_a_failed_input_is_not_ready():
    """A subflow whose input failed is listed, FAILED as NotReady, and its call says why."""

    @flow
    def inner(x):
        began.append(x)

    @flow
    def outer():
        state = inner(fails.submit(), return_state=True)
        with pytest.raises(UpstreamTaskError, match="inner was not run, as fails-1"):
            inner(fails.submit())
        return state.name

    began = []
    run = outer.start()
    assert run.result(20) == "NotReady"
    assert [each.state.name for each in run.tasks] == ["Failed", "NotReady", "Failed", "NotReady"]
    assert not began


@pytest.mark.parametrize("kind", ["called", "submitted", "mapped"])
def test_allow_failure(kind):
    """With `allow_failure` a task runs with the exception in the place of a result."""

    @flow
    def submits():
        failed = fails.submit()
        if kind == "called":
            return take(allow_failure(failed), wait_for=[allow_failure(failed)])
        if kind == "submitted":
            return take.submit(allow_failure([failed])).result()[0]
        return take.map([1], unmapped(allow_failure(failed))).result()[0][1:]

    run = submits.start()
    (error,) = run.result(20)
    assert isinstance(error, ValueError)
    assert run.tasks[1].record().upstream == (0,)


def test_allow_failure_of_what_is_not_ready():
    """`allow_failure` lets a task run whose upstream is not ready; it is told why."""

    @flow
    def submits():
        return take.submit(allow_failure(take.submit(fails.submit()))).result()

    (error,) = submits.start().result(20)
    assert isinstance(error, UpstreamTaskError)


def test_allow_failure_does_not_allow_a_cancel():
    """A cancelled upstream is none that failed: `allow_failure` does not let the task run."""

    @task
    def blocks():
        while True:
            time.sleep(0.001)

    @flow
    def submits():
        future = blocks.submit()
        future.cancel()
        return take(allow_failure(future), return_state=True)

    assert submits.start().wait(20).state.is_cancelled()

"""A run that has ended, done anew."""

import asyncio
import threading

import pytest

from jupyter_flows import checkpoint, current_run, flow, get_run_context, runs, task
from jupyter_flows.engine.executors.thread import ThreadExecutor
from jupyter_flows.errors import NotActive, NotReplayable

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_a_replay_is_a_new_run_with_the_same_parameters():
    """`run.replay()` starts a new run of the flow with the same parameters, at once."""

    @flow(tags=["t"], metadata={"a": "b"}, flow_run_name="sum-{x}")
    def adds(x, *more, y=1):
        return x + sum(more) + y

    first = adds.start(1, 2, 3, y=4)
    assert first.result(20) == 10
    second = first.replay()
    assert second.result(20) == 10
    assert second.id != first.id
    assert (second.name, second.tags, second.metadata) == ("sum-1", {"t"}, {"a": "b"})
    assert second.parameters == first.parameters


def test_a_replay_keeps_the_history():
    """The replay says what it replays and counts the attempts on; the original stays as it is."""
    fails = [True, True, True, False]

    @flow(retries=1)
    def flaky():
        if fails.pop(0):
            raise ValueError("not yet")
        return current_run().attempt

    first = flaky.start().wait()
    assert first.state.is_failed()
    before = first.record()
    second = first.replay()
    assert second.result(20) == 4
    assert (first.record().attempt, second.record().attempt) == (2, 4)
    assert (second.replay_of, second.record().replay_of) == (first.id, first.id)
    assert first.record() == before
    assert first.record().replay_of is None


def test_a_replay_of_a_replay_counts_on():
    """Each replay of a replay is one attempt more, and names the run that it replays."""
    run = flow(lambda: current_run().attempt, name="counts").start().wait()
    for attempt in (2, 3):
        again = run.replay().wait()
        assert (again.result(), again.replay_of) == (attempt, run.id)
        run = again


def test_a_replay_that_has_not_begun_counts_no_attempt():
    """Before its body begins a replay has attempt 0, as any run has."""

    of_one = flow(lambda: 1, name="x")
    run = of_one.start().wait()
    again = of_one.make_run(ThreadExecutor(), replays=run)
    assert again.record().attempt == 0
    again.cancel()
    assert again.record().attempt == 0


@pytest.mark.parametrize("on", ["thread", "process"])
def test_a_sync_run_is_replayed_on_its_worker(on):
    """A replay runs where the run did, a process included, and its code knows of it."""

    @flow(on=on)
    def where(x):
        run = current_run()
        return x, run.attempt, run.retry_count, run.flow_run.replay_of

    first = where.start(7).wait()
    second = first.replay()
    assert second.result(30) == (7, 2, 1, first.id)
    assert second.record().on == on


def test_an_async_run_is_replayed_on_its_worker(kernel_loop):
    """So does an async run, on its own loop and on the kernel's."""

    async def doubles(x):
        await asyncio.sleep(0)
        return 2 * x

    for on in ("async", "main", "process"):
        first = flow(doubles, on=on).start(21).wait()
        second = first.replay()
        assert second.result(30) == 42
        assert second.record().on == on


def test_a_foreground_run_is_replayed_in_the_background():
    """A flow that was called in the foreground is replayed on a worker of its own."""

    @flow(log_prints=True)
    def where():
        print("here")
        return threading.current_thread()

    assert where() is threading.current_thread()
    again = runs.list(name="where")[0].replay()
    assert again.result(20) is not threading.current_thread()
    assert [line.message for line in again.logs] == ["here"]


def test_a_run_that_has_not_ended_cannot_be_replayed(until):
    """An active run is not replayed, nor touched."""
    go = threading.Event()

    @flow
    def waits():
        while not go.wait(0.001):
            checkpoint()

    run = waits.start()
    before = len(runs.list(name="waits", limit=None))
    with pytest.raises(NotActive, match="only a run that has ended can be replayed"):
        run.replay()
    assert len(runs.list(name="waits", limit=None)) == before
    go.set()
    assert run.wait(20).state.is_completed()


def test_a_run_without_a_flow_here_says_so():
    """A run whose flow is not known here cannot be replayed, and says why."""
    run = flow(lambda: 1, name="x").start().wait()
    run.again = None
    with pytest.raises(NotReplayable, match="its flow is not defined here"):
        run.replay()


def test_a_cancelled_run_is_replayed():
    """A run that was cancelled can be done again; the cancel is not repeated."""
    go = threading.Event()

    @flow
    def waits():
        while not go.wait(0.001):
            checkpoint()
        return "done"

    run = waits.start()
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    go.set()
    assert run.replay().result(20) == "done"


def test_parameters_are_the_same_objects():
    """A replay gets the very objects, with what the first run changed inside of them."""

    @flow
    def appends(things):
        things.append(len(things))
        return list(things)

    run = appends.start([]).wait()
    assert run.result() == [0]
    assert run.replay().result(20) == [0, 1]


def test_runs_are_replayed_in_bulk():
    """`runs.replay` does ended runs again, by ids or filters, and returns the new runs."""
    fails = [True, True, False, False]

    @flow(metadata={"bulk": "replay"})
    def flaky():
        if fails.pop(0):
            raise ValueError("not yet")

    first, second = flaky.start().wait(), flaky.start().wait()
    again = runs.replay(state="FAILED", metadata={"bulk": "replay"})
    assert [run.replay_of for run in again] == [first.id, second.id]
    assert all(run.wait(20).state.is_completed() for run in again)
    assert runs.replay(first.id)[0].wait(20).replay_of == first.id


def test_a_subflow_is_replayed_with_the_run_that_called_it():
    """Filters that choose a run and its subflow replay the calling run, which calls it again."""
    calls = []

    @flow(tags=["whole"])
    def inner():
        calls.append(get_run_context().flow_run.id)

    @task
    def step():
        return None

    @flow(tags=["whole"])
    def outer():
        step()
        inner()

    run = outer.start().wait()
    [again] = runs.replay(tag="whole", limit=2)
    assert again.wait(20).replay_of == run.id
    assert len(set(calls)) == 2
    assert len(again.tasks) == 2

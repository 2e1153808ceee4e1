"""`return_state`, and what returned states make of a flow."""

import asyncio
import time

import pytest

from jupyter_flows import CancelledRun, flow, task
from jupyter_flows.states import Cancelled, Completed, Failed

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@task
def works(x=1):
    return x


@task
async def works_async(x=1):
    return x


@task
def fails():
    raise ValueError("mine")


@task
def blocks():
    while True:
        time.sleep(0.001)


def test_tasks_return_their_states():
    """`return_state=True` gives a task's final state, called, submitted or mapped."""

    @flow
    def calls():
        states = [works(return_state=True), fails(return_state=True)]
        states += [works.submit(2, return_state=True), fails.submit(return_state=True)]
        states += works.map([3, 4], return_state=True)
        return [(state.type, state.result(raise_on_failure=False)) for state in states]

    @flow
    async def awaits():
        states = [await works_async(return_state=True), works_async.submit(return_state=True)]
        return [state.type for state in states]

    found = calls.start().result(20)
    assert [type_ for type_, _ in found] == ["COMPLETED", "FAILED"] * 2 + ["COMPLETED"] * 2
    assert [value for _, value in found if isinstance(value, int)] == [1, 2, 3, 4]
    assert awaits.start().result(20) == ["COMPLETED"] * 2


def test_flows_return_their_states():
    """`return_state=True` gives a flow's final state, called in a flow or alone, sync or async."""

    @flow
    def inner(x):
        if not x:
            raise ValueError("mine")
        return x

    @flow
    async def inner_async(x):
        return inner(x)

    @flow
    def outer():
        return inner(1, return_state=True).type, inner(0, return_state=True).type

    assert outer.start().result(20) == ("COMPLETED", "FAILED")
    assert inner(0, return_state=True).is_failed()
    assert asyncio.run(inner_async(0, return_state=True)).is_failed()


def test_a_task_called_alone_returns_its_state():
    """`return_state=True` works for a task that is called outside of a flow."""
    assert works(3, return_state=True).result() == 3
    assert fails(return_state=True).is_failed()


def test_a_cancelled_task_decides():
    """Of what a flow returns CANCELLED beats FAILED: states and futures, one or many."""

    @flow
    def returns():
        future = blocks.submit()
        future.cancel()
        return [works.submit(), fails.submit(), future]

    run = returns.start().wait(20)
    assert run.state.is_cancelled()
    assert run.state.message == "1/3 states cancelled."
    with pytest.raises(CancelledRun):
        run.result()


def test_a_failed_task_decides():
    """A flow that returns the state of a task that failed FAILED as it did."""

    @flow
    def returns():
        return works(return_state=True), fails(return_state=True)

    run = returns.start().wait(20)
    assert run.state.is_failed()
    with pytest.raises(ValueError, match="mine"):
        run.result()


def test_an_unnoticed_failure_does_not_decide():
    """A flow that returns something else, or nothing, is COMPLETED though a task failed."""

    @flow
    def goes_on():
        fails(return_state=True)
        fails.submit()

    run = goes_on.start().wait(20)
    assert run.state.is_completed()
    assert [each.state.type for each in run.tasks] == ["FAILED", "FAILED"]


@pytest.mark.parametrize(
    ("state", "type_"),
    [(Failed("no"), "FAILED"), (Cancelled("no"), "CANCELLED"), (Completed(data=5), "COMPLETED")],
)
def test_a_task_that_returns_a_state_ends_in_it(state, type_):
    """A task that returns a state ends in it, as a flow does."""

    @task
    def returns():
        return state

    @flow
    def calls():
        return returns(return_state=True).type

    assert calls.start().result(20) == type_


def test_returned_task_lists_of_map():
    """A flow that returns what `map` gave ends as those tasks do."""

    @flow
    def maps():
        return works.map([1, 2, 3])

    run = maps.start()
    assert [future.result() for future in run.result(20)] == [1, 2, 3]


@pytest.mark.parametrize(
    "shape",
    [
        lambda: works.map([1, 2]),
        lambda: [works.submit(1), 2],
        lambda: {"one": works.submit(1), "more": [works.map([2])]},
    ],
)
def test_futures_that_a_flow_in_a_process_returns(shape):
    """Futures among what a flow in a process returns come back as the states of their tasks."""

    @flow(on="process")
    def returns():
        return shape()

    def as_results(value):
        if isinstance(value, dict):
            return {name: as_results(each) for name, each in value.items()}
        if isinstance(value, list):
            return [as_results(each) for each in value]
        return value if isinstance(value, int) else value.result()

    here = flow(shape)
    assert as_results(returns.start().result(20)) == as_results(here())


def test_a_list_that_holds_itself():
    """A list that holds itself is returned and passed on like any other value."""
    ring = [works]
    ring[0] = ring

    @flow
    def passes_on():
        return works(works(ring))

    assert passes_on.start().result(20) is ring

"""Waits for slots that would last for ever are refused."""

import time

import pytest

from jupyter_flows import (
    flow,
    task,
)
from jupyter_flows.annotations import quote
from jupyter_flows.errors import WouldDeadlock
from tests.concurrency.gates import WAITS

pytestmark = pytest.mark.usefixtures("nothing_is_left", "nothing_is_held")

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

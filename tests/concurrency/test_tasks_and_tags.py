"""How many task runs are active at once, by their task and by their tags."""

import asyncio
import time
from collections import Counter

import pytest

from jupyter_flows import (
    Concurrency,
    flow,
    set_tag_limit,
    task,
)
from tests.concurrency.gates import WAITS

pytestmark = pytest.mark.usefixtures("nothing_is_left", "nothing_is_held")

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

"""What is shielded is done whole, whatever is asked meanwhile."""

import asyncio
import threading
import time

import pytest

from jupyter_flows import checkpoint, flow, shield, task
from jupyter_flows.engine import monitoring

needs_watching = pytest.mark.skipif(not monitoring.available(), reason="needs Python 3.12")
FOR_EVER = 3600
STILL = 0.05  # seconds for which nothing may change


def compute(until):
    while not until.is_set():
        pass


@needs_watching
@pytest.mark.parametrize("stop", ["cancel", "kill"])
def test_a_cancel_and_a_kill_wait_for_the_end_of_a_shield(stop):
    """Within a shield nothing is raised, neither at a safe line nor by force; after it, it is."""
    begun, go, done = threading.Event(), threading.Event(), []

    @flow(cancel_grace_seconds=0, kill_grace_seconds=0.05)
    def writes():
        with shield():
            begun.set()
            with shield():
                compute(go)
            time.sleep(0.01)
            print("still here")
            checkpoint()
            done.append("whole")
        compute(threading.Event())

    run = writes.start()
    begun.wait(20)
    getattr(run, stop)()
    time.sleep(2 * STILL)
    assert not run.state_is_final()
    go.set()
    assert run.wait(20).state.is_cancelled()
    assert done == ["whole"]
    assert any(line.message == "still here" for line in run.logs)


@pytest.mark.parametrize("on", ["async", "main"])
@pytest.mark.parametrize("how", ["with", "async with"])
def test_a_cancel_waits_for_the_end_of_a_shield_that_awaits(on, how):
    """A coroutine in a shield is not cancelled at its awaits, but right after the shield."""
    done = []

    @flow(on=on, cancel_grace_seconds=0.01)
    async def writes(begun, go):
        begun.set()
        if how == "with":
            with shield():
                await go.wait()
                await asyncio.sleep(0.01)
                done.append("whole")
        else:
            async with shield():
                await go.wait()
                await asyncio.sleep(0.01)
                done.append("whole")
        await asyncio.sleep(FOR_EVER)

    class Flag(threading.Event):
        async def wait(self):
            while not self.is_set():
                await asyncio.sleep(0.001)

    async def main():
        begun, go = Flag(), Flag()
        run = writes.start(begun, go)
        await begun.wait()
        run.cancel()
        await asyncio.sleep(STILL)
        assert not run.state_is_final()
        go.set()
        await asyncio.wait_for(run.wait_async(), 20)
        return run

    assert asyncio.run(main()).state.is_cancelled()
    assert done == ["whole"]


def test_a_cancel_waits_for_a_task_that_is_shielded(until):
    """A task that a shielded block awaits or calls is within the shield too."""
    begun, go, done = threading.Event(), threading.Event(), []

    @task
    async def step():
        begun.set()
        while not go.is_set():
            await asyncio.sleep(0.001)
        done.append("task")

    @flow(cancel_grace_seconds=0.01)
    async def calls():
        async with shield():
            await asyncio.gather(step())
            done.append("flow")
        await asyncio.sleep(FOR_EVER)

    run = calls.start()
    begun.wait(20)
    run.cancel()
    time.sleep(STILL)
    go.set()
    assert run.wait(20).state.is_cancelled()
    assert done == ["task", "flow"]


@needs_watching
def test_a_pause_waits_for_the_end_of_a_shield(until):
    """A shielded block is not held, nor is its run said to be PAUSED; after it, it is."""
    begun, go, done = threading.Event(), threading.Event(), []

    @flow
    def writes():
        with shield():
            begun.set()
            while not go.is_set():
                time.sleep(0.001)
            done.append("whole")
        compute(threading.Event())

    run = writes.start()
    begun.wait(20)
    run.pause()
    time.sleep(STILL)
    assert run.state.is_running()
    assert run.asked == "pause"
    go.set()
    until(lambda: run.state.is_paused())
    assert done == ["whole"]
    run.cancel(grace=0)
    assert run.wait(20).state.is_cancelled()


@pytest.mark.parametrize("on", ["async", "main"])
def test_a_pause_waits_for_the_end_of_a_shield_that_awaits(on):
    """A coroutine in a shield goes on through a pause, and is held right after it."""
    done = []

    @flow(on=on)
    async def writes(seen):
        async with shield():
            seen["begun"] = True
            while "go" not in seen:
                await asyncio.sleep(0.001)
            done.append("whole")
        await asyncio.sleep(0.001)
        done.append("after")

    async def main():
        seen = {}
        run = writes.start(seen)
        while "begun" not in seen:
            await asyncio.sleep(0.001)
        run.pause()
        await asyncio.sleep(STILL)
        assert run.state.is_running()
        seen["go"] = True
        while not run.state.is_paused():
            await asyncio.sleep(0.001)
        await asyncio.sleep(STILL)
        assert done == ["whole"]
        run.resume()
        await asyncio.wait_for(run.wait_async(), 20)
        return run

    assert asyncio.run(main()).state.is_completed()
    assert done == ["whole", "after"]


def test_what_is_submitted_in_a_shield_is_held_after_it(until):
    """An async task that was submitted in a shield goes on while that lasts, and is held then."""
    begun, go, steps = threading.Event(), threading.Event(), []

    @task
    async def works():
        begun.set()
        while not go.is_set():
            await asyncio.sleep(0.001)
        ended.set()
        while True:
            await asyncio.sleep(0.001)
            steps.append(1)

    @flow
    def body():
        with shield():
            future = works.submit()
            ended.wait(20)
        checkpoint()
        future.result()

    ended = threading.Event()
    run = body.start()
    assert begun.wait(20)
    run.pause()
    go.set()
    assert ended.wait(20)
    until(lambda: run.state.is_paused())
    before = len(steps)
    time.sleep(STILL)
    assert len(steps) == before
    run.resume()
    until(lambda: len(steps) > before)
    run.cancel()
    assert run.wait(20).state.is_cancelled()


def test_a_shield_outside_of_runs_does_nothing():
    """`shield` may be used in code that also runs outside of flows."""
    with shield(), shield():
        value = 1
    assert value == 1


@pytest.mark.parametrize("on", ["async", "main"])
def test_a_retry_within_a_shield_is_not_held(on, until, kernel_loop):
    """A pause waits for a shield whose task is tried again: that delay does not stand still."""
    tries = []

    @task(retries=1, retry_delay_seconds=0.2)
    async def flaky():
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("once")

    @flow(on=on)
    async def body():
        async with shield():
            await flaky()
            done.set()
        await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)

    done = threading.Event()
    run = body.start()
    until(lambda: any(each.state.name == "AwaitingRetry" for each in run.tasks))
    run.pause()
    assert done.wait(20)
    until(lambda: run.state.is_paused())
    run.resume()
    assert run.wait(20).state.is_completed()

"""`run_sync_in_worker_thread`: sync code of async flows, on a thread, and a part of the run."""

import asyncio
import threading
import time

import pytest

from jupyter_flows import (
    current_run,
    flow,
    get_run_logger,
    run_sync_in_worker_thread,
    task,
    timeout_async,
)
from jupyter_flows.states import Failed

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def work(x, *, y=0):
    print("working")
    get_run_logger().info("logged")
    return x + y, threading.current_thread()


def test_it_runs_on_a_thread_of_the_run():
    """It runs elsewhere, so that the loop goes on; what it prints and logs is the run's."""

    @task
    async def wraps():
        ticks = []
        ticking = asyncio.ensure_future(tick(ticks))
        result, thread = await run_sync_in_worker_thread(waits, ticks)
        ticking.cancel()
        assert thread is not threading.current_thread()
        return result

    async def tick(ticks):
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)

    def waits(ticks):
        while len(ticks) < 3:
            time.sleep(0.001)
        return work(1, y=2)

    @flow
    async def awaits():
        return await wraps()

    run = awaits.start()
    assert run.result(20) == 3
    assert [line.message for line in run.logs] == ["working", "logged"]
    assert run.logs[0].source == "wraps-0"
    assert len(run.tasks) == 1


def test_it_gives_back_what_came_of_it():
    """What it raises is raised by the await; what it returns is a value, be it a state."""

    def fails():
        raise ValueError("mine")

    @flow
    async def awaits():
        with pytest.raises(ValueError, match="mine"):
            await run_sync_in_worker_thread(fails)
        state = await run_sync_in_worker_thread(Failed, "a value")
        return state.message, await run_sync_in_worker_thread(lambda: current_run().flow_run.name)

    assert awaits.start().result(20) == ("a value", "awaits")


def test_outside_of_a_run_it_is_a_thread():
    """Outside of runs it runs on a thread of the event loop's."""
    thread = asyncio.run(run_sync_in_worker_thread(threading.current_thread))
    assert thread is not threading.current_thread()


@pytest.mark.parametrize("how", ["sleeps", "spins"])
@pytest.mark.parametrize("on", ["async", "main"])
def test_a_cancel_stops_it(how, on, kernel_loop):
    """A cancel reaches it, at a checkpoint or a safe line; the await ends after its cleanup."""

    def blocks():
        try:
            begun.set()
            while True:
                if how == "sleeps":
                    time.sleep(0.001)
        finally:
            order.append("thread")

    @flow(on=on)
    async def awaits():
        try:
            await run_sync_in_worker_thread(blocks)
        finally:
            order.append("await")

    begun, order = threading.Event(), []
    run = awaits.start()
    assert begun.wait(20)
    run.cancel(grace=0)
    assert run.wait(20).state.is_cancelled()
    assert order == ["thread", "await"]


def test_a_cancelled_await_stops_it():
    """Cancelling the await alone, as a timeout does, stops the code and nothing else."""

    def blocks():
        try:
            while True:
                time.sleep(0.001)
        finally:
            order.append("thread")

    @flow
    async def awaits():
        with pytest.raises(TimeoutError):
            async with timeout_async(0.05):
                await run_sync_in_worker_thread(blocks)
        order.append("flow")
        return await run_sync_in_worker_thread(lambda: "goes on")

    order = []
    assert awaits.start().result(20) == "goes on"
    assert order == ["thread", "flow"]


def test_a_pause_holds_it(until):
    """A run is PAUSED only when the code on the thread holds still too."""

    def counts():
        while not done.is_set():
            time.sleep(0)
            counted[0] += 1
            time.sleep(0.0001)

    @flow
    async def awaits():
        await run_sync_in_worker_thread(counts)

    done, counted = threading.Event(), [0]
    run = awaits.start()
    for _ in range(10):
        until(lambda before=counted[0]: counted[0] > before)
        run.pause()
        until(lambda: run.state.is_paused())
        seen = counted[0]
        assert not done.wait(0.005)
        assert counted[0] == seen
        run.resume()
    done.set()
    assert run.wait(20).state.is_completed()


def test_in_a_process():
    """It works in a flow that runs in a process."""

    @flow(on="process")
    async def awaits():
        return await run_sync_in_worker_thread(sum, [1, 2])

    assert awaits.start().result(20) == 3

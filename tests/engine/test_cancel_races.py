"""Cancels that race: with each other, and with the end of what they are to stop."""

import asyncio
import queue
import random
import threading
import time

from jupyter_flows import (
    checkpoint,
    current_run,
    flow,
    shield,
    task,
)
from jupyter_flows.engine import ports
from jupyter_flows.engine.injecting import place_to_hit
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.stacks import stack_of
from jupyter_flows.engine.timers import ring
from jupyter_flows.states import TERMINAL

FOR_EVER = 3600


def terminal_states(run):
    return [state for state in run.states if state.type in TERMINAL]


def test_a_cancel_races_with_the_end():
    """Each of 2,000 cancels near the end leaves one terminal state, CANCELLED if it was told."""

    @flow
    def body():
        for _ in range(spins):
            pass
        checkpoint()

    @flow
    async def body_async():
        for _ in range(spins // 10):
            await asyncio.sleep(0)

    states = []
    rng = random.Random(20)
    for i in range(2_000):
        spins = rng.randrange(200)
        run = (body_async if i % 4 == 0 else body).start()
        for _ in range(rng.randrange(400)):
            pass
        run.cancel()
        run.wait(20)
        assert len(terminal_states(run)) == 1
        assert run.state.is_final()
        told = run.delivered or run.attempt == 0
        assert run.state.is_cancelled() == told, (run.states, run.delivered)
        states.append(run.state.type)
    assert len(set(states)) == 2  # both ways were seen


def test_cancels_race_with_each_other(until):
    """Of many cancels at once one counts, and its reason stands."""

    for _ in range(200):
        run = flow(lambda: time.sleep(FOR_EVER)).start()
        barrier = threading.Barrier(4)
        counted = []

        def cancel(reason, run=run, barrier=barrier, counted=counted):
            barrier.wait(20)
            if run.cancel(reason=reason):
                counted.append(reason)

        reasons = ["user", "parent", "concurrency", "shutdown"]
        threads = [threading.Thread(target=cancel, args=(reason,)) for reason in reasons]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run.wait(20)
        assert counted == [run.cancel_reason]
        assert len(terminal_states(run)) == 1


def test_every_waiter_is_told_once():
    """Each callback of a run's end is called once, whoever ends it and whenever it was added."""

    for _ in range(300):
        run = flow(lambda: checkpoint()).start()
        called = [0] * 10

        def count(i, called=called):
            called[i] += 1

        for i in range(10):
            run.on_done(lambda i=i, count=count: count(i))
            if i == 5:
                run.cancel()
        run.wait(20)
        deadline = time.monotonic() + 20
        while called != [1] * 10 and time.monotonic() < deadline:
            time.sleep(0.0005)
        assert called == [1] * 10


def test_a_timeout_never_hits_the_next_attempt():
    """A timeout that rings as its attempt ends is that attempt's alone."""

    @flow(timeout_seconds=0.002, retries=40)
    def body():
        if current_run().attempt <= 40:
            until = time.perf_counter() + 0.002
            while time.perf_counter() < until:
                pass
            raise ValueError
        return "done"

    for _ in range(5):
        run = body.start().wait(20)
        # the last attempt returns at once: no timeout of an earlier one may end it
        assert run.state.is_completed(), run.states[-4:]


def test_a_timer_rings_once_and_not_when_cancelled(until):
    """Alarms ring in the order of their times, and a cancelled one does not."""
    rung = []
    ring(0.03, lambda: rung.append("late"))
    ring(0.01, lambda: rung.append("early"))
    ring(0.02, lambda: rung.append("never")).cancel()
    until(lambda: len(rung) == 2)
    assert rung == ["early", "late"]


def test_equal_functions_are_told_apart(until):
    """Of two runs with code of the same text each is interrupted: also the second."""
    source = "def spin(counts):\n    while True: counts.append(1)\n"
    runs = []
    for _ in range(2):
        names = {}
        exec(compile(source, "<cell>", "exec"), names)
        counts = []

        @flow(name="spins")
        def spins(spin=names["spin"], counts=counts):
            spin(counts)

        run = spins.start()
        until(lambda counts=counts: counts)
        runs.append(run)
    for run in runs:
        run.cancel(grace=0)
    for run in runs:
        run.wait(10)
        assert run.state.name == "Cancelled"


def test_a_kill_leaves_the_event_loop_of_a_cleanup_alone(until):
    """Kill does not break the loop of an async run between two steps of its body."""
    begun, cleaning = threading.Event(), []

    @flow
    async def tidies():
        try:
            begun.set()
            await asyncio.sleep(3600)
        finally:
            cleaning.append(1)
            await asyncio.sleep(0.05)

    run = tidies.start()
    begun.wait(20)
    run.cancel(grace=60)
    until(lambda: cleaning)
    run.kill()
    run.wait(10)
    assert run.state.name == "Cancelled"


def test_a_kill_does_not_hit_what_the_engine_calls(until, monkeypatch):
    """No exception is injected into the standard library's code while that works for the engine."""
    full = queue.Queue(maxsize=1)
    full.put("blocks the next")

    @task
    def step():
        monkeypatch.setattr(ports, "listeners", [full.put])  # blocks where the engine calls it

    @flow
    def body():
        step()
        time.sleep(FOR_EVER)

    def is_blocked():
        return run.thread and any(f.f_code.co_name == "put" for f in stack_of(run.thread))

    run = body.start()
    until(is_blocked)
    assert not place_to_hit(run)
    monkeypatch.setattr(ports, "listeners", [])
    full.get()
    run.kill()
    assert run.wait(20).state.is_cancelled()


def test_a_rung_is_not_taken_twice(until):
    """An alarm that rings as the last rung is taken takes none beyond that."""
    rung = []

    @flow(cancel_grace_seconds=FOR_EVER)
    def body():
        with shield():
            go_on.wait(20)

    go_on = threading.Event()
    run = body.start()
    until(lambda: run.thread)
    run.cancel()
    alarm = run.ladder._alarm.callback
    run.kill()
    alarm()
    rung.append(run.ladder.rung)
    go_on.set()
    run.wait(20)
    assert rung == [2]
    assert run.ladder._alarm.callback is None
    run.ladder._wait()  # as one that waits while the run ends
    assert run.ladder._alarm.callback is None


def test_a_cancel_reaches_what_a_task_leaves_behind_that_is_just_ending(monkeypatch, until):
    """What a task has submitted is its flow's when that ends, and stops with it at any moment."""
    ended, go_on, asked = threading.Event(), threading.Event(), []
    leave_caller = Life.leave_caller

    def leave_late(life):
        if life.name.startswith("leaves"):
            ended.set()
            go_on.wait(20)
        leave_caller(life)

    monkeypatch.setattr(Life, "leave_caller", leave_late)

    @task
    def is_left():
        asked.append(current_run().wait_for_cancel(20))

    @task
    def leaves():
        is_left.submit()

    @flow
    def body():
        leaves.submit()
        time.sleep(20)

    run = body.start()
    ended.wait(20)
    until(lambda: run.tasks[1].state.is_running())
    run.cancel()
    until(lambda: run.delivered)
    go_on.set()
    run.wait(20)
    assert asked == [True]
    assert run.tasks[1].cancel_reason == "parent"

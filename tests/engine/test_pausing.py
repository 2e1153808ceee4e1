"""Pausing: nothing moves while PAUSED is said, on every worker."""

import asyncio
import math
import threading
import time

import pytest

from jupyter_flows import (
    NotPaused,
    checkpoint,
    flow,
    pause_flow_run,
    progress,
    shield,
    task,
)
from jupyter_flows.engine import ports
from jupyter_flows.engine.ports import NoHistory
from jupyter_flows.errors import NotActive

STILL = 0.05  # seconds for which nothing may move
FOR_EVER = 3600


class Counter:
    """What a run does, counted."""

    def __init__(self):
        self.steps = 0
        self.stop = False

    def step(self):
        self.steps += 1

    def stands_still(self):
        """Whether nothing is counted for a while."""
        before = self.steps
        time.sleep(STILL)
        return self.steps == before


@pytest.fixture
def counter():
    return Counter()


def pause_and_resume(run, counter, until):
    """Pause and resume a run three times: still while PAUSED, and going on afterwards."""
    for _ in range(3):
        before = counter.steps
        until(lambda before=before: counter.steps > before + 2, "it goes on")
        run.pause()
        until(lambda: run.state.is_paused(), f"it is PAUSED: {run.book.workers}")
        assert run.asked is None
        assert counter.stands_still()
        run.resume()
        assert run.state.is_running()
    counter.stop = True
    run.wait(20)
    assert run.state.is_completed(), run.state
    names = [state.name for state in run.states]
    assert names == ["Pending", "Running", *["Paused", "Running"] * 3, "Completed"]
    assert run.record().paused_seconds >= 3 * STILL


# -- workers ---------------------------------------------------------------------------


def test_a_thread_is_held_at_its_checkpoints(counter, until):
    """A paused thread run holds still at its next checkpoint and goes on from there."""

    @flow
    def body():
        while not counter.stop:
            counter.step()
            checkpoint()

    pause_and_resume(body.start(), counter, until)


class BehindHistory(NoHistory):
    """A history that does not keep up with what is printed, until it is let go."""

    due = -math.inf

    def __init__(self):
        self.go = threading.Event()
        self.wakes = []

    def keep_up(self, now, wait):
        wait(self.go.is_set, self.wakes.append, 60)

    def let_go(self):
        self.go.set()
        for wake in list(self.wakes):
            wake()


@pytest.mark.parametrize("kind", ["thread", "async", "task"])
def test_a_print_that_waits_for_history_is_paused_at_once(kind, until, monkeypatch):
    """What waits for a store that is behind is PAUSED at once, and stops at once."""
    history = BehindHistory()
    monkeypatch.setattr(ports, "history", history)
    gone_on = []

    def prints():
        print("kept late")
        gone_on.append("on")

    async def prints_async():
        prints()

    bodies = {"thread": prints, "async": prints_async, "task": lambda: task(prints)()}
    for end in ("resumed", "cancelled"):
        history.go.clear()
        history.wakes.clear()
        gone_on.clear()
        run = flow(bodies[kind]).start()
        until(lambda: history.wakes, "it waits for history")
        run.pause()
        until(lambda run=run: run.state.is_paused(), "it is PAUSED")
        history.let_go()
        assert run.logs[-1].message == "kept late"
        assert not gone_on
        run.resume() if end == "resumed" else run.cancel()
        run.wait(20)
        assert run.state.type == ("COMPLETED" if end == "resumed" else "CANCELLED")


def test_a_sleeping_thread_is_paused_at_once(until):
    """A run in `time.sleep` is PAUSED at once, and sleeps the rest of its time afterwards."""

    @flow
    def body():
        started.set()
        time.sleep(0.2)

    started = threading.Event()
    run = body.start()
    started.wait(20)
    run.pause()
    until(lambda: run.state.is_paused())
    time.sleep(0.3)
    assert run.state.is_paused()
    resumed = time.monotonic()
    run.resume()
    run.wait(20)
    assert time.monotonic() - resumed > 0.05


def test_an_async_run_parks_its_loop(counter, until):
    """A paused async run holds all the tasks of its loop, plain asyncio ones too."""

    @flow
    async def body():
        async def ticks():
            while not counter.stop:
                counter.step()
                await asyncio.sleep(0.001)

        await asyncio.gather(ticks(), ticks(), task(ticks)())

    pause_and_resume(body.start(), counter, until)


def test_a_parked_loops_timeouts_are_frozen(until):
    """The clock of an async run's loop stands still while it is paused: no timeout is used up."""

    @flow
    async def body():
        async with asyncio.timeout(0.3):
            started.set()
            await asyncio.sleep(0.1)
        return "in time"

    started = threading.Event()
    run = body.start()
    started.wait(20)
    run.pause()
    until(lambda: run.state.is_paused())
    time.sleep(0.5)
    run.resume()
    assert run.result(20) == "in time"


def test_a_pause_at_a_print_freezes_a_loops_timeouts_too(until):
    """A loop that is parked in a print, not between awaits, has its clock stopped as well."""

    @flow
    async def body():
        async with asyncio.timeout(1.5):
            started.set()
            while not paused.is_set():
                print("on the loop")
            await asyncio.sleep(0.1)
        return "in time"

    started, paused = threading.Event(), threading.Event()
    run = body.start()
    started.wait(20)
    run.pause()
    until(lambda: run.state.is_paused())
    paused.set()
    time.sleep(2)
    run.resume()
    assert run.result(20) == "in time"


def test_a_coroutine_on_main_is_held_while_the_loop_goes_on(counter, until, kernel_loop):
    """On the kernel's loop a paused run is held between its awaits; the loop serves others."""

    @task
    async def ticks():
        while not counter.stop:
            counter.step()
            await asyncio.sleep(0.001)

    @flow(on="main")
    async def body():
        await asyncio.gather(ticks(), ticks(), inner())

    @flow
    async def inner():
        await ticks()

    others = Counter()

    async def other():
        while not counter.stop:
            others.step()
            await asyncio.sleep(0.001)

    asyncio.run_coroutine_threadsafe(other(), kernel_loop)
    run = body.start()
    until(lambda: counter.steps > 5)
    run.pause()
    until(lambda: run.state.is_paused())
    before = others.steps
    assert counter.stands_still()
    until(lambda: others.steps > before + 3)
    run.resume()
    pause_and_resume_again = counter.steps
    until(lambda: counter.steps > pause_and_resume_again + 3)
    counter.stop = True
    assert run.wait(20).state.is_completed()


def test_a_main_run_paused_and_resumed(counter, until, kernel_loop):
    """A run on the kernel's loop is paused and resumed like any other."""

    @flow(on="main")
    async def body():
        while not counter.stop:
            counter.step()
            await asyncio.sleep(0.001)

    pause_and_resume(body.start(), counter, until)


def test_tasks_in_threads_are_held(counter, until):
    """PAUSED holds submitted tasks too, on threads and on loops of their own."""

    @task
    def ticks():
        while not counter.stop:
            counter.step()
            checkpoint()

    @task
    async def ticks_async():
        while not counter.stop:
            counter.step()
            await asyncio.sleep(0.001)

    @flow
    def body():
        futures = [ticks.submit(), ticks_async.submit(), ticks.submit()]
        for future in futures:
            future.result()

    @flow
    def leaves_them():
        ticks.submit()
        ticks_async.submit()

    @flow
    async def leaves_them_async():
        ticks.submit()
        ticks_async.submit()

    for each in (body, leaves_them, leaves_them_async):
        counter.stop = False
        pause_and_resume(each.start(), counter, until)


def test_subflows_are_held(counter, until):
    """PAUSED holds the subflows of a run, sync and async, with their tasks."""

    @task
    def ticks():
        while not counter.stop:
            counter.step()
            checkpoint()

    @flow
    def inner():
        ticks.submit().result()

    @flow
    def outer():
        inner()

    @flow
    async def inner_async():
        await task(inner_ticks)()

    async def inner_ticks():
        while not counter.stop:
            counter.step()
            await asyncio.sleep(0.001)

    @flow
    async def outer_async():
        await asyncio.gather(inner_async(), inner_async())

    for each in (outer, outer_async):
        counter.stop = False
        run = each.start()
        pause_and_resume(run, counter, until)
        assert {child.state.name for child in run.tasks} == {"Completed"}


def test_a_subflow_can_be_paused_alone(until):
    """A subflow that is paused by itself holds still while its caller's other tasks go on."""

    @flow
    async def inner():
        while not others.stop:
            counter.step()
            await asyncio.sleep(0.001)

    @flow
    async def outer():
        async def ticks():
            while not others.stop:
                others.step()
                await asyncio.sleep(0.001)

        await asyncio.gather(inner(), ticks())

    counter, others = Counter(), Counter()
    run = outer.start()
    until(lambda: counter.steps > 3)
    child = run.tasks[0].run
    child.pause()
    until(lambda: child.state.is_paused())
    before = others.steps
    assert counter.stands_still()
    until(lambda: others.steps > before + 3)
    assert run.state.is_running()
    child.resume()
    others.stop = True
    assert run.wait(20).state.is_completed()


# -- honesty ---------------------------------------------------------------------------


def test_paused_is_said_only_when_all_are_parked(until):
    """While one task of a run computes, a pause is asked and not yet so."""

    @task
    def computes():
        computing.set()
        go.wait(20)
        checkpoint()

    @flow
    def body():
        computes.submit()
        computes.submit()
        while not stop:
            checkpoint()

    computing, go, stop = threading.Event(), threading.Event(), []
    run = body.start()
    computing.wait(20)
    run.pause()
    time.sleep(STILL)
    assert run.state.is_running()
    assert run.asked == "pause"
    go.set()
    until(lambda: run.state.is_paused())
    run.resume()
    stop.append(1)
    assert run.wait(20).state.is_completed()


def test_a_parked_helper_thread_is_not_taken_for_the_body(until):
    """A helper thread that is parked does not make its run PAUSED while the body computes."""

    @flow
    def body():
        helper = threading.Thread(target=helps)
        helper.start()
        with shield():
            computing.set()
            while not stop:
                pass
        helper.join()

    def helps():
        while not stop:
            parked.append(1)
            checkpoint()

    computing, stop, parked = threading.Event(), [], []
    run = body.start()
    computing.wait(20)
    run.pause()
    until(lambda: len(run.book.parked) == 1)
    time.sleep(STILL)
    assert run.state.is_running()
    stop.append(1)
    run.resume()
    assert run.wait(20).state.is_completed()


def test_nothing_moves_from_paused_on(until):
    """However a pause races with a wait that ends, no code runs between PAUSED and the resume."""

    @task
    def quick():
        return 1

    @flow
    def body():
        while not stop:
            quick.submit().result()
            moved[0] += 1
            time.sleep(0)
            time.sleep(0.00001)

    stop, moved = [], [0]
    run = body.start()
    until(lambda: moved[0])
    for _ in range(150):
        run.pause()
        until(lambda: run.state.is_paused())
        before = moved[0]
        for _ in range(2000):
            pass
        assert moved[0] == before
        run.resume()
    stop.append(1)
    assert run.wait(20).state.is_completed()


def test_pauses_race_with_each_other_and_with_the_end(until):
    """Pauses, resumes and a cancel at once leave a run that ends, in one terminal state."""

    @task
    def step():
        checkpoint()

    @flow
    def body():
        for _ in range(50):
            step.submit()
            step()

    @flow
    async def body_async():
        for _ in range(50):
            await task(asyncio.sleep)(0)

    def press(run, i):
        while not run.state.is_final():
            try:
                (run.pause, run.resume)[i % 2]()
            except (NotActive, NotPaused):
                pass

    for i in range(40):
        run = (body, body_async)[i % 2].start()
        threads = [threading.Thread(target=press, args=(run, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        if i % 3 == 0:
            run.cancel()
        while not run.wait(0.01).state.is_final():
            try:
                run.resume()
            except NotPaused:
                pass
        for thread in threads:
            thread.join()
        assert sum(state.is_final() for state in run.states) == 1


def test_pausing_at_any_line_changes_nothing(until):
    """A run that is paused and resumed at each of its lines in turn prints what it prints."""

    def body():
        for i in progress(range(3)):
            try:
                print("in", i)
            finally:
                print("out", i)
        with threading.Lock():
            print("locked")

    def lines(at):
        paused = []

        def look(line):
            if line[0] == at:
                paused.append(line)
                run.pause()

        tested = flow(body)
        run = tested.make_run(asking_executor())
        run.log.echo = look
        tested.launch(run)
        while not run.wait(0.001).state.is_final():
            if run.state.is_paused():
                run.resume()
        assert run.state.is_completed()
        return [line.message for line in run.logs]

    def asking_executor():
        from jupyter_flows.engine.executors import for_background

        return for_background(None, is_async=False)

    expected = lines(-1)
    assert [lines(at) for at in range(len(expected))] == [expected] * len(expected)


# -- errors ----------------------------------------------------------------------------


def test_only_a_paused_run_can_be_resumed(until):
    """Resuming a run that is not paused, or has ended, is an error that says so."""

    @flow
    def body():
        started.set()
        go.wait(20)

    started, go = threading.Event(), threading.Event()
    run = body.start()
    started.wait(20)
    with pytest.raises(NotPaused, match="is Running: only a paused run"):
        run.resume()
    go.set()
    run.wait(20)
    with pytest.raises(NotPaused, match="is Completed"):
        run.resume()


def test_an_ended_run_cannot_be_paused(until):
    """Pausing a run that has ended, or is being cancelled, is an error that says so."""

    @flow
    def body():
        started.set()
        go.wait(20)

    started, go = threading.Event(), threading.Event()
    run = body.start()
    started.wait(20)
    run.cancel()
    with pytest.raises(NotActive, match="is Cancelling: there is nothing to pause"):
        run.pause()
    with pytest.raises(NotPaused):
        run.resume()
    go.set()
    run.wait(20)
    with pytest.raises(NotActive, match="is Completed"):
        run.pause()


def test_a_pause_can_be_taken_back(until):
    """A pause that was asked and has not come about yet can be resumed."""

    @flow
    def body():
        started.set()
        go.wait(20)
        checkpoint()
        return "done"

    started, go = threading.Event(), threading.Event()
    run = body.start()
    started.wait(20)
    run.pause()
    assert run.asked == "pause"
    run.resume()
    assert run.asked is None
    go.set()
    assert run.result(20) == "done"
    assert not any(state.is_paused() for state in run.states)


# -- clocks ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_timeouts_clock_stands_still_while_paused(kind, until):
    """The time that a run is paused does not count towards its timeout."""

    def body():
        started.set()
        time.sleep(0.2)
        return "in time"

    async def body_async():
        started.set()
        await asyncio.sleep(0.2)
        return "in time"

    started = threading.Event()
    run = flow(timeout_seconds=1)(body if kind == "sync" else body_async).start()
    started.wait(20)
    run.pause()
    until(lambda: run.state.is_paused())
    time.sleep(1.2)
    run.resume()
    assert run.result(20) == "in time"


def test_a_wait_for_a_retry_is_held_too(until):
    """A run that is paused between two attempts is PAUSED, and tries again when it is resumed."""

    @flow(retries=1, retry_delay_seconds=0.05)
    def body():
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError
        checkpoint()

    attempts = []
    run = body.start()
    until(lambda: run.state.name == "AwaitingRetry")
    run.pause()
    until(lambda: run.state.is_paused())
    time.sleep(0.15)
    assert attempts == [1]
    run.resume()
    assert run.wait(20).state.is_completed()


# -- what moves while PAUSED was said ----------------------------------------------------


def test_a_pause_of_a_run_that_waits_for_a_person_holds_its_tasks_too(counter, until):
    """A run that waits for approval and is paused as well is PAUSED when its tasks hold still."""
    go_on = threading.Event()

    @task
    def works():
        with shield():
            go_on.wait(20)
        while not counter.stop:
            counter.step()
            checkpoint()

    @flow
    def body():
        works.submit()
        pause_flow_run()

    run = body.start()
    until(lambda: run.state.is_paused() and len(run.tasks) == 1)
    until(lambda: run.tasks[0].state.is_running())
    run.pause()
    assert run.state.is_running()
    assert run.asked == "pause"
    go_on.set()
    until(lambda: run.state.is_paused(), "the task holds still")
    assert counter.stands_still()
    run.resume()
    assert run.state.is_paused()  # for the approval
    until(lambda: counter.steps, "the task goes on")
    counter.stop = True
    run.resume()
    assert run.wait(20).state.is_completed()


def test_a_shield_that_waits_for_what_is_held_holds_up_no_pause(counter, until):
    """A run is PAUSED when all of it stands still, though a shield in it waits for a held task."""

    @task
    def counts():
        while not counter.stop:
            counter.step()
            checkpoint()

    @flow
    def body():
        counting = counts.submit()
        with shield():
            counting.wait()
            return run.state.name

    run = body.start()
    pause_and_resume(run, counter, until)
    assert run.result() == "Running"


def test_a_task_that_is_cancelled_while_its_run_is_paused_is_not_hidden(until):
    """While a cancelled task of a paused run cleans up, the run is not said to be PAUSED."""
    futures, cleaning, clean = [], threading.Event(), threading.Event()

    @task
    def works():
        try:
            time.sleep(FOR_EVER)
        finally:
            cleaning.set()
            clean.wait(20)

    @flow
    def body():
        futures.append(works.submit())
        futures[0].wait()

    run = body.start()
    until(lambda: futures and futures[0].state.is_running())
    run.pause()
    until(lambda: run.state.is_paused())
    futures[0].cancel()
    assert cleaning.wait(20)
    assert run.state.is_running()
    assert run.asked == "pause"
    clean.set()
    until(lambda: run.state.is_paused())
    assert futures[0].state.is_cancelled()
    run.resume()
    assert run.wait(20).state.is_completed()


def test_a_subflow_of_a_cleanup_is_not_held(until):
    """What a run that was paused and then cancelled calls in its cleanup is not held."""
    cleaned = []

    @flow
    def cleans():
        checkpoint()
        cleaned.append(1)

    @flow
    def body():
        try:
            time.sleep(FOR_EVER)
        finally:
            cleans()

    run = body.start()
    until(lambda: run.state.is_running())
    run.pause()
    until(lambda: run.state.is_paused())
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert cleaned

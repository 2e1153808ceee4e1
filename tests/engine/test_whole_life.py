"""The whole life of runs: whatever is asked of them, and whenever, they end as is promised.

Hypothesis draws programs (`programs`) and what is asked of their runs: by rules, one
after another or two at once, and by threads that the programs set off themselves. All
that is promised of a life is then looked for in what was kept of it, here and in the
store.

What is found depends on how threads take turns, so an example that failed may pass the
next time: nothing is shrunk, and a failure says all that was done, and where every
thread is. The short count draws the same each time, the full one anew; ``JUPYTER_FLOWS_SEED``
repeats the draws of a session, ``JUPYTER_FLOWS_EXAMPLES`` says how many there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import queue
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from jupyter_flows import RunCancellation, checkpoint, flow
from jupyter_flows.engine import interrupting, monitoring, ports, registry, shielding, timers
from jupyter_flows.engine.checkpoints import real_sleep
from jupyter_flows.engine.executors import callers_loop
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.stacks import suspended_frames
from jupyter_flows.engine.task_runs import Subflow
from jupyter_flows.errors import NotActive, NotPaused
from jupyter_flows.history import Store
from jupyter_flows.history.writer import Writer
from jupyter_flows.records import KernelRecord
from jupyter_flows.states import MOVES, TERMINAL, StateType
from tests.conftest import run_threads
from tests.engine.programs import ACTIONS, DEADLINE, Broken, World, make, programs
from tests.repeats import FULL

KINDS = ("sync", "async", "main", "foreground", "awaited")
SEED = int(os.environ.get("JUPYTER_FLOWS_SEED") or (random.randrange(2**32) if FULL else 1))
MAY_BE_DROPPED = (RunCancellation, asyncio.CancelledError, Broken)
STILL = 0.002  # seconds for which nothing may move


class Failure(AssertionError):
    """A promise that was broken: with all that was done, and where every thread is."""


class _Errors(logging.Handler):
    """Keeps what the engine logs of faults of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], Broken):
            return  # a hook's
        self.texts.append(logging.Formatter().format(record))


class _Dropped:
    """Takes what Python can only tell: how a generator ended that was dropped.

    It is told on the run's own thread, in the middle of its code, so a kill may hit what
    takes it. pytest's own hook would count that as a fault.
    """

    def __init__(self) -> None:
        self.errors: list[BaseException | None] = []
        self.before = sys.unraisablehook
        sys.unraisablehook = self.take

    def take(self, told: Any) -> None:
        self.errors.append(told.exc_value)

    def close(self) -> None:
        sys.unraisablehook = self.before


class House:
    """What all examples of a session share: an event loop, a store, and those who ask."""

    def __init__(self, path: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop_thread = threading.Thread(target=self.loop.run_forever, name="kernel loop")
        self.loop_thread.start()
        callers_loop.main_loop = self.loop
        self.trouble: list[str] = []
        kernel = KernelRecord(
            id="k", pid=os.getpid(), process_started=0.0, host="here", connection_file=None
        )
        self.writer = Writer(path, kernel, self.trouble.append)
        ports.history = self.writer
        self.heard: list[tuple[Life, Any]] = []
        ports.listeners.append(self.hear)
        self.store: Store | None = None
        self.path = path
        self.jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.askers = [threading.Thread(target=self._ask, name=f"asker {i}") for i in (0, 1)]
        for asker in self.askers:
            asker.start()
        self.failure: Failure | None = None
        self.examples = 0
        self.ends: Counter[str] = Counter()
        self.slowest: tuple[float, list[str]] = 0.0, []
        self.dropped = _Dropped()
        self.errors = _Errors()
        logging.getLogger("jupyter_flows").addHandler(self.errors)

    def _ask(self) -> None:
        while (job := self.jobs.get()) is not None:
            job()

    def hear(self, life: Life) -> None:
        self.heard.append((life, life.state))

    def close(self) -> None:
        self.dropped.close()
        logging.getLogger("jupyter_flows").removeHandler(self.errors)
        ports.listeners.remove(self.hear)
        ports.history = ports.NoHistory()
        if self.store is not None:
            self.store.close()
        self.writer.close(DEADLINE)
        for _ in self.askers:
            self.jobs.put(None)
        callers_loop.main_loop = None
        self.loop.call_soon_threadsafe(self.loop.stop)
        if self.failure is None:
            for thread in (*self.askers, self.loop_thread):
                thread.join(DEADLINE)
            self.loop.close()


class Case:
    """A run, what its code shares with the test, and who waits for it."""

    def __init__(self, machine: WholeLife, kind: str, program: Any, options: Any) -> None:
        self.machine = machine
        self.kind = kind
        self.program = program
        self.options = options
        self.changed = 0  # how often something was asked that may let it go on
        self.changing: set[int] = set()  # threads that ask such a thing now
        self.counted: list[str] = []  # the reasons of cancels that counted
        self.abandoned = False
        self.told: list[str] = []
        self.threads: list[threading.Thread] = []
        self.world = World(self._fire)
        self.begun = threading.Event()  # there is a run
        self.run = self._start()
        self.begun.set()
        self._await_end()

    def _start(self) -> FlowRun:
        coded = {"foreground": "sync", "awaited": "main"}.get(self.kind, self.kind)
        on = "thread" if coded == "sync" else coded
        made = make(self.world, self.program, flow, (*self.options, ("on", on)), coded)
        if self.kind == "foreground":
            return self._known(made, lambda: made(return_state=True))
        if self.kind == "awaited":
            loop = self.machine.house.loop

            def call() -> None:
                asyncio.run_coroutine_threadsafe(made(return_state=True), loop)

            return self._known(made, call)
        run: FlowRun = made.start()
        return run

    def _known(self, made: Any, call: Callable[[], Any]) -> FlowRun:
        """Call a flow elsewhere, and return its run."""
        found: queue.SimpleQueue[FlowRun] = queue.SimpleQueue()
        make_run = made.make_run

        def note(*args: Any, **kwargs: Any) -> FlowRun:
            run: FlowRun = make_run(*args, **kwargs)
            found.put(run)
            return run

        made.make_run = note
        if self.kind == "foreground":
            thread = threading.Thread(target=call, name="foreground")
            self.threads.append(thread)
            thread.start()
        else:
            call()
        return found.get(timeout=DEADLINE)

    def _await_end(self) -> None:
        """Wait in every way that there is."""
        self.run.on_done(lambda: self.told.append("callback"))

        def wait() -> None:
            self.run.wait(DEADLINE)
            if self.run.state.is_final():
                self.told.append("wait")

        async def wait_async() -> None:
            await self.run.wait_async()
            self.told.append("await")

        thread = threading.Thread(target=wait, name="waits")
        thread.start()
        self.threads.append(thread)
        self.awaited = asyncio.run_coroutine_threadsafe(wait_async(), self.machine.house.loop)

    def _fire(self, action: str) -> None:
        self.machine.ask_elsewhere(self, action)

    # -- asks -------------------------------------------------------------------------

    def do(self, action: str) -> None:
        """Do what a person may do. Any thread."""
        self.begun.wait(DEADLINE)
        run = self.run
        self.machine.note(f"{self.kind} {action}")
        if action not in ("pause", "hold and look"):
            self.changing.add(threading.get_ident())
            self.changed += 1
        try:
            if action == "pause":
                run.pause()
            elif action == "resume":
                run.resume()
            elif action == "pause and resume":
                run.pause()
                run.resume()
            elif action in ("cancel", "cancel at once"):
                reason = f"reason {random.random()}"
                if run.cancel(None if action == "cancel" else 0, reason=reason):
                    self.counted.append(reason)
            elif action == "kill":
                run.kill()
            elif action == "abandon":
                run.abandon()
                self.abandoned = True
            elif action == "cancel a task":
                for future in self.world.futures[-1:]:
                    future.cancel()
            elif action == "hold and look":
                self.hold_and_look()
        except (NotActive, NotPaused) as error:
            self.machine.note(f"{self.kind} {action}: {error}")
        finally:
            self.changing.discard(threading.get_ident())

    def hold_and_look(self) -> None:
        """Pause it, and see that nothing moves once it is said to be PAUSED."""
        run, world, before = self.run, self.world, self.changed
        if self.changing:
            return
        run.pause()

        def settled() -> bool:
            return (
                (run.state.is_paused() and run.asked is None)
                or self.changed != before
                or run.cancel_reason is not None
                or run.state.type in (*TERMINAL, StateType.PENDING)
                or world.stuck > 0
                or run.decided
            )

        self.machine.wait_for(settled, f"it is PAUSED: {run.book.workers} {run.book.parked}")
        state = run.state
        if not state.is_paused() or run.asked is not None:
            return
        moves = world.moves
        real_sleep(STILL)
        moved = world.moves - moves
        if run.state is state and self.changed == before:
            self.machine.require(not moved, f"nothing moves while PAUSED is said: {moved}")

    def release(self) -> None:
        """Let endless steps end."""
        self.changed += 1
        self.world.released.set()

    def finish(self, how: str) -> None:
        """Let it come to its end, or bring it there."""
        run, machine = self.run, self.machine
        if how == "complete":
            self.release()
        else:
            self.do("kill" if how == "kill" else "cancel at once")
        begun = time.monotonic()
        swallows = any(word in repr(self.program) for word in ("'swallow'", "'except'"))
        killed = False

        def over() -> bool:
            nonlocal killed
            if run.state.is_final():
                return True
            if swallows and not killed and time.monotonic() - begun > 2:
                killed = True  # what it called since it swallowed a cancel may need that
                self.do("kill")
            if how == "complete":
                self.changed += 1
                for each in family(run):
                    if isinstance(each, FlowRun):
                        with contextlib.suppress(NotPaused):
                            each.resume()
            elif self.world.stuck:
                if how == "abandon":
                    self.do("abandon")
                self.release()
            return False

        machine.wait_for(over, f"it ends by {how}")
        self.release()
        for thread in self.threads:
            machine.wait_for(lambda t=thread: not t.is_alive(), f"{thread.name} goes on")
        machine.wait_for(self.awaited.done, "who awaits it goes on")
        run.on_done(lambda: self.told.append("callback later"))


class WholeLife(RuleBasedStateMachine):
    """Runs that are alive at once, and what is asked of them."""

    house: House
    kind: str | None = None  # of all its runs, unless they are of every kind

    def __init__(self) -> None:
        super().__init__()
        if self.house.failure is not None:
            raise self.house.failure
        self.cases: list[Case] = []
        self.log: list[str] = []
        self.begun = time.monotonic()
        self.pending = 0
        self._lock = threading.Lock()
        self.house.heard.clear()
        self.ending = "complete"

    def note(self, text: str) -> None:
        passed = (time.monotonic() - self.begun) * 1e3
        self.log.append(f"{passed:8.2f} ms  {threading.current_thread().name}: {text}")

    @property
    def cancels_itself(self) -> bool:
        """Whether a program cancels what it calls by means of asyncio's own."""
        return any(
            word in repr([case.program for case in self.cases])
            for word in ("'timeout'", "'gather'", "'group'")
        )

    # -- what must be -----------------------------------------------------------------

    def require(self, condition: Any, what: str) -> None:
        """Fail unless a promise is kept."""
        if not condition:
            self.fail(what)

    def wait_for(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for what other threads bring about; fail when they do not."""
        deadline = time.monotonic() + DEADLINE
        pause = 0.0
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"this has not come about in {DEADLINE} s: {what}")
            real_sleep(pause)
            pause = min(pause + 0.0002, 0.002)

    def fail(self, what: str) -> None:
        lines = [what, *self.log]
        for case in self.cases:
            lines.append(f"{case.kind} {case.options} moves={case.world.moves}\n  {case.program}")
            lines.append(f"  asked={case.run.asked} book={vars_of(case.run.book)}")
            lines += [
                f"  {life!r} {life.states} attempt={life.attempt} reason={life.cancel_reason}"
                f" delivered={life.delivered} decided={life.decided} rung={life.rung}"
                for life in family(case.run)
            ]
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            lines.append(file.read())
        lines.append(f"threads: {[(t.name, hex(t.ident or 0)) for t in threading.enumerate()]}")
        tasks = asyncio.all_tasks(self.house.loop)
        lines += [f"{task} {list(suspended_frames(task.get_coro()))}" for task in tasks]
        failure = Failure("\n".join(lines))
        if self.house.failure is None:
            self.house.failure = failure
        raise failure

    # -- what is asked ----------------------------------------------------------------

    def ask_elsewhere(self, case: Case, action: str) -> None:
        """Let another thread ask. Any thread."""
        with self._lock:
            self.pending += 1

        def job() -> None:
            try:
                case.do(action)
            except Failure:
                pass  # kept in the house
            except BaseException:
                with contextlib.suppress(Failure):
                    self.fail(f"{action} raised {traceback.format_exc()}")
            finally:
                with self._lock:
                    self.pending -= 1

        self.house.jobs.put(job)

    @initialize(
        kind=st.sampled_from(KINDS),
        drawn=programs(),
        ending=st.sampled_from(("complete", "complete", "cancel", "cancel", "kill", "abandon")),
    )
    def begin(self, kind: str, drawn: Any, ending: str) -> None:
        self.ending = ending
        self._start(kind, drawn)

    @rule(kind=st.sampled_from(KINDS), drawn=programs())
    def start(self, kind: str, drawn: Any) -> None:
        if len(self.cases) < 2:
            self._start(kind, drawn)

    def _start(self, kind: str, drawn: Any) -> None:
        kind = self.kind or kind
        self.note(f"start {kind}")
        self.cases.append(Case(self, kind, *drawn))

    @rule(which=st.integers(0, 1), action=st.sampled_from(ACTIONS))
    def ask(self, which: int, action: str) -> None:
        self.cases[which % len(self.cases)].do(action)

    @rule(
        which=st.integers(0, 1),
        actions=st.tuples(st.sampled_from(ACTIONS), st.sampled_from(ACTIONS)),
    )
    def ask_at_once(self, which: int, actions: tuple[str, str]) -> None:
        case = self.cases[which % len(self.cases)]
        for action in actions:
            self.ask_elsewhere(case, action)

    @rule(which=st.integers(0, 1), moves=st.sampled_from((1, 3, 20)))
    def let_it_move(self, which: int, moves: int) -> None:
        case = self.cases[which % len(self.cases)]
        until = case.world.moves + moves
        deadline = time.monotonic() + 0.003  # it may have nothing more to do
        while case.world.moves < until and time.monotonic() < deadline:
            real_sleep(0)

    @rule(which=st.integers(0, 1))
    def let_it_end(self, which: int) -> None:
        case = self.cases[which % len(self.cases)]
        case.release()
        deadline = time.monotonic() + 0.005
        while not case.run.state.is_final() and time.monotonic() < deadline:
            real_sleep(0)

    # -- the end ----------------------------------------------------------------------

    def teardown(self) -> None:
        if not self.cases or self.house.failure is not None:
            return
        house = self.house
        for case in self.cases:
            case.finish(self.ending)
        self.wait_for(lambda: not self.pending, "who asks has asked")
        for case in self.cases:
            case.finish(self.ending)  # what was asked after the end changes nothing
        if house.failure is not None:
            raise house.failure
        self.wait_for(  # a task of a run that was given up may begin another thread
            lambda: not asyncio.all_tasks(house.loop) and not run_threads(),
            "all tasks, and all threads of runs, have ended",
        )
        for case in self.cases:
            self.check(case)
        self.check_store()
        self.check_next()
        self.require(not house.errors.texts, f"the engine has no fault: {house.errors.texts}")
        told = [each for each in house.dropped.errors if not isinstance(each, MAY_BE_DROPPED)]
        self.require(not told, f"what is dropped ends by a stop alone: {told}")
        house.examples += 1
        seconds = time.monotonic() - self.begun
        if seconds > house.slowest[0]:
            self.note(repr([(case.kind, case.options, case.program) for case in self.cases]))
            house.slowest = seconds, self.log
        if house.examples % 50 == 0:
            self.check_nothing_is_left()

    def check(self, case: Case) -> None:
        run = case.run
        for life in family(run):
            self.check_life(life)
            self.check_hooks(life, case.world)
        told = sorted(case.told)
        expected = ["await", "callback", "callback later", "callback later", "wait"]
        self.require(told == expected, f"every waiter is told once: {told}")
        self.require(len(case.counted) <= 1, f"one cancel counts: {case.counted}")
        if case.counted and run.state.name != "Abandoned":
            self.require(run.cancel_reason == case.counted[0], "the first reason stands")
        self.house.ends[run.state.name] += 1

    def check_life(self, life: Life) -> None:
        states = [state.type for state in life.states]
        for one, other in pairwise(states):
            self.require(other in MOVES[one], f"{life!r}: {one} to {other} is legal")
        ended = [state for state in states if state in TERMINAL]
        self.require(len(ended) == 1, f"{life!r} has one terminal state: {life.states}")
        self.require(life.state is life.states[-1], "its state is the last")
        times = [state.time for state in life.states]
        self.require(times == sorted(times), f"{life!r} moves in the order of time: {life.states}")
        self.require(life.ended == life.state.time, "it ended when it took its last state")
        final, run = life.state, life.flow_run
        if final.name == "Abandoned":
            self.require(run.abandoned, "only what was given up is Abandoned")
        elif life.delivered:
            what = f"{life!r} was told and is {final}: {life.cancel_reason}"
            if life.cancel_reason == "timeout":
                self.require(final.name == "TimedOut", what)
            else:
                self.require(final.is_cancelled(), what)
        elif final.is_cancelled() and life.cancel_reason is None:
            others = [child.state for child in below(life)]
            cancelled = any(state.is_cancelled() for state in others)
            cancelled |= any(was_asked(above) for above in callers(life))
            cancelled |= final.name == "NotReady"  # as what it waited for was
            what = f"{life!r} is CANCELLED, which nobody asked for: {life.states}"
            self.require(cancelled or returns(life, "cancelled"), what)
        if final.is_crashed():  # as a cancel by its own code's means is one that nobody asked for
            foreign = isinstance(final.data, asyncio.CancelledError) and self.cancels_itself
            self.require(foreign, f"{life!r} crashed: {final} {final.data!r}")
        if life.cancel_reason == "timeout":
            self.require(life.timeout is not None, "only what has a timeout times out")
        self.require(not life.active, f"{life!r} has no active children: {life.active}")
        self.require(life._lock.acquire(timeout=DEADLINE), f"{life!r} is not locked")
        life._lock.release()
        for child in children(life):
            if not run.abandoned:
                self.require(
                    child.ended is not None and run.ended is not None and child.ended <= run.ended,
                    f"{child!r} ended before {run!r}",
                )
        if isinstance(life, FlowRun):
            self.check_run(life)

    def check_hooks(self, life: Life, world: World) -> None:
        if life.author is None or not life.author.hooks:
            return
        if life.flow_run.abandoned:  # then nobody waits for the hooks of its tasks
            self.wait_for(life.is_over, f"the hooks of {life!r} are called")
        called = [state for each, state in world.hooked if each is life]
        if life.state.name == "NotReady":  # as in Prefect
            self.require(not called, f"no hook of {life!r}: {called}")
            return
        last = [state for state in called if state.type in TERMINAL]
        if life.state.type in life.author.hooks:
            self.require(last == [life.state], f"hooks of the end of {life!r}: {called}")
        running = [state for state in called if state.type not in TERMINAL]
        self.require(len(running) == life.attempt, f"hooks of its attempts {life!r}: {called}")

    def check_run(self, run: FlowRun) -> None:
        book = run.book
        self.require(not (book.workers or book.parked or book.waiters), "nobody works for it")
        self.require(not (book.executing or book.commands), "nothing of it executes")
        self.require(not run._questions and run.waiting is None, "it waits for nobody")
        record = run.record()
        paused = sum(
            after.time - state.time for state, after in pairwise(run.states) if state.is_paused()
        )
        seconds = record.paused_seconds
        self.require(abs(seconds - paused) < 1e-6, f"paused for {paused} s, not {seconds}")
        self.require(record.paused_since is None, "it is paused no more")
        self.require(registry.find(run.id) is run, "it is known")
        self.require(run not in registry.active(), "it is not active")
        heard = [state for life, state in self.house.heard if life is run]
        self.require(heard and heard[-1] is run.state, f"listeners heard of its end: {heard}")
        self.require(heard.count(run.state) >= 1, "listeners heard of its end")

    def check_store(self) -> None:
        house = self.house
        self.require(house.writer.flush(DEADLINE), "the writer writes")
        self.require(not house.trouble, f"the store works: {house.trouble}")
        if house.store is None:
            house.store = Store(house.path)
        store = house.store
        for case in self.cases:
            for run in [life for life in family(case.run) if isinstance(life, FlowRun)]:
                kept, now = store.run(run.id), run.record()
                self.require(kept == now, f"the store says {kept}\nmemory says {now}")
                moves = store.transitions(run.id)
                self.require(moves == run.transitions(), f"stored moves: {moves}, {run.states}")
                tasks = store.tasks(run.id)
                self.require(
                    tasks == [each.record() for each in run.tasks], f"stored tasks: {tasks}"
                )

    def check_next(self) -> None:
        """What was asked of these runs does not hit the next."""

        @flow
        def next_run() -> str:
            for _ in range(50):
                checkpoint()
            return "done"

        @flow(on="main" if self.cases[0].kind == "main" else "async")
        async def next_run_async() -> str:
            for _ in range(3):
                await asyncio.sleep(0)
            return "done"

        for made in (next_run, next_run_async):
            run = made.start()  # type: ignore[attr-defined]
            self.wait_for(run.state_is_final, "the next run ends")
            self.require(run.state.data == "done", f"the next run is not hit: {run.states}")
        self.wait_for(lambda: not run_threads(), "the next run's thread ends")

    def check_nothing_is_left(self) -> None:
        begun = time.monotonic()
        self.wait_for(lambda: not interrupting._attended, "no run is attended to")
        self.require(not monitoring.watched(), "no code is watched")
        self.wait_for(lambda: not alarms(), "no alarm is set")
        self.require(time.monotonic() - begun < DEADLINE / 3, "no alarm was left behind")
        self.require(not shielding._threads and not shielding._tasks, "no shield is on")
        self.require(not registry.active(), "no run is active")


def vars_of(book: Any) -> dict[str, Any]:
    return {name: getattr(book, name) for name in type(book).__slots__}


def children(life: Life) -> list[Life]:
    """Return the task runs and subflows that a life called."""
    listed = life.flow_run.task_runs
    lives = [each.run if isinstance(each, Subflow) else each for each in listed]
    return [each for each in lives if isinstance(each, Life) and each.parent is life]


def family(run: FlowRun) -> list[Life]:
    """Return a run, and all that it called, and that did."""
    lives: list[Life] = [run]
    for life in lives:
        lives += children(life)
    return lives


def was_asked(life: Life) -> bool:
    """Whether it was asked to stop, in its last attempt or by a timeout of one before."""
    return life.cancel_reason is not None or any("timeout" in s.message for s in life.states)


def callers(life: Life) -> list[Life]:
    """Return whose code called it, and so on."""
    return [] if life.parent is None else [life.parent, *callers(life.parent)]


def below(life: Life) -> list[Life]:
    """Return all that a life called, and that did."""
    return [each for child in children(life) for each in (child, *below(child))]


def returns(life: Life, state: str) -> bool:
    """Whether its program, or that of what it calls, may return such a state."""
    return life.state.message == "" or "cancelled" in life.state.message


def alarms() -> list[Any]:
    with timers._timer._changed:
        return [alarm for _, _, alarm in timers._timer._heap if alarm.callback is not None]


@pytest.fixture
def house(tmp_path: Any) -> Iterator[House]:
    house = House(tmp_path / "flows.sqlite")
    yield house
    house.close()


@pytest.mark.timeout(3600 if FULL else 120)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # a stop may come before
@pytest.mark.parametrize(
    ("kind", "examples"),
    [(None, 10_000 if FULL else 200), ("process", 300 if FULL else 10)],
    ids=["here", "in a process"],
)
def test_whatever_is_asked_a_life_ends_as_is_promised(
    kind: str | None, examples: int, house: House, figure: Callable[[str], None]
) -> None:
    """Whatever is asked of runs, and whenever: each ends once, legally, and the store says so."""

    class Bound(WholeLife):
        pass

    Bound.house, Bound.kind = house, kind
    begun = time.monotonic()
    try:
        run_state_machine_as_test(
            seed(SEED)(Bound),
            settings=settings(
                max_examples=int(os.environ.get("JUPYTER_FLOWS_EXAMPLES") or examples),
                stateful_step_count=6,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except BaseException:
        figure(
            f"the whole life, {kind or 'here'}: failed after {house.examples} examples, seed {SEED}"
        )
        if house.failure is not None:
            raise house.failure from None
        raise
    seconds = time.monotonic() - begun
    print(f"the slowest took {house.slowest[0]:.2f} s", *house.slowest[1], sep="\n")
    figure(
        f"the whole life, {kind or 'here'}: {house.examples} examples, "
        f"{house.examples / seconds:.0f} a second, seed {SEED}; ended {dict(house.ends)}"
    )

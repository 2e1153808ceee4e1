"""What flow runs and task runs share: states, asks, and those who wait for them.

Guarantees:

- Every move goes through `move`, under the lock, checked against the table of
  states: of two threads that end a run, one does, and the other is told so.
- What is asked (`cancel_reason`) is kept apart from what is (`state`). `pending`
  is true while a checkpoint has something to heed, and is the only thing that a
  checkpoint reads on its fast path.
- Once a cancel is `delivered` into its code, or has stopped a helper thread of it,
  the run ends CANCELLED, whatever the code does. Once its end is `decided`, a cancel
  comes too late for that. All are said under the lock, so one comes first.
- The lock is never held while a callback, a listener, a hook or an executor is
  called. Callbacks of `on_done` run on the thread that made the last move or, where
  there are hooks, called the last of them; they must neither block nor raise.
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Lock
from time import time
from typing import TYPE_CHECKING, Any

from jupyter_flows.engine import ports
from jupyter_flows.engine.injecting import withdraw
from jupyter_flows.engine.pausing import nobody_tells, wait_in_run
from jupyter_flows.engine.shielding import shield, shield_around
from jupyter_flows.engine.waiting import LoopWaiter
from jupyter_flows.records import Stopping, Transition
from jupyter_flows.states import (
    NOT_READY,
    TERMINAL,
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Retrying,
    Running,
    State,
    StateType,
    TimedOut,
    check_move,
)

if TYPE_CHECKING:
    from types import FrameType

    from jupyter_flows.engine.hooks import HookCalls
    from jupyter_flows.engine.ladder import Ladder
    from jupyter_flows.engine.logs import LineWriter
    from jupyter_flows.engine.loops import Root
    from jupyter_flows.engine.runs import FlowRun
    from jupyter_flows.engine.timeouts import Timeout

ASK, INTERRUPT, KILL = 0, 1, 2  # the rungs of the ladder, see there

_SAYINGS = {
    "user": "Cancelled by the user",
    "timeout": "Took longer than its timeout",
    "parent": "Cancelled with the run that called it",
    "concurrency": "Cancelled to make room for a newer run",
    "shutdown": "Cancelled as the kernel shuts down",
}


def _saying(reason: str) -> str:
    """Say why in a message: a reason of its own words is told as it is."""
    return _SAYINGS.get(reason) or f"Cancelled: {reason}"


class Life:
    """The life of a flow run or task run, from its first state to its last."""

    __slots__ = (
        "__weakref__",
        "_lock",
        "_on_done",
        "active",
        "asked_at",
        "attempt",
        "author",
        "cancel_reason",
        "created",
        "decided",
        "delivered",
        "ended",
        "flow_run",
        "grace",
        "helper_stopped",
        "hooks",
        "injected",
        "ladder",
        "name",
        "pending",
        "root",
        "rung",
        "shield",
        "started",
        "state",
        "states",
        "stopping",
        "thread",
        "timeout",
        "told",
    )

    flow_run: FlowRun
    parent: Life | None
    """Whose code started it, if that was a run's: a cancel of that one reaches it."""

    is_hook: bool = False
    """Whether its code is a hook's."""

    frame: FrameType | None = None
    """The frame that its code begins in, if no function of the engine enters it."""

    def __init__(self, name: str, state: State, lock: Lock) -> None:
        self.name = name
        self.created = state.time
        self.started: float | None = None
        self.ended: float | None = None
        self.attempt = 0
        self.author: Any = None  # the flow or task that it is a run of
        self.hooks: HookCalls | None = None  # that are due, if there ever were any
        self.state = state
        self.states = [state]
        self.pending = False
        self.cancel_reason: str | None = None
        self.asked_at = 0.0
        self.delivered = False
        self.helper_stopped = False  # the cancel has stopped a thread beside its body's
        self.told = False  # that by being told, so that it may end by itself
        self.decided = False  # its code has stopped: only the last move is to come
        self.root: Root | None = None  # what runs its body, if that is async
        self.thread: int | None = None  # the thread that runs its body, once that has begun
        self.shield: shield | None = None  # that it was started in
        self.rung = ASK  # how far its stopping has gone, see `ladder`
        self.ladder: Ladder | None = None
        self.stopping: Stopping | None = None  # the same for records
        self.grace: float | None = None  # seconds to the next rung, if the ask said so
        self.timeout: Timeout | None = None  # of its attempt
        self.injected = False  # an exception may be on its way into its thread
        self.active: set[Life] = set()  # task runs and subflows that have not ended
        self._lock = lock
        self._on_done: list[Callable[[], Any]] = []

    # -- under Prefect's names, for hooks and functions that make names and keys -------

    @property
    def flow_run_id(self) -> str:
        """The id of the flow run that it is, or is a part of."""
        return self.flow_run.id

    @property
    def run_count(self) -> int:
        """How many attempts have begun."""
        return self.attempt

    @property
    def state_type(self) -> StateType:
        """The type of its state."""
        return self.state.type

    @property
    def state_name(self) -> str:
        """The name of its state."""
        return self.state.name

    @property
    def start_time(self) -> datetime | None:
        """When its first attempt began, in UTC."""
        return None if self.started is None else datetime.fromtimestamp(self.started, UTC)

    @property
    def end_time(self) -> datetime | None:
        """When it ended, in UTC."""
        return None if self.ended is None else datetime.fromtimestamp(self.ended, UTC)

    @property
    def total_run_time(self) -> timedelta:
        """How long it has run, from its first attempt on; waits and pauses count."""
        start = self.start_time
        return timedelta() if start is None else (self.end_time or datetime.now(UTC)) - start

    # -- whose it is, in subclasses ---------------------------------------------------

    @property
    def id(self) -> str:
        """Its id, as text."""
        raise NotImplementedError

    @property
    def listed(self) -> Life:
        """The flow run or task run that people see: itself, or what it is a part of."""
        return self

    @property
    def retries(self) -> int:
        """How many attempts may follow a failed one."""
        raise NotImplementedError

    @property
    def all_attempts(self) -> int:
        """Which attempt this is, those of the runs that it replays counted; 0 before it begins."""
        return self.attempt

    @property
    def captures(self) -> bool:
        """Whether what it prints becomes log lines."""
        raise NotImplementedError

    def stream(self, level: int) -> LineWriter | None:
        """Return where what it prints at this level goes, or None to let it pass."""
        raise NotImplementedError

    def _changed(self, state: State) -> None:
        """Tell history of a move, under the lock: in the order in which they were made."""
        raise NotImplementedError

    def _interrupt(self) -> None:
        """Let what runs its code look at what is asked."""
        if self.root is not None:
            self.root.interrupt()
        self.flow_run.executor.interrupt(self)

    @property
    def caller(self) -> Life | None:
        """The run or task run that called it and waits for it, if there is one."""
        raise NotImplementedError

    # -- moves ------------------------------------------------------------------------

    def move(self, state: State) -> bool:
        """Take a new state; return False if it has ended, as then nothing changes.

        Raises:
            IllegalTransition: the table of states has no such move.
        """
        with self._lock:
            return self._move(state)

    def _move(self, state: State) -> bool:
        if self.state.type in TERMINAL:
            return False
        check_move(self.state.type, state.type)
        if state.type in TERMINAL and (self is self.flow_run or state.time < self.state.time):
            state = replace(state, time=time())  # made when its body ended: its tasks went on
        self._before_move(state)
        if state.type in TERMINAL and self.author is not None and self.author.hooks:
            self._call_hooks(state)
        self.state = state
        self.states.append(state)
        if state.type in TERMINAL:
            self.ended = state.time
            self.pending = self.flow_run.abandoned
        self._changed(state)
        return True

    def _before_move(self, state: State) -> None:
        """Adjust what depends on the state, under the lock."""

    def _call_hooks(self, state: State) -> None:
        """Let the hooks of a state be due, under the lock; `announce` has them called."""
        hooks = self.author.hooks.get(state.type)
        if hooks and state.name != NOT_READY:
            if self.hooks is None:
                self.hooks = self.author.hooks.calls(self)
            self.hooks.add(hooks, state)

    def announce(self) -> None:
        """Tell listeners of a change, and those who wait for the end if it came. No lock held."""
        for listener in ports.listeners:
            listener(self)
        if self.hooks is not None:
            self.hooks.start()
        while self._on_done and self.is_over():
            try:
                callback = self._on_done.pop(0)
            except IndexError:  # another thread has just told the last one
                return
            callback()

    def state_is_final(self) -> bool:
        """Whether it has ended."""
        return self.state.type in TERMINAL

    def is_over(self) -> bool:
        """Whether it has ended, and its hooks have too."""
        return self.state.type in TERMINAL and (self.hooks is None or self.hooks.idle)

    def on_done(self, callback: Callable[[], Any]) -> None:
        """Call `callback` once, when it is over: at once, if it is."""
        self._on_done.append(callback)
        if self.is_over() and self.forget(callback):
            callback()

    def forget(self, callback: Callable[[], Any]) -> bool:
        """Withdraw a callback of `on_done`; return False if it was called."""
        try:
            self._on_done.remove(callback)
        except ValueError:
            return False
        return True

    def begin(self) -> bool:
        """Start an attempt; return False if it is not to run, having ended or been cancelled."""
        with self._lock:
            if self.state.type in TERMINAL or self.cancel_reason is not None:
                return False
            self.attempt += 1
            self.thread = get_ident()
            self.shield = shield_around()
            state = Running() if self.attempt == 1 else Retrying()
            if self.started is None:
                self.started = state.time
            self._move(state)
            if self.author is not None and self.author.hooks:
                self._call_hooks(state)
        self.announce()
        if self.parent is not None and self not in self.parent.active:
            self.parent.adopt(self)
        return True

    def try_again(self, message: str, seconds: float) -> bool:
        """Make ready for another attempt; return False if it was cancelled or given up.

        A timeout that ended an attempt is forgotten with it.

        Args:
            message: why the attempt before failed.
            seconds: how long it waits for the next one.
        """
        with self._lock:
            if self.decided or self.cancel_reason not in (None, "timeout"):
                return False
            self._forget_timeout()
            self._unpause()
            self._say_when_retried(message, seconds)
            self._move(AwaitingRetry(message))
        self.announce()
        return True

    def _say_when_retried(self, why: str, seconds: float) -> None:
        """Say that it waits for its next attempt, and for how long, under the lock."""

    def forget_timeout(self) -> None:
        """Go on as if in time, now that a timeout has ended an attempt. Harmless without one.

        One that has ended, given up, keeps its reason.
        """
        with self._lock:
            if self.cancel_reason == "timeout" and not self.decided:
                self._forget_timeout()

    def _forget_timeout(self) -> None:
        self._stop_hunting()
        self.cancel_reason = self.ladder = self.stopping = self.grace = None
        self.rung = ASK
        self.delivered = self.helper_stopped = self.told = False
        self._mark()

    def decide(self, state: State) -> State:
        """Return the state to end in, now that its code has stopped and means `state`.

        From here on its checkpoints pass, and asks come too late.
        """
        with self._lock:
            self.decided = True
            self._stop_hunting()
            self._mark()
            self._unpause()
            return self.cancelled_state() if self.reached else state

    def enter(self) -> None:
        """Say, on the thread that goes on with its code, that this is back in it."""
        with self._lock:
            self.thread = get_ident()

    def leave(self) -> None:
        """Say, on the thread that ran its code, that this has left it, given up or not."""
        with self._lock:
            self._stop_hunting()
            self.thread = None

    def _stop_hunting(self) -> None:
        """Take back what is on its way into its thread, under the lock."""
        if self.injected:
            withdraw(self)

    def _mark(self) -> None:
        """Bring `pending` up to date, under the lock.

        Code that was given up is still to stop where it can.
        """
        asked = self.cancel_reason is not None or self.flow_run.book.hold
        self.pending = self.flow_run.abandoned or (asked and not self.decided)

    def _unpause(self) -> None:
        """Go on, under the lock: a pause that comes as the code stops holds nothing."""
        if self.state.type is StateType.PAUSED:
            self._move(Running())

    @property
    def shielded(self) -> bool:
        """Whether it was started within a shield that has not ended."""
        return self.shield is not None and self.shield.is_on

    @property
    def insisted(self) -> bool:
        """Whether more than asking is done to stop it."""
        return self.rung > ASK

    @property
    def killed(self) -> bool:
        """Whether it is stopped by force, wherever it is."""
        return self.rung >= KILL

    @property
    def past_grace(self) -> bool:
        """Whether what was asked has had its grace: packages are left alone no longer."""
        if self.cancel_reason is None:
            return False
        grace = self.flow_run.options.cancel_grace_seconds if self.grace is None else self.grace
        return self.insisted or time() - self.asked_at >= grace

    def changed(self) -> None:
        """Tell history and listeners that something beside the state has changed."""
        self.flow_run._history.run_changed(self.flow_run)
        self.announce()

    def close(self, state: State) -> None:
        """Put in order what belongs to it: its code has stopped, and `state` is to be its last."""

    def sleep(self, seconds: float) -> None:
        """Sleep on a thread of the run; a cancel ends it, a pause makes it longer."""
        wait_in_run(self.flow_run, lambda: self.cancel_reason is not None, nobody_tells, seconds)

    # -- asks -------------------------------------------------------------------------

    def ask_cancel(self, reason: str, grace: float | None = None) -> bool:
        """Ask it and all that it called to stop. Any thread; never blocks.

        Args:
            reason: why: "user", "timeout", "parent", "concurrency", "shutdown", or in words.
            grace: seconds until more than asking is done; its options say by default.

        Returns:
            Whether this ask counts: False when it has ended, or was asked before,
            as the first reason stands. Only a timeout gives way to another reason.
        """
        asked = self._ask(reason, grace)
        for life in asked:
            life.announce()
        interrupt_all(asked)  # once all are asked: one cancel passes through a whole loop
        return bool(asked)

    def _ask(self, reason: str, grace: float | None) -> list[Life]:
        """Take note of the ask, and return those that it is news to: this life and its children."""
        with self._lock:
            children = list(self.active)
            if self.decided or self.state.type in TERMINAL:
                news: list[Life] = []
                if reason != "parent":
                    return news  # else it passes on to what it leaves behind, its caller's now
            elif self.cancel_reason not in (None, "timeout") or self.cancel_reason == reason:
                return []
            else:
                news = [self]
                self.cancel_reason = reason
                self.asked_at = time()
                self.grace = grace
                if not self.attempt:
                    self._move(self.cancelled_state())
                else:
                    self._mark()
                    if reason != "timeout":  # which may be followed by another attempt
                        self._move(Cancelling(_saying(reason)))
        return [*news, *(life for child in children for life in child._ask("parent", grace))]

    def turn_away(self, message: str) -> None:
        """End it before it has begun, as there is no room for it."""
        with self._lock:
            if self.state.type in TERMINAL:
                return
            self.cancel_reason = "concurrency"
            self._move(Cancelled(message))
        if self.parent is not None:
            self.parent.active.discard(self)
        self.announce()

    def give_up(self) -> None:
        """End it and all that it called as abandoned, whatever their code still does.

        Harmless when it has ended.
        """
        for child in list(self.active):
            child.ask_cancel("parent")
            child.give_up()
        state = Cancelled("It could not be stopped, and was given up", name="Abandoned")
        self.decide(state)
        self.close(state)
        moved = self.move(state)
        self.leave_caller()
        if moved:
            self.announce()

    def note_delivery(self) -> None:
        """Take note that its code is told of the cancel, if that was asked and is not too late."""
        with self._lock:
            if self.cancel_reason is not None and not self.decided:
                self.delivered = True

    def note_helper_stopped(self) -> None:
        """Take note that the cancel stops a thread beside its body's, if it is not too late.

        The body, which is not told by that, is still to be.
        """
        with self._lock:
            if self.cancel_reason is not None and not self.decided:
                self.helper_stopped = True

    @property
    def reached(self) -> bool:
        """Whether its code was told, or stopped in part: what it returns is not what was meant."""
        return self.delivered or self.helper_stopped

    def note_told(self) -> None:
        """Take note that its code has looked, and knows of the cancel.

        Until the grace is over implicit checkpoints leave it to end by itself.
        """
        with self._lock:
            if self.cancel_reason is not None and not self.decided:
                self.delivered = self.told = True

    def cancelled_state(self) -> State:
        """The state that the cancel asked for leads to."""
        if self.cancel_reason == "timeout":
            return TimedOut(_SAYINGS["timeout"], data=TimeoutError(_SAYINGS["timeout"]))
        return Cancelled(_saying(self.cancel_reason or "parent"))

    def adopt(self, child: Life) -> None:
        """Count a child in, so that a cancel reaches it: before its worker is started,
        or, if its caller waits for it, when it has begun.

        A child begun after the cancel was delivered is part of the cleanup, and
        is left to run, unless this is killed. One begun in a cleanup while the cancel
        is still to be delivered is asked, but stops only where that costs no cleanup.
        One that code begins that was given up is given up, too. When this has ended,
        its caller does.
        """
        with self._lock:
            above = self.parent if self.state.type in TERMINAL else None
            if above is None:
                self.active.add(child)
            given_up = self.flow_run.abandoned
            due = self.cancel_reason is not None and (self.killed or not self.delivered)
        if above is not None:
            above.adopt(child)
        if due or given_up:
            child.ask_cancel("parent", 0 if self.killed else None)
        if given_up:
            child.give_up()

    def leave_caller(self) -> None:
        """Be counted in no longer, as it has ended; what it leaves behind is its caller's now."""
        caller = self.parent
        if caller is None:
            return
        for child in list(self.active):
            caller.adopt(child)
            if child.state_is_final():  # and may have been looked for before it was there
                caller.active.discard(child)
        while caller is not None:
            caller.active.discard(self)
            caller = caller.parent

    # -- for records ------------------------------------------------------------------

    def transitions(self) -> list[Transition]:
        """Return every move with its time and cause."""
        return [as_transition(state) for state in list(self.states)]


def interrupt_all(lives: Sequence[Life]) -> None:
    """Let what runs the code of `lives` look at what is asked; any thread, no lock held."""
    for life in lives:
        life._interrupt()
    for run in {life.flow_run for life in lives}:
        run.book.wake()


def as_transition(state: State) -> Transition:
    """Describe a state as the record of a move."""
    return Transition(state.time, state.type, state.name, state.message)


async def ended(life: Life) -> None:
    """Wait until `life` is over without blocking the event loop."""
    waiter = LoopWaiter()
    life.on_done(waiter.wake)
    try:
        await waiter.wait()
    finally:
        life.forget(waiter.wake)

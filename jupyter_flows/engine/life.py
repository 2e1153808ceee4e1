"""What flow runs and task runs share: states, asks, and those who wait for them.

Guarantees:

- Every move goes through `move`, under the lock, checked against the table of
  states: of two threads that end a run, one does, and the other is told so.
- What is asked (`cancel_reason`) is kept apart from what is (`state`). `pending`
  is true while a checkpoint has something to heed, and is the only thing that a
  checkpoint reads on its fast path.
- `deliver` is called by the code's own thread only, as it raises. From then on
  the run ends CANCELLED, whatever its code does.
- The lock is never held while a callback, a listener or an executor is called.
  Callbacks of `on_done` run on the thread that made the last move; they must
  neither block nor raise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Lock
from time import time
from typing import TYPE_CHECKING, Any

from jupyter_flows.engine import ports
from jupyter_flows.errors import RunCancellation
from jupyter_flows.records import Transition
from jupyter_flows.states import (
    TERMINAL,
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Retrying,
    Running,
    State,
    TimedOut,
    check_move,
)

if TYPE_CHECKING:
    from jupyter_flows.engine.logs import LineWriter
    from jupyter_flows.engine.runs import FlowRun

REASONS = ("user", "timeout", "parent", "concurrency", "shutdown")
_SAYING = {
    "user": "Cancelled by the user",
    "timeout": "Took longer than its timeout",
    "parent": "Cancelled with the run that called it",
    "concurrency": "Cancelled to make room for a newer run",
    "shutdown": "Cancelled as the kernel shuts down",
}


class Life:
    """The life of a flow run or task run, from its first state to its last."""

    __slots__ = (
        "__weakref__",
        "_lock",
        "_on_done",
        "active",
        "asked_at",
        "attempt",
        "cancel_reason",
        "created",
        "delivered",
        "ended",
        "flow_run",
        "name",
        "pending",
        "root",
        "started",
        "state",
        "states",
    )

    flow_run: FlowRun
    parent: Life | None
    """Whose code started it, if that was a run's: a cancel of that one reaches it."""

    def __init__(self, name: str, state: State, lock: Lock) -> None:
        self.name = name
        self.created = state.time
        self.started: float | None = None
        self.ended: float | None = None
        self.attempt = 0
        self.state = state
        self.states = [state]
        self.pending = False
        self.cancel_reason: str | None = None
        self.asked_at = 0.0
        self.delivered = False
        self.root: asyncio.Task[Any] | None = None  # what runs its body, if that is async
        self.active: set[Life] = set()  # task runs and subflows that have not ended
        self._lock = lock
        self._on_done: list[Callable[[], Any]] = []

    # -- whose it is, in subclasses ---------------------------------------------------

    @property
    def id(self) -> str:
        """Its id, as text."""
        raise NotImplementedError

    @property
    def retries(self) -> int:
        """How many attempts may follow a failed one."""
        raise NotImplementedError

    def stream(self, level: int) -> LineWriter | None:
        """Return where what it prints at this level goes, or None to let it pass."""
        raise NotImplementedError

    def _changed(self, state: State) -> None:
        """Tell history of a move, under the lock: in the order in which they were made."""
        raise NotImplementedError

    def _interrupt(self) -> None:
        """Let its worker know of a new ask; any thread, without the lock."""
        raise NotImplementedError

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
        self._before_move(state)
        self.state = state
        self.states.append(state)
        if state.type in TERMINAL:
            self.ended = state.time
            self.pending = False
        self._changed(state)
        return True

    def _before_move(self, state: State) -> None:
        """Adjust what depends on the state, under the lock."""

    def announce(self) -> None:
        """Tell listeners of a change, and those who wait for the end if it came. No lock held."""
        for listener in ports.listeners:
            listener(self)
        if self.state.type in TERMINAL:
            while self._on_done:
                self._on_done.pop()()

    def state_is_final(self) -> bool:
        """Whether it has ended."""
        return self.state.type in TERMINAL

    def on_done(self, callback: Callable[[], Any]) -> None:
        """Call `callback` once, when it has ended: at once, if it has."""
        self._on_done.append(callback)
        if self.state.type in TERMINAL and self.forget(callback):
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
            if self.state.type in TERMINAL:
                return False
            if self.cancel_reason is not None:
                self._move(self.cancelled_state())
                begun = False
            else:
                self.attempt += 1
                state = Running() if self.attempt == 1 else Retrying()
                if self.started is None:
                    self.started = state.time
                self._move(state)
                begun = True
        self.announce()
        return begun

    def say_retry(self, message: str) -> None:
        """Say that an attempt failed and the next is to come, unless a cancel was asked."""
        with self._lock:
            if self.cancel_reason is None:
                self._move(AwaitingRetry(message))
        self.announce()

    def close(self, state: State) -> None:
        """Put in order what belongs to it: its code has stopped, and `state` is to be its last."""

    def sleep(self, seconds: float) -> None:
        """Sleep on the run's clock; a cancel ends it, a pause makes it longer."""
        raise NotImplementedError

    # -- asks -------------------------------------------------------------------------

    def ask_cancel(self, reason: str) -> bool:
        """Ask it and all that it called to stop. Any thread; never blocks.

        Returns:
            Whether this ask counts: False when it has ended, or was asked before,
            as the first reason stands. Only a timeout gives way to another reason.
        """
        with self._lock:
            if self.state.type in TERMINAL or self.cancel_reason not in (None, "timeout"):
                return False
            if self.cancel_reason == reason:
                return False
            self.cancel_reason = reason
            self.asked_at = time()
            if self.attempt:
                self.pending = True
                if reason != "timeout":  # which may be followed by another attempt
                    self._move(Cancelling(_SAYING[reason]))
            else:
                self._move(self.cancelled_state())
        self.announce()
        for child in list(self.active):
            child.ask_cancel("parent")
        self._interrupt()
        return True

    def cancelled_state(self) -> State:
        """The state that the cancel asked for leads to."""
        if self.cancel_reason == "timeout":
            return TimedOut(_SAYING["timeout"], data=TimeoutError(_SAYING["timeout"]))
        return Cancelled(_SAYING[self.cancel_reason or "user"])

    def withdraw_timeout(self) -> None:
        """Forget a timeout that ended one attempt, so that the next can begin."""
        with self._lock:
            if self.cancel_reason == "timeout":
                self.cancel_reason = None
                self.pending = self.delivered = False

    def deliver(self) -> RunCancellation:
        """Take the cancel into the code: the caller raises what this returns."""
        self.delivered = True
        return RunCancellation(self.id, self.cancel_reason or "user")

    def adopt(self, child: Life) -> None:
        """Count a child in, so that a cancel reaches it.

        A child begun after the cancel was delivered is part of the cleanup, and
        is left to run.
        """
        self.active.add(child)
        if self.cancel_reason is not None and not self.delivered:
            child.ask_cancel("parent")

    # -- for records ------------------------------------------------------------------

    def transitions(self) -> list[Transition]:
        """Return every move with its time and cause."""
        return [as_transition(state) for state in list(self.states)]


def as_transition(state: State) -> Transition:
    """Describe a state as the record of a move."""
    return Transition(state.time, state.type, state.name, state.message)

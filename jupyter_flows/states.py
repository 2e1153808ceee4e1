"""The states of a run, and the legal moves between them.

The rules of the house:

- `MOVES` is the truth. The engine asks `check_move` before every transition, and
  the diagram in the documentation is drawn from the same table by `as_mermaid`.
- A terminal state has no moves, so a run has exactly one terminal state.
- A state says what *is*. What was asked of a run (cancel, pause) is kept apart
  from it, in the run: a run is ``PAUSED`` only when it is parked and
  ``CANCELLED`` only when its code has stopped.
- ``CANCELLING`` may still end in any way: a cancel that came too late to be
  delivered leaves the code's own outcome standing.

Types and names are Prefect's. Standard library only; no clocks but the default
time stamp, no threads.
"""

import time as clock
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from jupyter_flows.errors import (
    CancelledRun,
    CrashedRun,
    FailedRun,
    IllegalTransition,
    MissingResult,
)


class StateType(StrEnum):
    """What a run is doing, in Prefect's nine types."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"


_S = StateType

TERMINAL: frozenset[StateType] = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.CRASHED})

MOVES: Mapping[StateType, frozenset[StateType]] = {
    # waits for a time, a slot, an earlier run, or its next attempt
    _S.SCHEDULED: frozenset(
        {_S.PENDING, _S.RUNNING, _S.PAUSED, _S.CANCELLING, _S.CANCELLED, _S.FAILED, _S.CRASHED}
    ),
    # has a worker that has not reached the body
    _S.PENDING: frozenset(
        {_S.SCHEDULED, _S.RUNNING, _S.CANCELLING, _S.CANCELLED, _S.FAILED, _S.CRASHED}
    ),
    # its code is running; SCHEDULED is the wait for a retry
    _S.RUNNING: frozenset(
        {
            _S.SCHEDULED,
            _S.PAUSED,
            _S.CANCELLING,
            _S.COMPLETED,
            _S.FAILED,
            _S.CANCELLED,
            _S.CRASHED,
        }
    ),
    # its code is parked, or waits for a person; SCHEDULED again if it waited for a retry
    _S.PAUSED: frozenset(
        {_S.SCHEDULED, _S.RUNNING, _S.CANCELLING, _S.FAILED, _S.CANCELLED, _S.CRASHED}
    ),
    # a cancel was asked and its code has not stopped yet
    _S.CANCELLING: frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.CRASHED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.CRASHED: frozenset(),
}

DEFAULT_NAMES: Mapping[StateType, str] = {kind: kind.value.capitalize() for kind in StateType}


def check_move(current: StateType, new: StateType) -> None:
    """Raise `IllegalTransition` unless a run may go from `current` to `new`."""
    if new not in MOVES[current]:
        raise IllegalTransition(f"A run that is {current} cannot become {new}.")


def as_mermaid() -> str:
    """Draw the table as a Mermaid state diagram, as the documentation shows it."""
    lines = ["stateDiagram-v2", "    [*] --> PENDING", "    [*] --> SCHEDULED"]
    for source in StateType:
        lines += [f"    {source} --> {target}" for target in StateType if target in MOVES[source]]
        if source in TERMINAL:
            lines.append(f"    {source} --> [*]")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A state of a run: a type, a name, and what came with it.

    Attributes:
        type: one of the nine types.
        name: the type's own name or a variant of it, such as ``TimedOut``.
        message: one line for people: the cause of the move.
        data: the result of a completed run, the exception of a failed one.
        time: when the run took this state, in seconds since the epoch.
    """

    type: StateType
    name: str = ""
    message: str = ""
    data: Any = None
    time: float = field(default_factory=clock.time)

    @property
    def timestamp(self) -> datetime:
        """When the run took this state, as an aware UTC `datetime`."""
        return datetime.fromtimestamp(self.time, UTC)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", DEFAULT_NAMES[self.type])

    def is_scheduled(self) -> bool:
        return self.type is _S.SCHEDULED

    def is_pending(self) -> bool:
        return self.type is _S.PENDING

    def is_running(self) -> bool:
        return self.type is _S.RUNNING

    def is_paused(self) -> bool:
        return self.type is _S.PAUSED

    def is_cancelling(self) -> bool:
        return self.type is _S.CANCELLING

    def is_completed(self) -> bool:
        return self.type is _S.COMPLETED

    def is_failed(self) -> bool:
        return self.type is _S.FAILED

    def is_cancelled(self) -> bool:
        return self.type is _S.CANCELLED

    def is_crashed(self) -> bool:
        return self.type is _S.CRASHED

    def is_final(self) -> bool:
        """Whether the run has ended: no state follows this one."""
        return self.type in TERMINAL

    def result(self, raise_on_failure: bool = True) -> Any:
        """Return what the run returned.

        Args:
            raise_on_failure: raise the run's exception (the default, as in
                Prefect), or return it.

        Raises:
            MissingResult: the run has not ended.
            CancelledRun: the run was cancelled.
            CrashedRun: the run was ended from outside its code.
            FailedRun: the run failed without an exception of its own.
        """
        __tracebackhide__ = True
        if self.type is _S.COMPLETED:
            return self.data
        error = self._failure()
        if raise_on_failure:
            raise error
        return error

    def _failure(self) -> BaseException:
        if self.type is _S.CANCELLED:
            return CancelledRun(self.message or "The run was cancelled.")
        if self.type is _S.CRASHED:
            return CrashedRun(self.message or "The run crashed.")
        if self.type is _S.FAILED:
            if isinstance(self.data, BaseException):
                return self.data
            if isinstance(self.data, State):
                return self.data._failure()
            return FailedRun(self.message or "The run failed.")
        return MissingResult(f"The run is {self.name}: it has no result yet.")

    def __repr__(self) -> str:
        return f"{self.name}({self.message!r})" if self.message else f"{self.name}()"


def Scheduled(message: str = "", *, name: str = "", data: Any = None) -> State:
    """Make a SCHEDULED state."""
    return State(_S.SCHEDULED, name, message, data)


def AwaitingRetry(message: str = "", *, data: Any = None) -> State:
    """Make the SCHEDULED state of a run that waits for its next attempt."""
    return State(_S.SCHEDULED, "AwaitingRetry", message, data)


def AwaitingConcurrencySlot(message: str = "", *, data: Any = None) -> State:
    """Make the SCHEDULED state of a run that waits for another run to end."""
    return State(_S.SCHEDULED, "AwaitingConcurrencySlot", message, data)


def is_wait(state: State) -> bool:
    """Whether a run in this state waits for another run to end."""
    return state.name == "AwaitingConcurrencySlot"


def is_delay(state: State) -> bool:
    """Whether a run in this state waits for its next attempt."""
    return state.name == "AwaitingRetry"


NOT_READY = "NotReady"
"""The name of the last state of a run that never began, as what it waits for did not complete."""


def Pending(message: str = "", *, name: str = "", data: Any = None) -> State:
    """Make a PENDING state."""
    return State(_S.PENDING, name, message, data)


def Running(message: str = "", *, name: str = "", data: Any = None) -> State:
    """Make a RUNNING state."""
    return State(_S.RUNNING, name, message, data)


def Retrying(message: str = "", *, data: Any = None) -> State:
    """Make the RUNNING state of a second or later attempt."""
    return State(_S.RUNNING, "Retrying", message, data)


def Paused(message: str = "", *, name: str = "", data: Any = None) -> State:
    """Make a PAUSED state."""
    return State(_S.PAUSED, name, message, data)


def Cancelling(message: str = "", *, name: str = "", data: Any = None) -> State:
    """Make a CANCELLING state."""
    return State(_S.CANCELLING, name, message, data)


def Completed(message: str = "", *, name: str = "", data: Any = None) -> State:
    """Make a COMPLETED state; `data` is the result."""
    return State(_S.COMPLETED, name, message, data)


def Failed(message: str = "", *, name: str = "", data: Any = None) -> State:
    """Make a FAILED state; `data` is the exception, if there is one."""
    return State(_S.FAILED, name, message, data)


def TimedOut(message: str = "", *, data: Any = None) -> State:
    """Make the FAILED state of a run that took too long."""
    return State(_S.FAILED, "TimedOut", message, data)


def Cancelled(message: str = "", *, name: str = "", data: Any = None) -> State:
    """Make a CANCELLED state."""
    return State(_S.CANCELLED, name, message, data)


def Crashed(message: str = "", *, name: str = "", data: Any = None) -> State:
    """Make a CRASHED state."""
    return State(_S.CRASHED, name, message, data)

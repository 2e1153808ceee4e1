"""From what code returned or raised to the state that it ends in.

The rules, Prefect's where Prefect has one:

1. Once a cancel was delivered, the run ends CANCELLED (or timed out), whatever
   its code then returned or raised.
2. A cancel that nobody asked for, an interrupt, an exit: CRASHED.
3. A run ends CANCELLED when one that it waited for did and it let that pass.
4. Any other exception: FAILED, with the exception as data. A group of cancels
   alone, as a task group raises, is a cancel.
5. A returned state is the state. Of returned states (or futures) CANCELLED beats
   FAILED, and one that did not complete makes the run not complete.
6. Anything else that is returned: COMPLETED, with it as data.

Pure: no threads, no clocks.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from jupyter_flows.engine.life import Life
from jupyter_flows.engine.texts import plain_text
from jupyter_flows.errors import CancelledRun, RunCancellation
from jupyter_flows.states import Cancelled, Completed, Crashed, Failed, State, StateType

_PLAIN = frozenset({type(None), bool, int, float, str, dict})  # most of what is returned
_CANCELS = (asyncio.CancelledError, RunCancellation, CancelledRun)


class ResultToCome:
    """The base of what stands for a run whose result is to come: of futures."""

    life: Life


def state_of_value(value: Any) -> State:
    """Return the state that a returned value means; what it stands for has ended."""
    parts = _parts(value)
    if not parts:
        return Completed(data=value)
    states = [part if isinstance(part, State) else part.state for part in parts]
    if any(not state.is_final() for state in states):
        return Failed("It returned the state of a run that has not ended.", data=None)
    if isinstance(value, list | tuple | set | frozenset):
        return _aggregate(states, value)
    return states[0]


def lives_in(value: Any) -> list[Life]:
    """Return the runs that a returned value stands for, which it means to wait for."""
    return [part for part in _parts(value) if isinstance(part, Life)]


def _parts(value: Any) -> list[State | Life]:
    """Return the states and runs that a value is, or consists of; none if of anything else."""
    if type(value) in _PLAIN:
        return []
    parts: list[State | Life] = []
    seen: set[int] = set()
    to_do: list[Iterator[Any]] = [iter((value,))]  # it mostly ends at the first part
    while to_do:
        for each in to_do[-1]:
            if isinstance(each, State | Life):
                parts.append(each)
            elif isinstance(each, ResultToCome):
                parts.append(each.life)
            elif not isinstance(each, list | tuple | set | frozenset) or not each:
                return []
            elif id(each) not in seen:
                seen.add(id(each))
                to_do.append(iter(each))
                break
        else:
            to_do.pop()
    return parts


def _aggregate(states: Iterable[State], value: Any) -> State:
    states = list(states)
    total = len(states)
    cancelled = sum(state.type is StateType.CANCELLED for state in states)
    failed = sum(state.type in (StateType.FAILED, StateType.CRASHED) for state in states)
    if cancelled:
        return Cancelled(f"{cancelled}/{total} states cancelled.", data=value)
    if failed:
        first = next(s for s in states if s.type in (StateType.FAILED, StateType.CRASHED))
        return Failed(f"{failed}/{total} states failed.", data=first)
    return Completed("All states completed.", data=value)


def state_of_error(life: Life, error: BaseException) -> State:
    """Return the state that a raised exception means."""
    if isinstance(error, BaseExceptionGroup):
        cancels, others = error.split(_CANCELS)
        if cancels is not None and others is None:
            return state_of_error(life, _leaf(cancels))
    if isinstance(error, asyncio.CancelledError | RunCancellation):
        if _asked(life):
            return life.cancelled_state()
        return Crashed("Cancelled by something other than this run.", data=error)
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        return Crashed(f"Ended from outside: {type(error).__name__}.", data=error)
    if isinstance(error, CancelledRun):
        if life.cancel_reason is not None:
            return life.cancelled_state()
        return Cancelled(f"A run that it waited for was cancelled: {error}", data=error)
    return Failed(f"{type(error).__name__}: {plain_text(error)[:500]}", data=error)


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _asked(life: Life) -> bool:
    return life.cancel_reason is not None or life.flow_run.cancel_reason is not None

"""From what code returned or raised to the state that it ends in.

The rules, Prefect's where Prefect has one:

1. Once a cancel was delivered, the run ends CANCELLED (or timed out), whatever
   its code then returned or raised.
2. A cancel that nobody asked for, an interrupt, an exit: CRASHED.
3. A run ends CANCELLED when one that it waited for did and it let that pass.
4. Any other exception: FAILED, with the exception as data.
5. A returned state is the state. Of returned states (or futures) CANCELLED beats
   FAILED, and one that did not complete makes the run not complete.
6. Anything else that is returned: COMPLETED, with it as data.

Pure: no threads, no clocks.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from jupyter_flows.engine.life import Life
from jupyter_flows.errors import CancelledRun, RunCancellation
from jupyter_flows.states import Cancelled, Completed, Crashed, Failed, State, StateType


@runtime_checkable
class HasState(Protocol):
    """A future: something whose run can be waited for."""

    @property
    def state(self) -> State: ...

    def wait(self, timeout: float | None = None) -> Any: ...


def state_of_value(value: Any) -> State:
    """Return the state that a returned value means."""
    if isinstance(value, State):
        return value
    if value is None or isinstance(value, str | int | float):
        return Completed(data=value)
    states = _states_in(value)
    if not states:
        return Completed(data=value)
    if isinstance(value, HasState):
        return states[0]
    return _aggregate(states, value)


def _states_in(value: Any) -> list[State]:
    if isinstance(value, State):
        return [value]
    if isinstance(value, HasState):
        value.wait()
        return [value.state]
    if isinstance(value, list | tuple | set | frozenset) and value:
        states = [_states_in(each) for each in value]
        if all(states):
            return [state for each in states for state in each]
    return []


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
    if isinstance(error, asyncio.CancelledError | RunCancellation):
        if _asked(life):
            return life.cancelled_state()
        return Crashed("Cancelled by something other than this run.", data=error)
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        return Crashed(f"Ended from outside: {type(error).__name__}.", data=error)
    if isinstance(error, CancelledRun):
        return Cancelled(f"A run that it waited for was cancelled: {error}", data=error)
    return Failed(f"{type(error).__name__}: {_text(error)}", data=error)


def _asked(life: Life) -> bool:
    return life.cancel_reason is not None or life.flow_run.cancel_reason is not None


def _text(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except Exception:
        return "(its text cannot be made)"

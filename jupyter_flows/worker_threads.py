"""`run_sync_in_worker_thread`: sync code of an async flow, on a thread of the run's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

from jupyter_flows.engine.current import current
from jupyter_flows.engine.life import Life, ended
from jupyter_flows.engine.runner import Plan, reraise
from jupyter_flows.engine.sections import Section
from jupyter_flows.futures import tasks_submitted_by
from jupyter_flows.states import StateType

P = ParamSpec("P")
R = TypeVar("R")


async def run_sync_in_worker_thread(fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run sync code on a thread, so that the event loop goes on, and return what it returns.

    In a run it is a part of the run: what it prints is captured, a pause holds it, and
    a cancel stops it at a checkpoint or a safe line. When the ``await`` is cancelled the
    code is too, and the await ends when the code has, cleanup and all.

    Args:
        fn: the function.
        args: its arguments.
        kwargs: its arguments by name.

    Raises:
        Exception: whatever it raised.
    """
    __tracebackhide__ = True
    owner = current.get()
    if owner is None:
        return await asyncio.to_thread(fn, *args, **kwargs)
    call = partial(fn, *args, **kwargs)
    part = Section(owner, None)
    plan = Plan(lambda: _Returned(call()), delay=_no_delay)
    tasks_submitted_by(owner.flow_run).submit(part, plan, is_async=False)
    try:
        await ended(part)
    except asyncio.CancelledError:
        part.ask_cancel("parent")
        await _end_of(part)
        raise
    if part.state.type is StateType.COMPLETED:
        value: R = part.state.data.value
        return value
    return reraise(part)  # type: ignore[no-any-return]


class _Returned:
    """What the code returned, which says nothing about the run, be it a state."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


async def _end_of(part: Life) -> None:
    """Wait for the end, whatever is asked meanwhile: it is asked too."""
    while not part.state_is_final():
        try:
            await ended(part)
        except asyncio.CancelledError:
            pass


def _no_delay(attempt: int) -> float:
    return 0.0

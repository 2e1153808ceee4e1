"""What a life waits for as it leaves its body: all that this has begun and not ended.

In this order: the generators that it has left open are closed, its submitted tasks are
waited for, the tasks that it left behind on the event loop are asked to stop and waited
for, and, if it was cancelled, the helper threads that are still in its code.

`leave_body` is called by the thread that ran the body, `leave_body_async` by the
asyncio task that did; what is asked of the run meanwhile is heeded as in the body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, ref

from jupyter_flows.engine.helping import helpers_of
from jupyter_flows.engine.life import Life, ended
from jupyter_flows.engine.outcomes import state_of_error
from jupyter_flows.engine.pausing import nobody_tells, wait_in_run
from jupyter_flows.engine.runs import Submitted
from jupyter_flows.engine.task_runs import TaskRun
from jupyter_flows.states import State, StateType

_LOOK_AGAIN = 0.005  # seconds

generators: WeakKeyDictionary[Life, ref[Any]] = WeakKeyDictionary()
"""By a life whose body is a generator, that of the engine's which its caller was given."""


def leave_body(life: Life, state: State) -> State:
    """Wait for what a life has left behind as it left its body; return what that means."""
    if life.active:
        for generator in _left_open(life):
            with suppress(ValueError, RuntimeError):  # it is in use, or does not stop
                generator.close()
    state = _join(life, state)
    while _has_helpers(life):
        wait_in_run(life.flow_run, _never, nobody_tells, _LOOK_AGAIN)
    return state


async def leave_body_async(life: Life, state: State) -> State:
    """Do what `leave_body` does, without blocking the event loop."""
    state = await _join_async(life, state)
    while _has_helpers(life) and life.root is not None:
        await life.root.sleep(_LOOK_AGAIN)
    return state


def _join(life: Life, state: State) -> State:
    """Wait for the submitted tasks of a flow that has left its body; return what that means.

    An interrupt meanwhile is heeded as one of the body: the tasks are asked to stop.
    """
    tasks = _submitted_by(life, state)
    if tasks is None:
        return state
    try:
        told = tasks.join()
    except KeyboardInterrupt as error:
        state = state_of_error(life, error)
        _submitted_by(life, state)
        told = tasks.join()
    if told:
        life.note_delivery()
    return state


async def _join_async(life: Life, state: State) -> State:
    """Do what `_join` does, for code that may share its asyncio task with who awaits it.

    Generators that it has left open are closed. Tasks that it left behind on the event
    loop are stopped, and waited for.
    """
    while True:
        try:
            if life.active:
                await close_generators(life)
            tasks = _submitted_by(life, state)
            if tasks is not None and await tasks.join_async():
                life.note_delivery()
            left = _left_behind(life)
            if not left:
                return state
            for each in left:
                each.ask_cancel("parent")
            for each in left:
                await ended(each)
        except asyncio.CancelledError as error:  # the caller's, which is told again at the end
            life.note_delivery()
            state = state_of_error(life, error)
            for child in list(life.active):
                child.ask_cancel("parent")


def _left_behind(life: Life) -> list[TaskRun]:
    """Return the task runs that go on when a flow has left its body."""
    if life is not life.flow_run:
        return []
    tasks = [each for each in life.flow_run.task_runs if isinstance(each, TaskRun)]
    return [each for each in tasks if not each.state_is_final()]


def _left_open(life: Life) -> Iterator[Any]:
    """Yield the generators that a life has begun to take values from and that go on."""
    for child in list(life.active):
        found = generators.get(child)
        generator = None if found is None else found()
        if generator is not None:
            yield generator


async def close_generators(life: Life) -> None:
    """Close the generators that a life has left open, and wait for those that are being closed."""
    for generator in _left_open(life):
        with suppress(ValueError, RuntimeError):  # it is in use, or does not stop
            if hasattr(generator, "aclose"):
                await generator.aclose()
            else:
                generator.close()
    for child in list(life.active):
        found = generators.get(child)
        if found is not None and found() is None:
            await ended(child)


async def closing_generators(life: Life, body: Callable[[], Awaitable[Any]]) -> Any:
    """Run a body, and close the generators that it leaves open while its event loop goes on."""
    __tracebackhide__ = True
    try:
        return await body()
    finally:
        await close_generators(life)


def _submitted_by(life: Life, state: State) -> Submitted | None:
    """Return the submitted tasks to wait for: those of a flow that has left its body."""
    run = life.flow_run
    if life is not run or run.submitted is None:
        return None
    if state.type is StateType.CRASHED:
        for child in list(run.active):
            child.ask_cancel("parent")
    return run.submitted


def _has_helpers(life: Life) -> bool:
    """Whether a life that was cancelled has threads of its own that are still in its code.

    They are asked to stop as it was. Nothing tells when they have: they are looked at.
    """
    return life.reached and not life.flow_run.abandoned and bool(helpers_of(life))


def _never() -> bool:
    return False

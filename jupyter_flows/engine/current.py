"""Whose code is this? One context variable answers for threads and tasks alike.

It holds the innermost flow run or task run whose code is being run. Everything
that must know (captured prints, checkpoints, `current_run()`) asks it; nothing
else routes. asyncio tasks inherit it by themselves; `capture` hands it to
threads and pool workers that a run starts.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from _thread import get_ident
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life

current: ContextVar[Life | None] = ContextVar("jupyter_flows.current", default=None)


current_tags: ContextVar[frozenset[str]] = ContextVar("jupyter_flows.tags", default=frozenset())
"""What is added to the tags of every run that is started here."""


def _leave() -> None:
    """Say that a process that a run's code has forked is in no run."""
    current.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs on this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def here() -> Any:
    """Return whose code this is, as far as waiting goes: an asyncio task, or a thread."""
    try:
        return asyncio.current_task() or get_ident()
    except RuntimeError:
        return get_ident()


def loop_of(owner: Life) -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs the code of `owner`, or None if a thread of its own does.

    A loop may run on this thread and yet not be its: a notebook's, for a sync flow
    that a cell calls in the foreground and waits for.
    """
    loop = running_loop()
    life: Life | None = owner if loop is not None else None
    while life is not None:
        if life.root is not None and life.root.loop is loop:
            return loop
        life = life.caller
    return None


_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


def called_from_async(owner: Life | None, frame: FrameType) -> bool:
    """Whether the caller of a function that serves sync and async code is going to await it.

    A sync task that async code calls cannot: it is sync code, on whatever thread.

    Args:
        owner: whose code is being run, if that is a run's.
        frame: the caller's.
    """
    while frame.f_code.co_name in _COMPREHENSIONS and frame.f_back is not None:
        frame = frame.f_back
    if frame.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return True
    root = None if owner is None else owner.listed.root
    return root is not None and root.loop is running_loop()

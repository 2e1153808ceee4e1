"""Raises an exception in another thread, wherever that is: the last means.

What CPython offers (`PyThreadState_SetAsyncExc`) raises at the thread's next look
at its pending asks: at the start of a function, at a loop's jump back, or when a
call in C returns. That may skip a cleanup, so it is done only when nothing gentler
is left, or, before Python 3.12, where the stack says that it costs nothing.

Guarantees:

- A life is hit only while its code has not stopped: `inject` and the end of the
  body agree on that under the life's lock, and `withdraw`, called with it held,
  takes back what has not been raised by then.
- A life is hit in its own code, and in what that calls: not in other code of its loop
  (from Python 3.12 on; before, a loop's plain tasks are not told apart).
- The engine's own threads alone are hit, never one of the user's or the kernel's,
  and never while it imports a module, is in the engine, or in a shield.
- Where it is hit is what was looked at: from the last look to the raise no other
  thread runs. So what the engine has begun there it also ends.
- Whether it was raised is known: the exception says so itself when it is made.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
from itertools import pairwise, starmap
from operator import methodcaller
from types import FrameType
from typing import TYPE_CHECKING

from jupyter_flows.engine.current import current
from jupyter_flows.engine.ports import is_engine_module
from jupyter_flows.engine.safe_lines import is_own
from jupyter_flows.engine.shielding import is_shielded_thread
from jupyter_flows.engine.stacks import entries, stack_of
from jupyter_flows.engine.threads import EngineThread
from jupyter_flows.errors import RunCancellation

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
_clear_async_exc = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


def place_to_hit(life: Life) -> FrameType | None:
    """Return the top frame of the life's thread, if that, and where it is, may be hit at all."""
    ident = life.thread
    if ident is None or life.shielded or is_shielded_thread(ident):
        return None
    ours = any(isinstance(t, EngineThread) and t.ident == ident for t in threading.enumerate())
    frames = stack_of(ident) if ours else []
    if not frames or _is_in_engine(frames) or not _is_running(life):
        return None
    if not any(each.f_code in entries for each in frames):
        return None  # an event loop between two steps of the body: to hit it would break it
    if any(each.f_code.co_filename.startswith("<frozen importlib") for each in frames):
        return None
    return frames[0]


def _is_running(life: Life) -> bool:
    """Whether it is a life's code that its thread runs: an event loop takes turns."""
    root = life.root  # which its own thread takes away
    if root is None:
        return True
    task = asyncio.current_task(root.loop)
    if task is None or task is root.task or not hasattr(task, "get_context"):
        return task is not None  # before Python 3.12 nothing tells whose a task is
    running: Life | None = task.get_context().get(current)
    while running is not None and running is not life:
        running = running.parent
    return running is life


def _is_in_engine(frames: list[FrameType]) -> bool:
    """Whether a stack ends in the engine, or in what that calls of the standard library."""
    if is_engine_module(frames[0].f_globals.get("__name__")):
        return True
    for frame, caller in pairwise(frames):
        if frame.f_code in entries:
            return False
        if is_engine_module(frame.f_globals.get("__name__")):
            return caller.f_code not in entries  # which may enter a body that the engine made
        if is_own(frame.f_code, packages=True):
            return False
    return False


def inject(life: Life, place: FrameType, offset: int | None = None) -> bool:
    """Raise the cancel of a life in the thread that runs it; return False if it has gone on.

    Args:
        life: what is to stop.
        place: the frame that must be on top of its thread still.
        offset: the offset that this must be at, if not any.
    """
    with life._lock:
        ident = life.thread
        if (life.decided and not life.flow_run.abandoned) or ident is None:
            return False
        error = _cancellation(life)
        life.injected = True
        look = map(methodcaller("get", ident), starmap(sys._current_frames, [()]))
        # What follows is C, called by no CALL: only after one might another thread go on.
        (top,) = look
        if top is not place or offset not in (None, top.f_lasti):
            return False
        return bool(_set_async_exc(ident, error))


def withdraw(life: Life) -> None:
    """Take back what was injected and not raised. By the life's own thread, its lock held."""
    if life.injected and life.thread is not None:
        life.injected = False
        _clear_async_exc(life.thread, None)


def _cancellation(life: Life) -> type[RunCancellation]:
    def told(self: RunCancellation) -> None:
        life.delivered = True
        RunCancellation.__init__(self, life.id, life.cancel_reason or "user")

    return type("RunCancellation", (RunCancellation,), {"__init__": told})

"""Where a run is, for people: its stacks with source lines, and the line that holds it."""

from __future__ import annotations

import linecache
from types import FrameType
from typing import TYPE_CHECKING

from jupyter_flows.engine.ports import is_engine_module
from jupyter_flows.engine.safe_lines import may_be_on_top
from jupyter_flows.engine.stacks import stack_of, suspended_frames, threads_of
from jupyter_flows.records import Frame, Stack

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life
    from jupyter_flows.engine.runs import FlowRun


def what_holds(life: Life) -> tuple[Frame | None, str | None]:
    """Return the line of the user's own code that a life is at, and what to write instead."""
    frames = [] if life.thread is None else stack_of(life.thread)
    if life.root is not None and not any(frames):
        frames = list(suspended_frames(life.root.task.get_coro()))[::-1]
    for frame in frames:
        if not is_engine_module(frame.f_globals.get("__name__")) and _is_own(frame):
            return described(frame), None
    return None, None


def stacks(run: FlowRun) -> list[Stack]:
    """Return the stacks of the threads and coroutines that a run's code is in."""
    found = []
    for thread in sorted(set(run.book.workers) | set(threads_of(run))):
        frames = tuple(described(frame) for frame in reversed(stack_of(thread)))
        found.append(Stack(name=str(thread), kind="thread", doing="running", frames=frames))
    return found


def described(frame: FrameType) -> Frame:
    """Describe a frame, with its source line."""
    code = frame.f_code
    line = frame.f_lineno or 0
    return Frame(
        file=code.co_filename,
        line=line,
        function=code.co_qualname,
        text=linecache.getline(code.co_filename, line, frame.f_globals).strip(),
        own=_is_own(frame),
    )


def _is_own(frame: FrameType) -> bool:
    return may_be_on_top(frame.f_code, packages=False)

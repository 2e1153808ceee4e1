"""Where a run is, for people: its stacks with source lines, and the line that holds it.

Rules:

- A thread's stack is shown from the run's own code on; the engine's frames are left
  out everywhere, and so is whatever called the run.
- A task of an event loop is shown through its awaits: by its coroutine while it is
  suspended, by its thread's frames while it runs.
- Nothing is stopped for it, so what is shown may be out of date when it is read. Any
  thread may ask; `stacks` looks at threads that may be in C again, for a tenth
  of a second at most, and `what_holds` never waits.
"""

from __future__ import annotations

import asyncio
import linecache
import re
import threading
from collections.abc import Iterable
from contextvars import Context
from dataclasses import replace
from itertools import chain
from types import FrameType
from typing import TYPE_CHECKING, Any

from jupyter_flows.engine import hangs, ports
from jupyter_flows.engine.current import current
from jupyter_flows.engine.helping import all_helpers
from jupyter_flows.engine.loops import RunLoop
from jupyter_flows.engine.ports import is_engine_module
from jupyter_flows.engine.safe_lines import is_own
from jupyter_flows.engine.shielding import is_shielded_task, is_shielded_thread
from jupyter_flows.engine.stacks import entries, lives_of, stack_of, suspended_frames
from jupyter_flows.engine.stillness import unmoved
from jupyter_flows.records import Frame, Stack
from jupyter_flows.states import StateType

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life
    from jupyter_flows.engine.runs import FlowRun

_MOST_FRAMES = 100  # of one stack: a recursion's has a thousand, which say little
_LONGEST_LINE = 300  # characters of source
_UNNAMED_TASK = re.compile(r"Task-\d+")

Frames = list[FrameType]  # the innermost first
Position = tuple[int, int]  # of a thread: which frame is on top, and where it is


# -- what holds a run -------------------------------------------------------------------


def position(life: Life) -> Position | None:
    """Return where the thread of a life is, to be compared with where it is later."""
    frames = _frames_of(life)
    return (id(frames[0]), frames[0].f_lasti) if frames else None


def what_holds(
    life: Life, before: Position | None = None, late: float = 0.0
) -> tuple[Frame | None, str | None]:
    """Return the line of the user's own code that a life is at, and what to write instead.

    Args:
        life: what has not stopped.
        before: where it was a while ago: one that is there still is held by code in C.
        late: by how many seconds a timer was late, as when C held up all of Python.
    """
    lives = lives_of(life.flow_run) if life is life.flow_run else [life]
    held: tuple[Frame | None, str | None] = (None, None)
    for each in reversed(lives):  # what was called last holds what called it
        frames = _frames_of(each)
        line = next((frame for frame in frames if _is_own(frame)), None)
        if line is None:
            continue
        hint = _hint(frames, each)
        if hint is None and late:
            hint = hangs.HELD_ALL.format(seconds=late)
        if hint is None and before == (id(frames[0]), frames[0].f_lasti):
            hint = hangs.c_call_on(frames[0])
        held = described(line), hint
        if each.thread not in life.flow_run.book.parked:
            break
    return held


def _frames_of(life: Life) -> Frames:
    if life.root is not None:
        return _frames_of_task(life.root.task, life.thread)
    return [] if life.thread is None else _within_run(stack_of(life.thread))


def _within_run(frames: Frames) -> Frames:
    """Cut off what called the run, if a run's body is on the stack."""
    found = [i for i, frame in enumerate(frames) if frame.f_code in entries]
    return frames[: found[-1]] if found else []


def _frames_of_task(task: asyncio.Task[Any], thread: int | None) -> Frames:
    coroutine: Any = task.get_coro()
    if _is_running(task) and thread is not None:
        frames, outermost = stack_of(thread), coroutine.cr_frame
        if outermost in frames:
            return frames[: frames.index(outermost) + 1]
    return list(suspended_frames(coroutine))[::-1]


def _hint(frames: Frames, life: Life) -> str | None:
    if life.root is not None:
        return _hint_of_task(frames, life.root.task)
    if life.thread is not None and is_shielded_thread(life.thread):
        return hangs.SHIELD
    return hangs.wait_on(frames) or hangs.cleanup_on(frames)


def _hint_of_task(frames: Frames, task: asyncio.Task[Any]) -> str | None:
    if is_shielded_task(task):
        return hangs.SHIELD
    waits = hangs.wait_on(frames) if _is_running(task) else None
    return waits or hangs.cleanup_on(frames)


def _is_running(task: asyncio.Task[Any]) -> bool:
    """Whether a task executes, rather than awaits."""
    return bool(getattr(task.get_coro(), "cr_running", False))


# -- all stacks of a run ----------------------------------------------------------------


class Stacks(list[Stack]):
    """Stacks, which a notebook or terminal shows as text."""

    def __repr__(self) -> str:
        return "\n\n".join(map(str, self)) or "None of its code runs."


def stacks(run: FlowRun) -> Stacks:
    """Return the stacks of the threads and coroutines that a run's code is in.

    Those of its tasks, its subflows and the threads that its code has started are
    among them.
    """
    lives: list[Life] = [run]
    for life in lives:
        lives += list(life.active)
    lives = [life for life in lives if not life.state_is_final()]
    runs = {life.flow_run for life in lives}
    elsewhere = {run: there for run in runs if (there := run.executor.elsewhere())}
    threads: dict[int, list[Life]] = {}
    tasks: dict[asyncio.Task[Any], list[Life]] = {}
    for life in lives:
        if life.root is not None:
            tasks.setdefault(life.root.task, []).append(life)
        elif life.thread is not None and life not in elsewhere:  # else it only waits here
            threads.setdefault(life.thread, []).append(life)
    for ident in list(run.book.workers):  # of code that goes on after it was given up
        if run.state_is_final():
            threads.setdefault(ident, [run])
    found = [_of_thread(ident, of) for ident, of in threads.items()]
    found = _with_calls_of_c(found, list(threads))
    found += [_of_task(task, of[0].thread, of, of) for task, of in tasks.items()]
    roots = [(life.root.loop, life) for life in lives if life.root is not None]
    for loop, life in dict(reversed(roots)).items():
        for task in sorted(asyncio.all_tasks(loop) - tasks.keys(), key=_order):
            if isinstance(loop, RunLoop) or _belongs(task, lives):
                found.append(_of_task(task, life.thread, [], [life]))
    found += chain.from_iterable(elsewhere.values())
    for thread, life in all_helpers().items():
        if life.flow_run in runs:
            found.append(_of_helper(thread, life.flow_run))
    return Stacks(found)


def _belongs(task: asyncio.Task[Any], lives: list[Life]) -> bool:
    """Whether a task of a loop that others use too was made by one of `lives`."""
    if not hasattr(task, "get_context"):  # Python 3.11 does not tell
        return False
    context: Context = task.get_context()
    return any(context.get(current) is life for life in lives)


def _of_thread(ident: int, lives: list[Life]) -> Stack:
    run = lives[0].flow_run
    frames = _within_run(stack_of(ident))
    in_engine = not frames or is_engine_module(frames[0].f_globals.get("__name__"))
    waits = (in_engine and ident in run.book.parked) or hangs.wait_on(frames) is not None
    return Stack(
        name=" › ".join(life.name for life in lives),
        kind="thread",
        doing=_doing(lives, in_engine and ident in run.book.parked, waits),
        frames=_described(frames),
        hint=_hint(frames, lives[-1]),
    )


def _of_task(
    task: asyncio.Task[Any], thread: int | None, lives: list[Life], near: list[Life]
) -> Stack:
    frames = _frames_of_task(task, thread)
    return Stack(
        name=" › ".join(life.name for life in lives) or _name_of(task),
        kind="coroutine",
        doing=_doing(near, True, not _is_running(task)),
        frames=_described(frames),
        hint=_hint_of_task(frames, task),
    )


def _of_helper(thread: threading.Thread, run: FlowRun) -> Stack:
    frames = [] if thread.ident is None else stack_of(thread.ident)
    hint = hangs.wait_on(frames)
    return Stack(
        name=thread.name,
        kind="thread",
        doing=_doing([run], thread.ident in run.book.parked, hint is not None),
        frames=_described(frames),
        hint=hint,
    )


def _doing(lives: list[Life], may_be_paused: bool, waits: bool) -> str:
    if may_be_paused and lives and lives[0].flow_run.state.type is StateType.PAUSED:
        return "paused"
    return "waiting" if waits else "running"


def _with_calls_of_c(found: list[Stack], threads: list[int]) -> list[Stack]:
    """Give a hint to those that are running and do not move: they are in a call of code in C."""
    tops: dict[int, FrameType] = {}
    for stack, ident in zip(found, threads, strict=True):
        top = stack_of(ident)[:1] if stack.doing == "running" and stack.hint is None else []
        if top and not is_engine_module(top[0].f_globals.get("__name__")):
            tops[ident] = top[0]
    hints = {
        ident: hangs.wait_on(_within_run(stack_of(ident))) or hangs.c_call_on(tops[ident])
        for ident in unmoved(tops)
    }
    return [
        replace(stack, hint=hints[ident]) if ident in hints else stack
        for stack, ident in zip(found, threads, strict=True)
    ]


def _order(task: asyncio.Task[Any]) -> tuple[int, str]:
    """So that `Task-10` comes after `Task-9`."""
    name = task.get_name()
    return len(name), name


def _name_of(task: asyncio.Task[Any]) -> str:
    name = task.get_name()
    if not _UNNAMED_TASK.fullmatch(name):
        return name
    qualname: str = getattr(task.get_coro(), "__qualname__", name)
    return qualname.rpartition("<locals>.")[2]


# -- frames -----------------------------------------------------------------------------


def _described(frames: Frames) -> tuple[Frame, ...]:
    """Describe a stack, the outermost frame first, without the engine's frames."""
    shown = [f for f in reversed(frames) if not is_engine_module(f.f_globals.get("__name__"))]
    over = len(shown) - _MOST_FRAMES
    if over <= 0:
        return tuple(map(described, shown))
    half = _MOST_FRAMES // 2
    gap = Frame(file="", line=0, function=f"… {over:,} calls left out …", text="", own=False)
    return (*_all_described(shown[:half]), gap, *_all_described(shown[-half:]))


def _all_described(frames: Iterable[FrameType]) -> tuple[Frame, ...]:
    return tuple(map(described, frames))


def described(frame: FrameType) -> Frame:
    """Describe a frame, with its source line."""
    code = frame.f_code
    line = frame.f_lineno or 0
    text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
    return Frame(
        file=ports.show_file(code.co_filename),
        line=line,
        function=code.co_qualname,
        text=text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…",
        own=_is_own(frame),
    )


def _is_own(frame: FrameType) -> bool:
    """Whether it is the user's own code: neither the library's, a package's, nor the engine's."""
    if is_engine_module(frame.f_globals.get("__name__")):
        return False
    return is_own(frame.f_code, packages=False)

"""Where the code of a run is: the frames of its threads and of its suspended coroutines.

Reading is racy by nature, since the threads go on meanwhile: what is found may be
out of date, never wrong in kind. Any thread may read; nothing is stopped for it.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life
    from jupyter_flows.engine.runs import FlowRun

F = TypeVar("F", bound=Callable[..., object])

_ROOM = 100  # frames: what the engine needs to begin and to end a run, with some to spare

entries: set[CodeType] = set()
bottoms: set[CodeType] = set()
drivers: set[CodeType] = set()


def entry(function: F) -> F:
    """Mark a function of the engine that enters the body of a flow or task."""
    entries.add(function.__code__)
    return function


def bottom(function: F) -> F:
    """Mark a function of the engine that is the first on its thread."""
    bottoms.add(function.__code__)
    return function


def driver(function: F) -> F:
    """Mark a generator of the engine that drives the coroutine in its variable `coroutine`."""
    drivers.add(function.__code__)
    return function


def need_room() -> None:
    """See to it that a run that is about to be made can be ended, too, on this stack.

    Raises:
        RecursionError: it could not, so near is the end of the stack: nothing was made.
    """
    limit = sys.getrecursionlimit()
    try:
        sys._getframe(max(limit - _ROOM, limit // 2))
    except ValueError:  # the stack is not as deep
        return
    raise RecursionError("maximum recursion depth exceeded: there is no room for another run.")


def lives_of(run: FlowRun) -> list[Life]:
    """Return a run and its task runs that have not ended."""
    lives: list[Life] = [run]
    for life in lives:
        lives += [child for child in list(life.active) if child.flow_run is run]
    return lives


def threads_of(run: FlowRun) -> list[int]:
    """Return the threads that run the code of a run."""
    book = run.book
    return [*book.workers, *([book.driver] if book.executing else ())]


def stack_of(thread: int) -> list[FrameType]:
    """Return the frames of a thread, the innermost first; down to the engine's first."""
    frames = []
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code not in bottoms:
        frames.append(frame)
        frame = frame.f_back
    return frames


def suspended_frames(awaiting: Any) -> Iterator[FrameType]:
    """Yield the frames of a suspended coroutine, from the outermost in.

    What one that runs awaits is not asked: Python may crash of that, when it is just
    being resumed. Nothing can resume it between the two looks at it here.
    """
    while awaiting is not None:
        kind = type(awaiting).__name__
        if kind == "coroutine":
            frame = awaiting.cr_frame
            awaiting = awaiting.cr_await if awaiting.cr_suspended else None
        elif kind == "async_generator":
            frame = awaiting.ag_frame
            awaiting = awaiting.ag_await if _is_suspended(awaiting, frame) else None
        elif kind == "generator":
            frame = awaiting.gi_frame
            if frame is not None and frame.f_code in drivers:
                awaiting = frame.f_locals["coroutine"] if awaiting.gi_suspended else None
            else:
                awaiting = awaiting.gi_yieldfrom if awaiting.gi_suspended else None
        else:  # a step of an async generator does not name it, but refers to it
            steps = gc.get_referents(awaiting) if kind.startswith(("async_gen", "anext")) else ()
            named = ("async_generator", "coroutine", "async_generator_asend")
            frame, awaiting = None, next((s for s in steps if type(s).__name__ in named), None)
        if frame is not None:
            yield frame


if sys.version_info >= (3, 12):

    def _is_suspended(generator: Any, frame: FrameType | None) -> bool:
        return bool(generator.ag_suspended)

else:

    def _is_suspended(generator: Any, frame: FrameType | None) -> bool:
        return frame is not None and frame.f_back is None

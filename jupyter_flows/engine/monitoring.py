"""Calls back at every instruction of chosen code objects, on Python 3.12 and later.

Guarantees:

- Code that is not watched pays nothing; watched code pays in all threads, so it is
  watched only while something is asked of a run that it works for.
- The callback runs on the thread whose code it is, in that code's context. What
  it raises is raised in the code, at that instruction.
- `watch` and `unwatch` may be called from any thread. A code object is watched
  until it was unwatched as often as watched.
"""

import sys
from _thread import allocate_lock
from collections import Counter
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

_monitoring: Any = getattr(sys, "monitoring", None)
_lock = allocate_lock()
_watched: Counter[int] = Counter()  # by identity; who watches code keeps it alive
_tool: int | None = None
_callback: Callable[[FrameType], None] = lambda frame: None  # noqa: E731

_FREE = (4, 3)  # the numbers that Python leaves to tools without a name there


def call_back(callback: Callable[[FrameType], None]) -> None:
    """Say what is called, with the frame, before each instruction of watched code."""
    global _callback
    _callback = callback


def available() -> bool:
    """Whether code can be watched: on this Python, and with a tool number left for it."""
    with _lock:
        return _claim() is not None


def watch(codes: Iterable[CodeType]) -> None:
    """Call back at the instructions of these, too."""
    with _lock:
        tool = _claim()
        for code in codes:
            _watched[id(code)] += 1
            if _watched[id(code)] == 1:
                _monitoring.set_local_events(tool, code, _monitoring.events.INSTRUCTION)


def unwatch(codes: Iterable[CodeType]) -> None:
    """Undo one `watch` of these."""
    with _lock:
        for code in codes:
            _watched[id(code)] -= 1
            if not _watched[id(code)]:
                del _watched[id(code)]
                _monitoring.set_local_events(_tool, code, 0)


def watched() -> int:
    """Return how many code objects are watched now."""
    with _lock:
        return len(_watched)


def _claim() -> int | None:
    global _tool
    if _tool is None and _monitoring is not None:
        _tool = next((each for each in _FREE if _monitoring.get_tool(each) is None), None)
        if _tool is not None:
            _monitoring.use_tool_id(_tool, "jupyter_flows")
            _monitoring.register_callback(_tool, _monitoring.events.INSTRUCTION, _at_instruction)
    return _tool


def _at_instruction(code: CodeType, offset: int) -> None:
    _callback(sys._getframe(1))

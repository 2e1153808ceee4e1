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
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

_monitoring: Any = getattr(sys, "monitoring", None)
_lock = allocate_lock()
_watched: dict[int, tuple[CodeType, int]] = {}  # by identity: code, and how often
_tool: int | None = None
_callback: Callable[[FrameType], None] = lambda frame: None  # noqa: E731

_NAME = "jupyter_flows"
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
            _, times = _watched.get(id(code), (code, 0))
            _watched[id(code)] = (code, times + 1)
            if tool is not None and not times:
                _set_events(tool, code)


def unwatch(codes: Iterable[CodeType]) -> None:
    """Undo one `watch` of these."""
    with _lock:
        tool = _claim()
        for code in codes:
            _, times = _watched.pop(id(code))
            if times > 1:
                _watched[id(code)] = (code, times - 1)
            elif tool is not None:
                _monitoring.set_local_events(tool, code, 0)


def watched() -> int:
    """Return how many code objects are watched now."""
    with _lock:
        return len(_watched)


def _claim() -> int | None:
    """Return our tool number; a new one, if another tool has taken it from us."""
    global _tool
    if _monitoring is None or (_tool is not None and _monitoring.get_tool(_tool) == _NAME):
        return _tool
    _tool = next((each for each in _FREE if _monitoring.get_tool(each) is None), None)
    if _tool is not None:
        _monitoring.use_tool_id(_tool, _NAME)
        _monitoring.register_callback(_tool, _monitoring.events.INSTRUCTION, _at_instruction)
        for code, _ in _watched.values():
            _set_events(_tool, code)
    return _tool


def _set_events(tool: int, code: CodeType) -> None:
    _monitoring.set_local_events(tool, code, _monitoring.events.INSTRUCTION)


def _at_instruction(code: CodeType, offset: int) -> None:
    _callback(sys._getframe(1))

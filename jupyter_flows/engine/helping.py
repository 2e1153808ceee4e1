"""Threads beside the engine's own that run code of a run: those that it starts, and pools'.

Guarantees:

- What a thread runs for a life is entered here while it runs, so a pool's thread is
  its life's only for the length of a job, and nothing below the job is the user's.
- `helping` writes the entry of its own thread only; any thread may read.
"""

from __future__ import annotations

import threading
from _thread import get_ident
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jupyter_flows.engine.ports import is_engine_module
from jupyter_flows.engine.safe_lines import is_own
from jupyter_flows.engine.stacks import bottom, stack_of

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life

_lives: dict[int, Life] = {}  # by thread


@bottom
def helping(life: Life, job: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `job` as code of a life."""
    ident = get_ident()
    before = _lives.get(ident)
    _lives[ident] = life
    try:
        return job(*args, **kwargs)
    finally:
        if before is None:
            del _lives[ident]
        else:
            _lives[ident] = before


def helpers_of(life: Life) -> list[int]:
    """Return the threads that run code of a life now, the user's own."""
    lives = list(_lives.items())
    return [ident for ident, each in lives if each is life and _is_in_own_code(ident)]


def all_helpers() -> dict[threading.Thread, Life]:
    """Return all such threads, and whose code each runs."""
    lives = {ident: life for ident, life in list(_lives.items()) if _is_in_own_code(ident)}
    return {each: lives[each.ident] for each in threading.enumerate() if each.ident in lives}


def _is_in_own_code(ident: int) -> bool:
    """Whether a thread is in code of the user's files, and is not only kept by a package."""
    return any(
        is_own(frame.f_code, packages=False)
        and not is_engine_module(frame.f_globals.get("__name__"))
        for frame in stack_of(ident)
    )

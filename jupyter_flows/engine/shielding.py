"""Code that must not be stopped or held half-way: `shield`.

Guarantees:

- Within a shield nothing is raised and nothing parks: a cancel, a pause, a timeout
  and the kill of a thread wait for its end. What cannot wait is the kill of a
  process.
- Shields nest; what is called, started or awaited within one is within it too.
- `shield` is entered and left by the code itself; `in_shield`, `is_shielded_task`
  and `is_shielded_thread` may be asked by any thread.
"""

from __future__ import annotations

import asyncio
from _thread import get_ident
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

_within: ContextVar[shield | None] = ContextVar("jupyter_flows.shield", default=None)
_threads: Counter[int] = Counter()  # each changed by its own thread only
_tasks: Counter[asyncio.Task[Any]] = Counter()

look_again: Callable[[asyncio.AbstractEventLoop], None] = lambda loop: None  # noqa: E731
"""Lets a loop heed what was asked while a task of it was shielded; filled by `loops`."""


class shield:  # noqa: N801
    """Keep a cancel, a pause or a timeout from a piece of code until it has ended.

    For what must not be left half done, such as two files that belong together::

        with shield():
            write(model)
            write(index)

    ``with`` serves in sync and in async code, ``async with`` in async code. Shields
    nest. A kill waits for a thread's shield too; only a process run's is cut short,
    when its grace is over.
    """

    __slots__ = ("_on", "_outer", "_task", "_token")

    def __enter__(self) -> shield:
        self._on = True
        self._outer = _within.get()
        self._token = _within.set(self)
        try:
            self._task = asyncio.current_task()
        except RuntimeError:
            self._task = None
        if self._task is None:
            _threads[get_ident()] += 1
        else:
            _tasks[self._task] += 1
        return self

    def __exit__(self, *_: object) -> None:
        _within.reset(self._token)
        self._on = False
        if self._task is None:
            _count_down(_threads, get_ident())
        elif _count_down(_tasks, self._task):
            look_again(self._task.get_loop())

    async def __aenter__(self) -> shield:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    @property
    def is_on(self) -> bool:
        """Whether it, or one around it, has not ended."""
        return self._on or (self._outer is not None and self._outer.is_on)


def _count_down(counter: Counter[Any], key: Any) -> bool:
    counter[key] -= 1
    if counter[key] > 0:
        return False
    del counter[key]
    return True


def in_shield() -> bool:
    """Whether the code that asks is within a shield."""
    around = _within.get()
    return around is not None and around.is_on


def shield_around() -> shield | None:
    """Return the shield that the code that asks was started in or is within."""
    return _within.get()


def is_shielded_thread(ident: int) -> bool:
    """Whether a thread is within a shield of sync code."""
    return ident in _threads


def is_shielded_task(task: Any) -> bool:
    """Whether an asyncio task is within a shield."""
    return task in _tasks


def any_shielded_task(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a task of a loop is within a shield."""
    return any(task.get_loop() is loop for task in list(_tasks))

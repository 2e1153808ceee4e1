"""`timeout` and `timeout_async`: blocks that may not take longer than so long."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from jupyter_flows.engine.current import current, loop_of
from jupyter_flows.engine.numbers import is_number
from jupyter_flows.engine.runner import end
from jupyter_flows.engine.sections import Section
from jupyter_flows.engine.timeouts import start_timeout
from jupyter_flows.errors import NotInARun, RunCancellation, WouldDeadlock
from jupyter_flows.states import Completed


class timeout:  # noqa: N801
    """Stop a block of sync code that takes too long, with `TimeoutError`.

    ::

        with timeout(seconds=5):
            answer = ask(server)

    The block is stopped as a run is that times out: at its next checkpoint, or, after
    the flow's `cancel_grace_seconds`, at a safe line; its cleanups run. The clock
    stands still while the run is paused. Timeouts nest, and tasks that the block
    calls are stopped with it.

    Args:
        seconds: how long it may take; None is for ever.
        timeout_exc_type: what is raised, as in Prefect.

    Raises:
        TimeoutError: it took too long.
        NotInARun: it is not in a run's code.
        WouldDeadlock: it is on an event loop: use `timeout_async`.
    """

    def __init__(
        self,
        seconds: float | None = None,
        timeout_exc_type: type[TimeoutError] = TimeoutError,
    ) -> None:
        self._seconds = _checked(seconds)
        self._raises = timeout_exc_type

    def __enter__(self) -> timeout:
        owner = current.get()
        if owner is None:
            raise NotInARun("timeout() can be used only inside a running flow or task.")
        if loop_of(owner) is not None:
            raise WouldDeadlock(
                "timeout() cannot stop code of an event loop: use `async with timeout_async()`."
            )
        self._section = section = Section(owner, sys._getframe(1))
        if section.begin():
            start_timeout(section, self._seconds)
        self._token = current.set(section)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        section = self._section
        current.reset(self._token)
        if section.timeout is not None:
            section.timeout.end()
        stopped = isinstance(error, RunCancellation) and section.cancel_reason == "timeout"
        end(section, Completed())
        section.frame = None
        if stopped:
            raise self._raises(f"This took longer than {self._seconds} s.") from None


def timeout_async(
    seconds: float | None = None, timeout_exc_type: type[TimeoutError] = TimeoutError
) -> _AsyncTimeout:
    """Stop a block of async code that takes too long, with `TimeoutError`.

    ::

        async with timeout_async(seconds=5):
            answer = await ask(server)

    It is stopped at its next await. In a run with an event loop of its own the clock
    stands still while the run is paused. ``with`` does the same, as in Prefect.

    Args:
        seconds: how long it may take; None is for ever.
        timeout_exc_type: what is raised, as in Prefect.

    Raises:
        TimeoutError: it took too long.
    """
    return _AsyncTimeout(_checked(seconds), timeout_exc_type)


class _AsyncTimeout:
    def __init__(self, seconds: float | None, raises: type[TimeoutError]) -> None:
        self._seconds = seconds
        self._raises = raises

    def __enter__(self) -> _AsyncTimeout:
        self._timeout = asyncio.timeout(self._seconds)
        _at_once(self._timeout.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            _at_once(self._timeout.__aexit__(kind, error, trace))
        except TimeoutError:
            if not self._timeout.expired():
                raise
            raise self._raises(f"This took longer than {self._seconds} s.") from None

    async def __aenter__(self) -> _AsyncTimeout:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine that awaits nothing: asyncio's timeout is entered and left by such."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("asyncio's timeout is no longer entered and left without an await.")


def _checked(seconds: float | None) -> float | None:
    if seconds is not None and (not is_number(seconds) or seconds < 0):
        raise ValueError(f"seconds must be a number, 0 or more, or None, not {seconds!r}.")
    return seconds

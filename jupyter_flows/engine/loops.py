"""Event loops that hold still, and coroutines that do.

Theory. An async run on a loop of its own is paused by parking that loop: every
task of it stops between two awaits, and the loop's clock, shifted by as long,
freezes its timeouts. On a loop that is not the run's own (the kernel's, or the
caller's) nothing may block, so there the coroutine itself is driven: `driven`
forwards what it awaits, and between two awaits holds it back.

Guarantees:

- `RunLoop.park_while_held` runs on the loop's own thread only.
- A `Root` may be interrupted from any thread. It cancels the root task exactly
  once: `CancelledError` comes at the next await, and a cleanup may await again.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator
from time import monotonic
from typing import TYPE_CHECKING, Any

from jupyter_flows.engine import checkpoints

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life
    from jupyter_flows.engine.runs import FlowRun


class RunLoop(asyncio.SelectorEventLoop):
    """An event loop that belongs to one run, can be parked, and whose clock then stands still."""

    parks = True  # blocking this loop is how its run is paused

    def __init__(self) -> None:
        super().__init__()
        self._shift = 0.0

    def time(self) -> float:
        """Return the loop's time, which leaves out how long it was parked."""
        return monotonic() - self._shift

    def park(self, life: Life) -> None:
        """Block the loop for as long as the run of `life` is held."""
        begun = monotonic()
        checkpoints.park(life)
        self._shift += monotonic() - begun


class Root:
    """The asyncio task that runs the body of a life, and how an ask reaches it.

    Within ``with root:`` the body runs, and a cancel is delivered; outside it the
    task is the engine's own.
    """

    __slots__ = ("_in_body", "_life", "_loop", "_task")

    def __init__(self, life: Life) -> None:
        """Take the task that is running now for the one that runs the body of `life`."""
        task = asyncio.current_task()
        assert task is not None, "a root is made inside of its task"
        self._in_body = False
        self._life = life
        self._task = task
        self._loop = asyncio.get_running_loop()
        life.root = task

    def __enter__(self) -> None:
        self._in_body = True

    def __exit__(self, *_: object) -> None:
        self._in_body = False

    async def sleep(self, seconds: float) -> None:
        """Wait for the next attempt; a cancel ends the wait, and is then seen to."""
        with self:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                pass

    def interrupt(self) -> None:
        """Let the loop look at what is asked. Any thread."""
        try:
            self._loop.call_soon_threadsafe(self._look)
        except RuntimeError:  # the loop is closed: the body has ended
            pass

    def _look(self) -> None:
        life = self._life
        if not self._in_body:
            return
        if isinstance(self._loop, RunLoop) and life.flow_run.book.hold:
            self._loop.park(life)
        if life.cancel_reason is not None and not life.delivered:
            life.delivered = True
            caller = life.caller
            while caller is not None and caller.root is self._task:
                if caller.cancel_reason is not None:
                    caller.delivered = True  # one cancel passes through them all
                caller = caller.caller
            self._task.cancel(life.cancel_reason)

    def settle(self) -> None:
        """Take back the cancel that was delivered, unless it is for a caller in the same task."""
        caller = self._life.caller
        passes_on = caller is not None and caller.root is self._task and caller.delivered
        if self._life.delivered and not passes_on and self._task.cancelling():
            self._task.uncancel()


@types.coroutine
def driven(awaitable: Awaitable[Any], run: FlowRun) -> Generator[Any, Any, Any]:
    """Run a coroutine so that it can be held between two awaits.

    It counts as a worker of `run` only while it executes: whenever it awaits, it
    is parked as far as the run is concerned, since it will not be let go on.
    """
    loop = asyncio.get_running_loop()
    coroutine: Any = awaitable if asyncio.iscoroutine(awaitable) else awaitable.__await__()
    book = run.book
    value: Any = None
    error: BaseException | None = None
    while True:
        book.executing += 1
        # counted first, then looked at: whoever asks for a hold looks the other way round
        while book.hold and run.cancel_reason is None:
            book.executing -= 1
            run.settle_pause()
            try:
                yield from _held(run, loop)
            except BaseException as thrown:
                error, value = thrown, None
            book.executing += 1
        try:
            awaited = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            return stop.value
        finally:
            book.executing -= 1
            if book.hold:
                run.settle_pause()
        value = error = None
        try:
            value = yield awaited
        except BaseException as thrown:
            error = thrown


def hold_between_awaits(
    body: Callable[[], Awaitable[Any]], run: FlowRun
) -> Callable[[], Awaitable[Any]]:
    """Make sure that a body on the running loop holds still when its run is paused."""
    if isinstance(asyncio.get_running_loop(), RunLoop):
        return body  # the loop does
    if run.root is asyncio.current_task():
        return body  # the run's own body is held, and this within it

    async def held_body() -> Any:
        return await driven(body(), run)

    return held_body


def _held(run: FlowRun, loop: asyncio.AbstractEventLoop) -> Generator[Any, Any, None]:
    """Await the moment when the run may have been let go on."""
    goes_on = loop.create_future()

    def settle() -> None:
        if not goes_on.done():
            goes_on.set_result(None)

    gate = _Gate(loop, settle)
    run.book.waiters.add(gate)
    try:
        if run.book.hold:
            yield from goes_on.__await__()
    finally:
        run.book.waiters.discard(gate)


class _Gate:
    """What wakes a held coroutine, as a `Waiter` wakes a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settle: Any) -> None:
        self._loop = loop
        self._settle = settle

    def wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._settle)
        except RuntimeError:  # the loop is closed
            pass

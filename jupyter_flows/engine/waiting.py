"""How the engine's threads and coroutines wait.

Guarantees:

- A `Waiter` is for one thread that waits, a `LoopWaiter` for one coroutine; any thread
  may wake it, any number of times, before or after the wait begins: no wake is lost.
- `wake` never blocks and takes no lock that user code could hold, so it may be
  called from a signal handler, a finalizer or under the engine's own lock.
"""

import asyncio
from _thread import allocate_lock


class Waiter:
    """A one-thread event, cheaper than `threading.Event` as it needs no condition."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Let the waiting thread go on, or its next wait return at once."""
        try:
            self._lock.release()
        except RuntimeError:  # already awake
            pass

    def wait(self, seconds: float | None = None) -> bool:
        """Wait to be woken, for `seconds` at most; return whether it was woken."""
        if seconds is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(seconds, 0.0), 1e6))


class LoopWaiter:
    """The same for one coroutine; made on its event loop."""

    __slots__ = ("_loop", "_woken")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Let the waiting coroutine go on, or its next wait return at once."""
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    async def wait(self) -> None:
        """Wait to be woken."""
        await self._woken.wait()
        self._woken.clear()

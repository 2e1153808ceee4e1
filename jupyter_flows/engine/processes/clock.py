"""Time that stands still while a process is suspended.

A suspended process cannot know for how long it was. Its supervisor writes that into
memory that both share, before it lets the process go on; the engine in the process
reads its time through it. So sleeps, timeouts and event loops take no notice.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from time import monotonic

from jupyter_flows.engine import loops, pausing, runs, timers

_SECONDS = struct.Struct("d")


class SharedClock:
    """How long a process was suspended, in memory that outlasts a fork."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SECONDS.size)

    def lose(self, seconds: float) -> None:
        """Take note that the process was suspended for `seconds` more. By the supervisor."""
        (before,) = _SECONDS.unpack_from(self._memory)
        _SECONDS.pack_into(self._memory, 0, before + seconds)

    def read(self) -> Callable[[], float]:
        """Return what tells the time of the process, in its own code."""
        memory, unpack = self._memory, _SECONDS.unpack_from

        def own_time() -> float:
            lost: float = unpack(memory)[0]
            return monotonic() - lost

        return own_time

    def close(self) -> None:
        """Let the memory go."""
        self._memory.close()


def tell_engine(own_time: Callable[[], float]) -> None:
    """Let the engine of this process go by `own_time`; before any run of it begins."""
    for module in (loops, pausing, runs, timers):
        vars(module)["monotonic"] = own_time

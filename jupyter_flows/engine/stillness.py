"""Whether threads move: one that stays at an instruction is in a call of code in C.

Rules:

- A thread that runs Python gives its place away at a call or at a jump back, so a look
  meets it at the same instruction again and again: it takes several looks to tell.
- A look at a thread that had no processor since the last one says nothing: on a loaded
  machine it waits to be scheduled. So a look counts when the thread's processor clock
  went on, where the platform has such a clock for other threads (Linux). A thread whose
  clock stands still for long sleeps in C.
- Any thread may ask; it waits for the looks, a tenth of a second at most.
"""

from __future__ import annotations

import sys
import threading
import time
from types import FrameType

from jupyter_flows.engine.checkpoints import real_sleep

_BETWEEN = 0.001  # seconds between two looks
_COUNTED = 40  # looks that find a thread where it was: a short loop is met at its call 3 times in 4
_ALL = 100  # looks at a thread that has no processor: longer than a busy machine lets one wait
_LEAST = 10_000  # nanoseconds of its processor time in which a thread of Python moves on


def unmoved(tops: dict[int, FrameType]) -> set[int]:
    """Return which of the threads, by number and topmost frame, stay where they are."""
    places = {ident: (frame, frame.f_lasti) for ident, frame in tops.items()}
    native = {thread.ident: thread.native_id for thread in threading.enumerate()}
    clocks = {ident: _processor_time(native.get(ident)) for ident in places}
    counted = dict.fromkeys(places, 0)
    still: set[int] = set()
    for _ in range(_ALL):
        if not places:
            return still
        real_sleep(_BETWEEN)
        now = sys._current_frames()
        for ident, (frame, offset) in list(places.items()):
            if now.get(ident) is not frame or frame.f_lasti != offset:
                del places[ident]
                continue
            before, clocks[ident] = clocks[ident], _processor_time(native.get(ident))
            clock = clocks[ident]
            counted[ident] += before is None or clock is None or clock - before >= _LEAST
            if counted[ident] == _COUNTED:
                still.add(ident)
                del places[ident]
    return still | set(places)


def _processor_time(native: int | None) -> int | None:
    """Return the nanoseconds that a thread has computed, None where nothing tells."""
    if native is None or sys.platform != "linux":
        return None
    try:
        # as pthread_getcpuclockid makes it, which must not be asked about a thread that has ended
        return time.clock_gettime_ns(~native << 3 | 6)
    except OSError:
        return None

"""The clock of what may not take longer than so long.

Guarantees:

- A timeout counts its run's own clock, which stands still while the run is paused.
- It cancels one attempt, and never a later one: `end` and the alarm agree under the
  timeout's lock.
- `refresh` and `end` may be called from any thread.
"""

from __future__ import annotations

from _thread import allocate_lock
from typing import TYPE_CHECKING

from jupyter_flows.engine.timers import Alarm, ring

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life

_LEAST_WAIT = 0.05  # seconds between two looks at a clock that may stand still


class Timeout:
    """Cancels an attempt that takes too long."""

    __slots__ = ("_alarm", "_deadline", "_life", "_lock", "_over", "seconds")

    def __init__(self, life: Life, seconds: float) -> None:
        self.seconds = seconds
        self._life = life
        self._lock = allocate_lock()
        self._over = False
        self._deadline = life.flow_run.clock() + seconds
        self._alarm: Alarm = ring(seconds, self._look)

    def _look(self) -> None:
        with self._lock:
            left = self._deadline - self._life.flow_run.clock()
            if self._over:
                return
            if left <= 0:
                self._life.ask_cancel("timeout")
            else:  # the run was paused meanwhile, or given more time
                self._alarm = ring(max(left, _LEAST_WAIT), self._look)

    def refresh(self, seconds: float | None) -> None:
        """Give more time: `seconds` more than is left, or, if None, all of it anew."""
        with self._lock:
            if seconds is None:
                self._deadline = self._life.flow_run.clock() + self.seconds
            else:
                self._deadline += seconds

    def end(self) -> None:
        """The attempt is over."""
        with self._lock:
            self._over = True
        self._alarm.cancel()


def start_timeout(life: Life, seconds: float | None) -> Timeout | None:
    """Start the clock of an attempt of `life`, if it may not take for ever."""
    life.timeout = None if seconds is None else Timeout(life, seconds)
    return life.timeout

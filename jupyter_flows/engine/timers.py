"""The one thread that rings: timeouts of any number of runs.

Guarantees:

- `ring` and `Alarm.cancel` may be called from any thread and never block for
  longer than a heap operation.
- Callbacks run on the timer's thread, one after another, outside its lock; they
  must not block. What one raises is logged.
- The thread starts with the first alarm, if not before, and is a daemon: alarms do not keep a
  process alive.
"""

import heapq
import logging
import threading
from collections.abc import Callable
from contextvars import Context
from itertools import count
from time import monotonic

from jupyter_flows.engine.threads import EngineThread

_logger = logging.getLogger("jupyter_flows.timers")


class Alarm:
    """A callback that is to be called at a time, unless cancelled before."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Do not ring. Harmless when it has rung."""
        self.callback = None


class _Timer:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = count()
        self._thread: threading.Thread | None = None

    def add(self, alarm: Alarm) -> None:
        with self._changed:
            heapq.heappush(self._heap, (alarm.when, next(self._order), alarm))
            self._start()
            if self._heap[0][2] is alarm:
                self._changed.notify()

    def start(self) -> None:
        with self._changed:
            self._start()

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = EngineThread("jupyter_flows timer", self._run, context=Context())
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap:
                    self._changed.wait()
                left = self._heap[0][0] - monotonic()
                if left > 0:
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                    continue
                alarm = heapq.heappop(self._heap)[2]
            callback = alarm.callback
            if callback is not None:
                try:
                    callback()
                except Exception:  # others wait for this thread too
                    _logger.exception("An alarm of jupyter_flows failed.")


_timer = _Timer()


def start() -> None:
    """Start the thread now, where it may be too late when the first alarm is set."""
    _timer.start()


def ring(seconds: float, callback: Callable[[], None]) -> Alarm:
    """Call `callback` on the timer's thread in `seconds`."""
    alarm = Alarm(monotonic() + seconds, callback)
    _timer.add(alarm)
    return alarm

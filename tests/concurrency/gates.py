"""What tests of limits share: code that stays until it is let go."""

import asyncio
import contextlib
import threading
import time

WAITS = "AwaitingConcurrencySlot"


def names(life):
    """Return the names of all states that a run has been in."""
    return [transition.name for transition in life.transitions()]


class Gate:
    """Code that runs until it is let go, and says who is in it."""

    def __init__(self):
        self.go = threading.Event()
        self.inside = []
        self.most = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def passing(self, who):
        with self._lock:
            self.inside.append(who)
            self.most = max(self.most, len(self.inside))
        try:
            yield
        finally:
            with self._lock:
                self.inside.remove(who)

    def stay(self, who):
        with self.passing(who):
            while not self.go.is_set():
                time.sleep(0.002)
        return who

    async def stay_async(self, who):
        with self.passing(who):
            while not self.go.is_set():
                await asyncio.sleep(0.002)
        return who

"""Progress bars of a run.

Guarantees:

- A bar is written by the thread that iterates and read by any other; each of its
  fields is written whole, so a reader may see a step late, never half of one.
- A bar costs the loop nothing where something else knows how far it is, such as the
  iterator itself: readers ask that (`watch`).
- A loop that begins anew takes its own place: one label in one parent, of one task, is
  one bar, so their number is bounded by the code. Beyond `MOST` the oldest that has
  ended makes room.
"""

from __future__ import annotations

import operator
from _thread import allocate_lock
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from math import isfinite
from time import time
from typing import Any

from jupyter_flows.records import ProgressRecord

MOST = 100  # bars of a run; a view shows a few
_SMOOTHING = 0.3  # weight of the newest measure of the rate, as in tqdm
_COUNTABLE = 2**53  # up to where JSON's readers count every whole number
_RATE_SECONDS = 0.25  # how often the rate is measured

_adding = allocate_lock()  # held for one addition

current_bar: ContextVar[Bar | None] = ContextVar("jupyter_flows.bar", default=None)


class Bar:
    """One progress bar."""

    __slots__ = (
        "_mark_done",
        "_mark_time",
        "_source",
        "done",
        "ended",
        "label",
        "number",
        "parent",
        "rate",
        "started",
        "total",
    )

    def __init__(self, number: int, parent: Bar | None, label: str, total: float | None) -> None:
        self.number = number
        self.parent = parent
        self.restart(label, total)

    def restart(self, label: str, total: float | None) -> None:
        """Begin anew, as when an inner loop runs again."""
        self.label = label
        self.total = total
        self.done: float = 0
        self.started = time()
        self.ended: float | None = None
        self.rate: float | None = None
        self._mark_time = self.started
        self._mark_done: float = 0
        self._source: Callable[[Bar], None] | None = None

    def watch(self, source: Callable[[Bar], None]) -> None:
        """Let readers ask: `source` brings the bar up to date, on any thread."""
        self._source = source

    def watch_iterator(self, iterator: Iterator[Any]) -> None:
        """Let readers ask the iterator how much of it is left."""

        def ask(bar: Bar) -> None:
            left = operator.length_hint(iterator, 0)
            bar.done = (bar.total or 0) - left
            if not left:
                bar._source = None
                bar.ended = time()

        self.watch(ask)

    def add(self, steps: float) -> None:
        """Take so many steps. Any thread."""
        with _adding:
            self.done += steps

    def begin_at(self, done: float) -> None:
        """Take what was done before for granted: it says nothing of the rate."""
        self.done = self._mark_done = done

    def end(self) -> None:
        """The loop is over."""
        self.look()
        self._source = None
        self.ended = time()

    def look(self) -> None:
        """Bring `done` and `rate` up to date."""
        if self._source is not None:
            self._source(self)
        now = time()
        elapsed = now - self._mark_time
        steps = self.done - self._mark_done
        if elapsed >= _RATE_SECONDS and steps and self.ended is None:
            rate = steps / elapsed
            self.rate = rate if self.rate is None else self.rate + _SMOOTHING * (rate - self.rate)
            self._mark_time, self._mark_done = now, self.done

    def _rate_now(self) -> float | None:
        """The rate, or less if the step that is under way takes longer than that says."""
        if self.rate is None or self.ended is not None or self.done != self._mark_done:
            return self.rate
        return min(self.rate, 1 / max(time() - self._mark_time, 1e-9))

    def record(self) -> ProgressRecord:
        """Return the bar as it is now."""
        self.look()
        return ProgressRecord(
            number=self.number,
            parent=self.parent.number if self.parent else None,
            label=self.label,
            done=_plain(self.done) or 0,
            total=_plain(self.total),
            started=self.started,
            ended=self.ended,
            rate=_plain(self._rate_now()),
        )


def _plain(number: Any) -> float | None:
    """Return a number as JSON has it, such as one of numpy's; None for what is none, or no end."""
    if type(number) is int and abs(number) < _COUNTABLE:
        return number
    try:
        plain = float(number)
    except (TypeError, ValueError, OverflowError):
        return None
    return plain if isfinite(plain) else None


class Bars:
    """The progress bars of one run."""

    def __init__(self) -> None:
        self._bars: dict[tuple[int | None, str, str], Bar] = {}
        self._count = 0
        self._lock = allocate_lock()

    def begin(self, label: str, total: float | None, *, of: str = "") -> Bar | None:
        """Begin a bar within the one around it; None when the run has too many.

        `of` names the task whose bar it is, as the tasks of a run may have equal ones.
        """
        parent = current_bar.get()
        key = (parent.number if parent else None, of, label)
        with self._lock:
            bar = self._bars.get(key)
            if bar is None:
                if len(self._bars) >= MOST and not self._make_room():
                    return None
                shown = f"{of} › {label}" if of else label
                bar = self._bars[key] = Bar(self._count, parent, shown, total)
                self._count += 1
            elif bar.ended is None:  # the same loop in another thread
                return None
            else:
                bar.restart(bar.label, total)
        return bar

    def counter(self, label: str) -> Bar | None:
        """Return a bar of the run itself, which begins when it is first asked for."""
        bar = self._bars.get((None, "", label))
        return bar if bar is not None and bar.ended is None else self.begin(label, None)

    def _make_room(self) -> bool:
        """Let go of the oldest bar that has ended and has no other in it, under the lock."""
        parents = {bar.parent for bar in self._bars.values()}
        for key, bar in self._bars.items():
            if bar.ended is not None and bar not in parents:
                del self._bars[key]
                return True
        return False

    def records(self) -> tuple[ProgressRecord, ...]:
        """Return all bars as they are now."""
        return tuple(bar.record() for bar in list(self._bars.values()))

    def close(self) -> None:
        """The run is over, and so are its loops."""
        for bar in list(self._bars.values()):
            if bar.ended is None:
                bar.end()

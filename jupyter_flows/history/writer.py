"""The batching writer: what a kernel's runs do, in SQLite a moment later.

Theory. One daemon thread owns the store's connection. Feeding it is an append to
a queue, so that a print costs next to nothing; the thread wakes up, waits
`PACE_SECONDS` for more to come, writes all that is there in as few statements as
possible, and sleeps when there is nothing left. Runs and tasks are fed as live
objects: however often one changed, its record is made once a round, here.

Whoever prints fast keeps to this protocol, which costs one comparison a line::

    writer.line((run_id, (number, time, level, source, message)))   # first
    if time > writer.due:                                           # then
        writer.keep_up(time)

`due` is the time by which the oldest line that is not kept yet has to be; it is
minus infinity when all are. So the first line after a rest calls `keep_up`, which
wakes the thread and returns, and a line that is printed while the writer lags
behind calls `keep_up`, which waits until it has caught up, in the way that its caller
says. The order matters: the thread sets `due` first and looks for lines after it, so
that one of both sees the other.

Guarantees:

- Any thread may call any method at any time. Only `keep_up`, `flush` and `close`
  ever wait; none of the three may be called while holding a lock that a
  ``record()`` needs.
- What was fed `LAG_SECONDS` ago is in SQLite, and survives the end of the process
  however it comes, as long as whoever prints keeps to the protocol.
- A run's lines and moves are kept in the order they were fed in, and a run's record
  is never kept before the lines that it counts.
- No trouble with the store reaches a run. `on_trouble` is called once, from the
  writer's thread, with one line for people; from then on whatever is fed is thrown
  away. A print waits for a locked store for at most `PATIENCE_SECONDS`.
- In a forked child a writer throws away what it is fed: the store is its parent's.

A `record()` that raises is a fault like any other: it stops the writer, and
`on_trouble` says so.
"""

import math
import os
import threading
import time as clock
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from jupyter_flows.errors import StoreUnavailable
from jupyter_flows.history.store import Item, Store
from jupyter_flows.records import KernelRecord, RunRecord, TaskRecord, Transition
from jupyter_flows.states import TERMINAL

LAG_SECONDS = 0.25  # the promise
DUE_SECONDS = 0.1  # when prints begin to wait: what is left of the promise is for the writing
PACE_SECONDS = 0.05  # how long a round waits for more to come
ROUND_LINES = 16_384  # lines a transaction: others get at the store in between
BEAT_SECONDS = 5.0  # how often a kernel with active runs says that it lives
BUSY_SECONDS = 5.0  # how long another program may hold the store locked
PATIENCE_SECONDS = 2.0  # how long a print waits for it at most
CLEAN_SECONDS = 600.0  # how often to look for what is to be forgotten
CLEAN_LINES = 200_000  # or after so many lines

T = TypeVar("T")

Wait = Callable[[Callable[[], bool], Callable[[Callable[[], None]], None], float], bool]
"""Waits until the first says so, for so many seconds at most; returns whether it did not run
out of time. The second takes the function to call when the first is to be asked again."""


def wait_plainly(
    done: Callable[[], bool], subscribe: Callable[[Callable[[], None]], None], seconds: float
) -> bool:
    """Block this thread until it is done."""
    woken = threading.Event()
    subscribe(woken.set)
    return done() or woken.wait(seconds)


class Run(Protocol):
    """What the writer needs to know of a run."""

    @property
    def id(self) -> str: ...

    def record(self) -> RunRecord: ...


class Task(Protocol):
    """What the writer needs to know of a task run."""

    def record(self) -> TaskRecord: ...


class Writer:
    """Keeps what the runs of one kernel do.

    Nothing is opened before there is something to keep.

    Args:
        path: the store's file.
        kernel: who runs the runs.
        on_trouble: called once if the store cannot be used, with one line for people.
        keep_seconds: how long an ended run is kept.
        keep_bytes: how large the store may grow before the oldest runs go.

    Attributes:
        line: takes one line, ``(run_id, (number, time, level, source, message))``.
        due: the time by which the oldest line that is not kept yet has to be.
    """

    def __init__(
        self,
        path: Path | str,
        kernel: KernelRecord,
        on_trouble: Callable[[str], None],
        *,
        keep_seconds: float = 30 * 86_400,
        keep_bytes: int = 2_000_000_000,
    ) -> None:
        self.path = Path(path)
        self._kernel = kernel
        self._on_trouble = on_trouble
        self._keep = (keep_seconds, keep_bytes)

        # Queues, not dicts that are swapped: appending and popping are atomic.
        self._lines: deque[Item] = deque()
        self._runs: deque[Run] = deque()
        self._tasks: deque[tuple[str, Task]] = deque()
        self._moves: deque[tuple[str, Transition]] = deque()
        self._feeds = (self._lines, self._runs, self._tasks, self._moves)
        self.line: Callable[[Item], None] = self._lines.append
        self.due = -math.inf

        self._wake = threading.Event()  # there is something to do
        self._hurry = threading.Event()  # and somebody waits for it
        self._idle = False  # the thread is about to sleep: wake it
        self._progress = threading.Condition()  # guards what follows, and `due` where it is set
        self._waiting: list[tuple[float, Callable[[], None]]] = []  # who prints, since when
        self._asked = 0  # flushes so far
        self._done = 0  # of them, served
        self._begun = False  # there has been something to keep
        self._closing = False
        self._lost = False  # whatever is fed is thrown away

        self._move_counts: dict[str, int] = {}
        self._active: set[str] = set()  # ids of runs that have not ended
        self._last_beat = -math.inf
        self._last_clean = -math.inf
        self._lines_since_clean = 0
        self._cleaning = False  # there was more to forget than one step forgets

        _writers.add(self)
        self._thread = threading.Thread(target=self._work, name="flows-writer", daemon=True)
        self._thread.start()

    # -- feeding --------------------------------------------------------------

    def run_changed(self, run: Run) -> None:
        """Keep a run as it is when the next round looks at it."""
        self._feed(self._runs, run)

    def task_changed(self, run_id: str, task: Task) -> None:
        """Keep a task as it is when the next round looks at it."""
        self._feed(self._tasks, (run_id, task))

    def moved(self, run_id: str, move: Transition) -> None:
        """Keep a run's next move."""
        self._feed(self._moves, (run_id, move))

    def keep_up(self, now: float, wait: Wait = wait_plainly) -> None:
        """Wake the writer, or wait for it if it lags behind.

        Args:
            now: the time of a line that was fed before, later than `due`.
            wait: how to wait; may come back before it is time to, but not unwaited for.
        """
        if self._lost:
            self._throw_away()
            self.due = now + DUE_SECONDS
            return
        with self._progress:
            if self.due == -math.inf:
                self.due = now + DUE_SECONDS
                self._wake.set()
            if now <= self.due:
                return
            self._hurry.set()
        if not wait(lambda: self._kept(now), partial(self._subscribe, now), PATIENCE_SECONDS):
            with self._progress:
                self.due = clock.time() + BUSY_SECONDS  # by then it will have given up

    def _subscribe(self, now: float, wake: Callable[[], None]) -> None:
        with self._progress:
            self._waiting.append((now, wake))

    def _kept(self, now: float) -> bool:
        return self._lost or self.due == -math.inf or self.due >= now

    def flush(self, timeout: float) -> bool:
        """Wait until everything fed before is in SQLite; say whether it is."""
        with self._progress:
            if not self._begun and not any(self._feeds):
                return not self._lost  # nothing was ever fed
            self._asked += 1
            mine = self._asked
            self._hurry.set()
            self._wake.set()
            self._progress.wait_for(lambda: self._lost or self._done >= mine, timeout)
            return self._done >= mine

    def close(self, timeout: float) -> bool:
        """Write what is left and end; say whether all of it is in SQLite.

        Whatever is fed afterwards is thrown away.
        """
        kept = self.flush(timeout)
        self._closing = True
        self._hurry.set()
        self._wake.set()
        self._thread.join(timeout)
        return kept

    def _feed(self, queue: deque[T], item: T) -> None:
        if not self._lost:
            queue.append(item)
            if self._idle:
                self._wake.set()

    # -- the thread -----------------------------------------------------------

    def _work(self) -> None:
        try:
            while not any(self._feeds):
                if self._closing:
                    return
                self._await_work(None)
            self._begun = True
            with Store(self.path, wait_seconds=BUSY_SECONDS) as store:
                store.save_kernel(self._kernel)
                while not self._closing:
                    self._round(store)
                    if self._await_work(self._rest()):
                        self._wait_for_more()
        except StoreUnavailable as error:
            self._give_up(str(error))
        except Exception as error:
            self._give_up(
                f"The store of runs {self.path} failed ({type(error).__name__}: {error}). "
                "Please report this."
            )
        finally:
            self._stop()

    def _has_work(self) -> bool:
        return any(self._feeds) or self._asked > self._done

    def _rest(self) -> float | None:
        """Return how long it may rest when nothing is fed, in seconds."""
        if self._cleaning:
            return PACE_SECONDS
        if self._active:
            return max(0.0, self._last_beat + BEAT_SECONDS - clock.monotonic())
        return None

    def _await_work(self, timeout: float | None) -> bool:
        """Rest until there is something to do; return whether there is."""
        self._wake.clear()
        self._idle = True
        due = self._has_work() or self._closing or self._wake.wait(timeout)
        self._idle = False
        return due

    def _wait_for_more(self) -> None:
        if len(self._lines) < ROUND_LINES:
            self._hurry.wait(PACE_SECONDS)
        self._hurry.clear()

    def _round(self, store: Store) -> None:
        """Write everything that was fed up to now."""
        asked = self._asked
        # Records first and lines after them, and written the other way round: so no
        # record that is kept counts a line that is not.
        runs = [run.record() for run in {run.id: run for run in _take(self._runs)}.values()]
        changed = {id(task): (run_id, task) for run_id, task in _take(self._tasks)}
        tasks = [(run_id, task.record()) for run_id, task in changed.values()]
        moves = [(run_id, self._number(run_id), move) for run_id, move in _take(self._moves)]
        left = len(self._lines)
        while left > ROUND_LINES:
            store.save(lines=_take(self._lines, ROUND_LINES))
            self._tell(None)
            left -= ROUND_LINES
            self._clean(store, ROUND_LINES)
        lines = _take(self._lines, left)
        beat = self._beat(store)
        if lines or runs or tasks or moves or beat:
            store.save(lines=lines, runs=runs, tasks=tasks, moves=moves, beat=beat)
        for run in runs:
            if run.state_type in TERMINAL:
                self._active.discard(run.id)
            else:
                self._active.add(run.id)
        self._tell(asked)
        self._clean(store, len(lines))

    def _number(self, run_id: str) -> int:
        number = self._move_counts.get(run_id, 0)
        self._move_counts[run_id] = number + 1
        return number

    def _beat(self, store: Store) -> str | None:
        """Return the kernel's id if it is time to say that it lives."""
        now = clock.monotonic()
        if now - self._last_beat < BEAT_SECONDS:
            return None
        self._last_beat = now
        if not store.is_in_place():
            raise StoreUnavailable(
                f"The store of runs {self.path} was moved or deleted. "
                "Restart the kernel to begin a new one."
            )
        return self._kernel.id

    def _clean(self, store: Store, lines: int) -> None:
        """Forget a little, when it is time to or there was more to forget."""
        self._lines_since_clean += lines
        now = clock.monotonic()
        due = now - self._last_clean > CLEAN_SECONDS or self._lines_since_clean > CLEAN_LINES
        if due or self._cleaning:
            self._cleaning = store.clean(*self._keep)
            self._last_clean, self._lines_since_clean = now, 0

    def _tell(self, served: int | None) -> None:
        """Tell those who wait how far it is."""
        with self._progress:
            self.due = self._lines[0][1][1] + DUE_SECONDS if self._lines else -math.inf
            if served is not None:
                self._done = served
            self._tell_waiting()

    def _give_up(self, text: str) -> None:
        self._stop()
        self._on_trouble(f"{text} Runs go on, and are kept in memory only.")

    def _stop(self) -> None:
        with self._progress:
            self._lost = True
            self.due = -math.inf
            self._tell_waiting()
        self._throw_away()

    def _tell_waiting(self) -> None:
        self._progress.notify_all()
        waiting, self._waiting = self._waiting, []
        for now, wake in waiting:
            if self._kept(now):
                wake()
            else:
                self._waiting.append((now, wake))

    def _throw_away(self) -> None:
        for feed in self._feeds:
            feed.clear()

    def _forget_parent(self) -> None:
        """In a forked child, where the thread is gone and its locks are as they were."""
        self._progress = threading.Condition()
        self._stop()


def _take(queue: deque[T], count: int | None = None) -> list[T]:
    """Take what is in the queue now, or the first `count` of it."""
    return [queue.popleft() for _ in range(len(queue) if count is None else count)]


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _forget_parents() -> None:
    for writer in _writers:
        writer._forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)

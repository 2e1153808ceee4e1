"""The engine's own threads, which belong to one run each and to no pool.

Guarantees of `TaskThreads`:

- A thread runs the tasks of one run only, one after another, and is reused within
  that run; what is asked of a task never reaches another on the same thread.
- A job never waits behind another: when no thread is idle one more is started, up
  to `MOST` at work at once. Where fewer are asked for, a job that another submits is
  not counted, since that one may wait for it.
- `submit` may be called from any thread; jobs must not raise.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

from jupyter_flows.engine.stacks import bottom
from jupyter_flows.engine.waiting import Waiter
from jupyter_flows.errors import RunCancellation

MOST = 1_000  # tasks of one run at work at once: each thread takes some 50 kB


class EngineThread(threading.Thread):
    """A daemon thread that runs `job` in `context`; `capture` leaves it alone."""

    def __init__(self, name: str, job: Callable[..., None], *args: Any, context: Context) -> None:
        super().__init__(name=name, daemon=True)
        self._job = job
        self._job_args = args
        self._context = context

    @bottom
    def run(self) -> None:
        try:
            self._context.run(self._job, *self._job_args)
        except RunCancellation:
            pass  # code that was given up has been hit as it ended


Job = tuple[Context, Callable[[], None]]


class TaskThreads:
    """The threads that run what a run submits."""

    __slots__ = ("_backlog", "_busy", "_closed", "_idle", "_lock", "_most", "_name", "_own")

    def __init__(self, name: str, most: int | None = None) -> None:
        self._name = name
        self._most = most  # jobs at work at once
        self._own: set[int] = set()  # the threads
        self._lock = allocate_lock()
        self._backlog: deque[Job] = deque()
        self._idle: list[_Worker] = []
        self._busy = 0  # threads that run a job
        self._closed = False

    def submit(self, context: Context, job: Callable[[], None]) -> None:
        """Run `job` in `context` on a thread that no other job is using."""
        with self._lock:
            if self._is_full():
                self._backlog.append((context, job))
                return
            self._busy += 1
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = _Worker()
            worker.job = (context, job)
            EngineThread(f"{self._name} task", self._work, worker, context=Context()).start()
        else:
            worker.job = (context, job)
            worker.waiter.wake()

    def _is_full(self) -> bool:
        if self._most is not None and self._busy >= self._most:
            return get_ident() not in self._own
        return not self._idle and self._busy >= MOST

    def close(self) -> None:
        """Let the threads end once they have nothing to do."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.waiter.wake()

    def _work(self, worker: _Worker) -> None:
        self._own.add(get_ident())
        try:
            self._work_off(worker)
        finally:
            self._own.discard(get_ident())

    def _work_off(self, worker: _Worker) -> None:
        while worker.job is not None:
            context, job = worker.job
            worker.job = None
            context.run(job)
            del context, job
            with self._lock:
                crowded = self._most is not None and self._busy > self._most
                if self._backlog and not crowded:
                    worker.job = self._backlog.popleft()
                    continue
                self._busy -= 1
                if self._closed:
                    return
                self._idle.append(worker)
            worker.waiter.wait()


class _Worker:
    """A thread's mailbox."""

    __slots__ = ("job", "waiter")

    def __init__(self) -> None:
        self.job: Job | None = None
        self.waiter = Waiter()

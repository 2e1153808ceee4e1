"""What `Task.submit` gives: a task run on a thread of its run, and its result to come."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import Any, Generic, TypeVar

from jupyter_flows.engine import slots
from jupyter_flows.engine.admission import awaited, has_block_timeout, is_limited
from jupyter_flows.engine.checkpoints import wait_as_worker, wait_until
from jupyter_flows.engine.current import current
from jupyter_flows.engine.life import Life, ended
from jupyter_flows.engine.outcomes import ResultToCome
from jupyter_flows.engine.pausing import wait_in_run
from jupyter_flows.engine.runner import Plan, end, run_on_own_loop, run_sync
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.sections import Section
from jupyter_flows.engine.task_runs import TaskRun
from jupyter_flows.engine.threads import TaskThreads
from jupyter_flows.states import Crashed, State, StateType

R = TypeVar("R")

_logger = logging.getLogger("jupyter_flows.futures")


class Future(ResultToCome, Generic[R]):
    """The result to come of a submitted task."""

    def __init__(self, task_run: TaskRun) -> None:
        self.task_run = self.life = task_run

    @property
    def task_run_id(self) -> str:
        """The task run's id."""
        return self.task_run.id

    @property
    def state(self) -> State:
        """The task run's state as it is now."""
        return self.task_run.state

    def wait(self, timeout: float | None = None) -> None:
        """Wait for its end, for `timeout` seconds at most. A checkpoint.

        Raises:
            WouldDeadlock: it waits for a slot that is free only after this wait.
        """
        _wait_for(self.task_run, timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """Wait for its end and return what the task returned.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.
            raise_on_failure: raise the task's exception, or return it.

        Raises:
            TimeoutError: it has not ended in time; it goes on.
            CancelledRun: it was cancelled.
            WouldDeadlock: it waits for a slot that is free only after this wait.
            Exception: whatever the task raised.
        """
        __tracebackhide__ = True
        if not _wait_for(self.task_run, timeout):
            raise TimeoutError(f"{self!r} has not ended within {timeout} s; it goes on.")
        run = self.task_run
        result: R = run.state.result(raise_on_failure=raise_on_failure)
        if run.state.type is StateType.COMPLETED:
            run.flow_run.note_result(run.number, result)
        return result

    def add_done_callback(self, callback: Callable[[Future[R]], Any]) -> None:
        """Call `callback` with this future once it has ended, on the task's thread.

        What it raises goes to the log.
        """

        def call() -> None:
            try:
                callback(self)
            except Exception:
                _logger.exception("A callback of %r failed.", self)

        self.task_run.on_done(call)

    def cancel(self) -> bool:
        """Ask the task to stop; return whether this call asked."""
        return self.task_run.ask_cancel("user")

    def __reduce__(self) -> Any:
        """Travel to another process as its state: a flow there returns its tasks' states."""
        return _as_it_is, (self.state,)

    def __repr__(self) -> str:
        return f"<Future {self.task_run.name!r}>"


def _wait_for(task_run: TaskRun, timeout: float | None) -> bool:
    """Wait for the end of a task run; return whether it came."""
    __tracebackhide__ = True
    waiter = _waits_for_ever(timeout)
    if waiter is None:
        return wait_as_worker((task_run,), timeout)
    with _awaited((task_run,), waiter):
        return wait_as_worker((task_run,), None)


def _waits_for_ever(timeout: float | None) -> Life | None:
    """Return whose code waits here for ends, come what may, if that can be a deadlock."""
    if timeout is not None or not (is_limited() or slots.are_held()):
        return None
    waiter = current.get()
    return None if waiter is None or has_block_timeout(waiter) else waiter


@contextmanager
def _awaited(task_runs: Sequence[TaskRun], waiter: Life) -> Iterator[None]:
    """Say, for a block, that code of `waiter` waits for the end of each of these; see `awaited`."""
    with awaited(task_runs, waiter):
        slots.refuse_deadlock()
        yield


def _as_it_is(state: State) -> State:
    return state


class FutureList(list[Future[R]]):
    """The results to come of `Task.map`, in the order of its elements."""

    def wait(self, timeout: float | None = None) -> None:
        """Wait for all of them to end, for `timeout` seconds at most."""
        wait(self, timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[R]:
        """Wait for all of them and return their results, in order.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.
            raise_on_failure: raise the first exception as soon as there is one, or return
                each in the place of a result.

        Raises:
            TimeoutError: they have not all ended in time; they go on.
            Exception: whatever the first to fail raised.
        """
        __tracebackhide__ = True
        for future in as_completed(self, timeout):
            if raise_on_failure:
                future.result()
        return [future.result(raise_on_failure=raise_on_failure) for future in self]

    def __reduce__(self) -> Any:
        """Travel to another process as a list of states."""
        return list, (list(self),)


class SubmittedTasks:
    """The tasks that one run has submitted, and the threads they are on."""

    def __init__(self, run: FlowRun) -> None:
        self._run = run
        runner = run.options.task_runner
        self._threads = TaskThreads(
            f"flow {run.name}", None if runner is None else runner.max_workers
        )
        self._task_runs: list[TaskRun | Section] = []  # of this attempt
        run.on_done(self._threads.close)  # for what a thread of it submits after its end

    def submit(self, task_run: TaskRun | Section, plan: Plan, *, is_async: bool) -> None:
        """Run a task, or a part of the run's code, on a thread of its own."""
        work = run_on_own_loop if is_async else run_sync
        self._task_runs.append(task_run)
        task_run.parent.adopt(task_run)
        try:
            self._threads.submit(copy_context(), lambda: self._run_task(work, task_run, plan))
        except BaseException as error:
            if not task_run.attempt:  # else one has, and whoever submitted it was interrupted
                end(task_run, Crashed(f"No thread could be started for it: {error}", data=error))
            raise

    def _run_task(
        self, work: Callable[[Life, Plan], None], task_run: TaskRun | Section, plan: Plan
    ) -> None:
        for run in self._run.chain:
            run.start_worker()
        try:
            work(task_run, plan)
        finally:
            for run in self._run.chain:
                run.end_worker()

    def join(self) -> bool:
        """Wait for all of them, on a thread of the run, and let the threads end.

        Returns:
            Whether a cancel of the run was delivered into one of them.
        """
        try:
            while left := self._left():
                for task_run in left:
                    wait_in_run(self._run, task_run.is_over, task_run.on_done)
        finally:
            self._threads.close()
        return self._joined()

    async def join_async(self) -> bool:
        """Do what `join` does, without blocking the event loop."""
        try:
            while left := self._left():
                for task_run in left:
                    await ended(task_run)
        finally:
            self._threads.close()
        return self._joined()

    def _left(self) -> list[TaskRun | Section]:
        """Return those that have not ended; what they submit is added before they have."""
        return [task_run for task_run in list(self._task_runs) if not task_run.is_over()]

    def _joined(self) -> bool:
        joined, self._task_runs = self._task_runs, []
        return any(task_run.reached and task_run.cancel_reason == "parent" for task_run in joined)


def _pass() -> None:
    """Nobody waits for them yet."""


def tasks_submitted_by(run: FlowRun) -> SubmittedTasks:
    """Return the tasks that a run has submitted, to add one."""
    if run.submitted is None:
        run.submitted = SubmittedTasks(run)
    assert isinstance(run.submitted, SubmittedTasks)
    return run.submitted


def submit(task_run: TaskRun, plan: Plan, *, is_async: bool) -> Future[Any]:
    """Run a task on a thread of its flow run's own."""
    tasks_submitted_by(task_run.flow_run).submit(task_run, plan, is_async=is_async)
    return Future(task_run)


def wait(futures: Iterable[Future[Any]], timeout: float | None = None) -> DoneAndNotDone:
    """Wait for futures to end, for `timeout` seconds at most.

    Returns:
        A pair of lists: those that have ended, and those that have not.

    Raises:
        TypeError: there is something else than futures among them.
    """
    listed = _each_once(futures)
    waiter = _waits_for_ever(timeout)
    with _awaited([each.task_run for each in listed], waiter) if waiter else nullcontext():
        arrived = dict.fromkeys(as_completed(listed, timeout, raise_on_timeout=False))
    return DoneAndNotDone(list(arrived), [each for each in listed if each not in arrived])


class DoneAndNotDone(tuple[list[Future[Any]], list[Future[Any]]]):
    """What `wait` returns: the futures that are done, and the others."""

    __slots__ = ()

    def __new__(cls, done: list[Future[Any]], not_done: list[Future[Any]]) -> DoneAndNotDone:
        return super().__new__(cls, (done, not_done))

    @property
    def done(self) -> list[Future[Any]]:
        """The futures that have ended."""
        return self[0]

    @property
    def not_done(self) -> list[Future[Any]]:
        """The futures that have not ended."""
        return self[1]


def as_completed(
    futures: Iterable[Future[R]], timeout: float | None = None, *, raise_on_timeout: bool = True
) -> Iterator[Future[R]]:
    """Yield futures as they end.

    Args:
        futures: what to wait for.
        timeout: how long to wait for all of them, in seconds.
        raise_on_timeout: raise `TimeoutError` then, or just stop.

    Raises:
        TypeError: there is something else than futures among them.
        TimeoutError: they have not all ended in time; they go on.
        WouldDeadlock: the last of them waits for a slot that is free only after this wait.
    """
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must be 0 seconds or more, not {timeout!r}.")
    deadline = None if timeout is None else monotonic() + timeout
    left = _each_once(futures)
    arrivals = _Arrivals(left)
    try:
        while left:
            remaining = None if deadline is None else max(deadline - monotonic(), 0.0)
            waiter = _waits_for_ever(timeout) if len(left) == 1 else None
            with _awaited([each.task_run for each in left], waiter) if waiter else nullcontext():
                arrived = wait_until(arrivals.any, arrivals.subscribe, remaining)
            if not arrived:
                if raise_on_timeout:
                    raise TimeoutError(f"{len(left)} futures have not ended within {timeout} s.")
                return
            future = arrivals.take()
            del left[future]
            yield future
    finally:
        arrivals.close()


def _each_once(futures: Iterable[Future[R]]) -> dict[Future[R], None]:
    listed = dict.fromkeys(futures)
    for each in listed:
        if not isinstance(each, Future):
            raise TypeError(
                f"Futures can be waited for here, such as submit() gives, not {each!r}: "
                "a run has a wait() of its own."
            )
    return listed


class _Arrivals:
    """Futures as they end, each once."""

    def __init__(self, futures: Iterable[Future[Any]]) -> None:
        self._ended: deque[Future[Any]] = deque()
        self._wake: Callable[[], None] = _pass
        self._callbacks = [(each, partial(self._arrive, each)) for each in futures]
        for future, callback in self._callbacks:
            future.task_run.on_done(callback)

    def _arrive(self, future: Future[Any]) -> None:
        self._ended.append(future)
        self._wake()

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` at every arrival from now on, and nobody else."""
        self._wake = wake

    def any(self) -> bool:
        """Whether one has arrived that was not taken."""
        return bool(self._ended)

    def take(self) -> Future[Any]:
        """Return the first of them."""
        return self._ended.popleft()

    def close(self) -> None:
        """Listen no longer."""
        for future, callback in self._callbacks:
            future.task_run.forget(callback)


PrefectFuture = Future
"""Prefect's name for it."""

PrefectFutureList = FutureList
"""Prefect's name for it."""

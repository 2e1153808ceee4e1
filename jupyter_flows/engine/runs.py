"""Flow runs.

Guarantees:

- Every public method of `FlowRun` may be called from any thread, a signal handler
  excepted; only `wait` and `result` block.
- A flow run and its task runs share one lock (see `life`), which no method holds
  while it calls anything of the user's.
- The engine keeps a strong reference to a run until it ends; after that the
  registry keeps the newest (see `registry`).
"""

from __future__ import annotations

import asyncio
from _thread import get_ident
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping
from logging import WARNING
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from jupyter_flows.engine import ports, whereabouts
from jupyter_flows.engine.admission import check_wait
from jupyter_flows.engine.checkpoints import wait_as_worker, wait_for_history
from jupyter_flows.engine.current import current, running_loop
from jupyter_flows.engine.ladder import kill
from jupyter_flows.engine.life import Life, as_transition, ended
from jupyter_flows.engine.log_lines import LogLines
from jupyter_flows.engine.logs import LineWriter, RunLog
from jupyter_flows.engine.numbers import is_number
from jupyter_flows.engine.options import FlowOptions
from jupyter_flows.engine.outputs import RunOutputs
from jupyter_flows.engine.pausable import Pausable
from jupyter_flows.engine.progress import Bars
from jupyter_flows.engine.task_runs import Subflow, TaskRun
from jupyter_flows.engine.texts import error_record, sendable, text_of
from jupyter_flows.errors import (
    NotActive,
    NotReplayable,
    WouldDeadlock,
)
from jupyter_flows.records import (
    ErrorRecord,
    RunRecord,
    Stack,
)
from jupyter_flows.states import TERMINAL, Pending, State, StateType

if TYPE_CHECKING:
    from jupyter_flows.engine.executors.contract import Executor
    from jupyter_flows.engine.processes.images import LiveImage, TaskImage

STDOUT = 20  # logging.INFO, as Prefect logs prints
_SHARED = frozenset({bool, type(None), type(...), type(NotImplemented)})
_LONGEST_REASON = 1_000  # characters
STDERR = 21  # told apart from stdout by its source; not a warning, as tqdm writes there


class Submitted(Protocol):
    """The tasks that a run has handed to threads of its own.

    Both ways to wait return whether a cancel was delivered into one of them.
    """

    def join(self) -> bool:
        """Wait for all of them, on a thread of the run."""

    async def join_async(self) -> bool:
        """Wait for all of them, on an event loop."""


class FlowRun(Pausable):
    """A run of a flow, in the background or in the foreground.

    Awaitable: ``await run`` waits for its end and returns its result.
    """

    def __init__(
        self,
        *,
        flow_name: str,
        executor: Executor,
        options: FlowOptions,
        author: Any = None,
        name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        tags: Collection[str] = (),
        metadata: Mapping[str, str] | None = None,
        replays: FlowRun | None = None,
        parent: Life | None = None,
        cell: str | None = None,
        waiting_state: State | None = None,
        run_id: str | None = None,
        upstream: tuple[int, ...] = (),
    ) -> None:
        super().__init__(name or flow_name, waiting_state or Pending(), Lock())
        self._id = run_id or str(uuid4())
        self.abandoned = False  # nobody waits for what its code still does
        self.flow_run = self
        self.flow_name = flow_name
        self.executor = executor
        self.options = options
        self.author = author
        self.parameters = dict(parameters or {})
        self.tags = frozenset(tags)
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.replay_of = replays.id if replays is not None else None
        self.earlier_attempts = 0  # of the runs that it replays
        if replays is not None:
            self.earlier_attempts = replays.earlier_attempts + replays.attempt
        self.again: Callable[[FlowRun], FlowRun] | None = None  # starts a run that replays it
        self.parent = parent
        self.cell = cell
        self.subflow_of = parent.flow_run if parent is not None else None
        self.namespace: Mapping[str, Any] = {}
        self.task_runs: list[TaskRun | Subflow | TaskImage] = []
        self.results: dict[int, int] = {}  # see `note_result`
        self.outputs = RunOutputs()
        self.bars = Bars()
        self.chain: tuple[FlowRun, ...] = (self,)
        if parent is not None and executor.in_callers_thread:
            self.chain = (self, *parent.flow_run.chain)
        self.submitted: Submitted | None = None
        # whether somebody sees its end: its caller, or who waits by `wait`, `result` or `await`
        self.waited_for = executor.in_callers_thread
        self._history = ports.history
        self.log = RunLog(self._id, self._history, wait_for_history)
        self._streams: dict[int, LineWriter] = {}
        self._other_streams: set[LineWriter | LiveImage] = set()
        self._task_numbers: Counter[str] = Counter()
        self._parameter_texts: Mapping[str, str] | None = None
        self._result_text: str | None = None
        self._error: ErrorRecord | None = None
        self._as_task: Subflow | None = None
        self._history.moved(self._id, as_transition(self.state))
        self._history.run_changed(self)
        if parent is not None:
            self._as_task = Subflow(self, parent, upstream)
            if not executor.in_callers_thread:
                parent.adopt(self)

    # -- what users see ---------------------------------------------------------------

    @property
    def id(self) -> str:
        """Its id: a UUID, as text."""
        return self._id

    @property
    def logs(self) -> LogLines:
        """The lines of its log that are in memory, oldest first.

        ``run.logs.filter(level="WARNING")`` and ``run.logs.export("train.log")`` go
        through the whole log, see `LogLines`.
        """
        return LogLines(self.name, self.log.read(), self.log)

    @property
    def tasks(self) -> list[TaskRun | Subflow | TaskImage]:
        """Its task runs and subflows, in the order in which they were made."""
        return list(self.task_runs)

    def note_result(self, number: int, result: Any) -> None:
        """Take note that a result is of the task run of this number, which keeps it alive.

        It is known by its identity, so small values that Python shares tell nothing.
        """
        kind = type(result)
        if (
            kind in _SHARED
            or (kind is int and -5 <= result <= 256)
            or (kind is str and len(result) < 2)
        ):
            return
        self.results[id(result)] = number

    def dict(self) -> dict[str, Any]:
        """Return it as plain dicts, lists, texts and numbers."""
        return self.record().as_json()

    def number_in(self, run: FlowRun) -> int | None:
        """Return its place among the tasks of `run`, if it is a subflow that one called."""
        task = self._as_task
        return task.number if task is not None and task.parent.flow_run is run else None

    @property
    def progress(self) -> tuple[Any, ...]:
        """Its progress bars, as they are now."""
        return self.bars.records()

    def wait(self, timeout: float | None = None) -> FlowRun:
        """Wait for its end and its hooks, for `timeout` seconds at most, and return the run.

        A hook of the run does not wait for hooks.

        Raises:
            WouldDeadlock: it runs on the event loop of this thread, or waits for the slot
                of the run that waits for it, or it is its own code that waits.
        """
        loop = self.executor.loop
        if loop is not None and loop is running_loop() and not self.state_is_final():
            raise WouldDeadlock(
                f"{self!r} runs on the event loop of this thread, which waiting for it would "
                "block: await it instead."
            )
        if timeout is None:
            _refuse_deadlock(self)
        if self.state_is_final() and _is_hook_of(self):
            return self
        if wait_as_worker((self,), timeout):
            self.waited_for = True
        return self

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """Wait for its end and return what it returned.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.
            raise_on_failure: raise the run's exception, or return it.

        Raises:
            TimeoutError: it has not ended in time; it goes on.
            CancelledRun: it was cancelled.
            CrashedRun: it was ended from outside its code.
            FailedRun: it failed without an exception, as it returned ``Failed(...)``.
            Exception: whatever its code raised.
        """
        __tracebackhide__ = True
        self.wait(timeout)
        if self.state.type not in TERMINAL:
            raise TimeoutError(f"{self!r} has not ended within {timeout} s; it goes on.")
        result = self.state.result(raise_on_failure=raise_on_failure)
        self.note_as_subflow(result)
        return result

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result_async().__await__()

    async def _result_async(self) -> Any:
        __tracebackhide__ = True
        await self.wait_async()
        result = self.state.result()
        self.note_as_subflow(result)
        return result

    def note_as_subflow(self, result: Any) -> None:
        """Take note that its caller has its result, if it was called in a run."""
        if self._as_task is not None:
            self._as_task.parent.flow_run.note_result(self._as_task.number, result)

    def rename(self, name: str) -> None:
        """Take another name, before the body begins."""
        self.name = name
        self.touch()
        if self._as_task is not None:
            self._as_task.changed()

    async def wait_async(self) -> None:
        """Wait for its end without blocking the event loop."""
        _refuse_deadlock(self)
        if self.state_is_final() and _is_hook_of(self):
            return
        await ended(self)
        self.waited_for = True

    def cancel(self, grace: float | None = None, *, reason: str = "user") -> bool:
        """Ask it, its tasks and subflows to stop; returns at once.

        An async run stops at its next await, a thread at its next checkpoint, or
        when it is interrupted at a safe line after its grace. A run that has not
        begun never does. Cancelling again, or when it has ended, is harmless: the
        first reason stands.

        Before Python 3.12 only loops of the user's own files can be interrupted
        safely; other code that comes to no checkpoint stops by force, when it is
        killed.

        Args:
            grace: seconds until it is interrupted; 0 does so at once. Default: the
                flow's `cancel_grace_seconds`, 1.
            reason: why, for the record: one of the usual, "user", "parent",
                "concurrency" and "shutdown", or in words of your own.

        Returns:
            Whether this call asked; False when it was asked before or has ended.
        """
        if grace is not None and (not is_number(grace) or grace < 0):
            raise ValueError(f"grace must be a number of seconds, 0 or more, not {grace!r}.")
        if not isinstance(reason, str) or not reason or reason == "timeout":
            raise ValueError(f"reason must be a text, and not 'timeout', not {reason!r}.")
        return self.ask_cancel(sendable(reason)[:_LONGEST_REASON], grace)

    def kill(self) -> bool:
        """Stop it by force now: cancel it, and do not wait for its grace; returns at once.

        A process is killed with all its descendants. A thread is interrupted
        wherever it is, again and again, which may skip a cleanup; only a shield
        holds that up, and code that is blocked in C, which nothing can stop.

        Returns:
            Whether there was something to stop; False when it has ended.
        """
        self.ask_cancel("user")
        active = [life for life in self._family() if not life.state_is_final()]
        for life in active:
            if life is life.flow_run:
                kill(life)
        return self in active

    def replay(self) -> FlowRun:
        """Run its flow again, with the same parameters, in the background; returns the new run.

        This run stays as it is. The new one says which it replays (`replay_of`), and
        counts its attempts on. The parameters are the very objects that this run was
        called with: what its code changed inside of them has changed. A cell's run is
        replayed from the same source, with the notebook's names as they are now.

        Raises:
            NotActive: it has not ended: cancel it first.
            NotReplayable: its flow is not known here.
        """
        if self.state.type not in TERMINAL:
            raise NotActive(
                f"{self!r} is {self.state.name}: only a run that has ended can be replayed. "
                "Cancel it first, or wait for it."
            )
        if self.again is None:
            raise NotReplayable(f"{self!r} cannot be replayed: its flow is not defined here.")
        return self.again(self)

    def abandon(self) -> None:
        """Give it up, as its code cannot be stopped: it is CANCELLED under the name Abandoned.

        What its code still does is dropped: prints, results, names. It is stopped
        at the first checkpoint that it comes to.

        Raises:
            NotActive: it has ended, or was not asked to stop.
        """
        with self._lock:
            if self.cancel_reason is None or self.state.type in TERMINAL:
                raise NotActive(
                    f"{self!r} is {self.state.name}: only a run that was cancelled and does not "
                    "stop can be abandoned."
                )
        self.give_up()

    def give_up(self) -> None:
        """End it and all that it called as abandoned; what comes of their code is dropped."""
        with self._lock:
            if self.state.type in TERMINAL:
                return
            self.abandoned = True  # from here on, what its code still begins is given up, too
        self.log.add(WARNING, "flow", "It was given up: what it still does is dropped.")
        super().give_up()
        self.log.closed = self.outputs.closed = True
        self.executor.interrupt(self)  # what is still to be ended must not wait for hooks

    def where(self) -> list[Stack]:
        """Return where its code is now: a stack for each of its threads and coroutines."""
        return whereabouts.stacks(self)

    def __repr__(self) -> str:
        return f"<FlowRun {self.name!r}>"

    def __getitem__(self, name: str) -> Any:
        """Return a variable of a cell's run, while it runs and after."""
        try:
            return self.namespace[name]
        except KeyError:
            raise KeyError(f"The run has no variable {name!r} (yet).") from None

    @property
    def caller(self) -> Life | None:
        """The run that called it and waits for it, if there is one."""
        return self.parent if self.executor.in_callers_thread else None

    # -- what is asked ----------------------------------------------------------------

    def _family(self) -> list[Life]:
        """Return it and all that it called and that has not ended."""
        lives: list[Life] = [self]
        for life in lives:
            lives += list(life.active)
        return lives

    def list_task(self, task: TaskRun | Subflow | TaskImage) -> int:
        """List a task and return its number, under the lock."""
        self.task_runs.append(task)
        if self.state.type in TERMINAL:  # code that was given up, or a thread that it left behind
            self._history.run_changed(self)
        return len(self.task_runs) - 1

    # -- what it is made of -----------------------------------------------------------

    @property
    def retries(self) -> int:
        """How many attempts may follow a failed one."""
        return self.options.retries

    @property
    def all_attempts(self) -> int:
        """Which attempt this is, those of the runs that it replays counted."""
        return self.attempt and self.earlier_attempts + self.attempt

    @property
    def captures(self) -> bool:
        """Whether what it prints becomes log lines."""
        return self.options.log_prints

    def stream(self, level: int) -> LineWriter | None:
        """Return the writer of its own stdout or stderr, or None if prints pass."""
        if not self.options.log_prints:
            return None
        writer = self._streams.get(level)
        if writer is None:
            source = "stdout" if level == STDOUT else "stderr"
            writer = self._streams.setdefault(level, LineWriter(self.log, STDOUT, source))
        return writer

    def open_stream(self, source: str) -> LineWriter:
        """Make the writer of a task's prints, or of what a command says."""
        writer = LineWriter(self.log, STDOUT, source)
        self._other_streams.add(writer)
        return writer

    def close_stream(self, writer: LineWriter) -> None:
        """Close such a writer."""
        writer.close()
        self._other_streams.discard(writer)

    def thread_ended(self) -> None:
        """Make lines of what this thread printed without a newline, as it ends."""
        for writer in self._writers():
            writer.end_line()

    def _writers(self) -> tuple[LineWriter | LiveImage, ...]:
        return (*tuple(self._streams.values()), *tuple(self._other_streams))

    def close(self, state: State) -> None:
        """Make lines of what was printed without a newline, and write the outcome down."""
        if state.type is StateType.COMPLETED and state.data is not None:
            self._result_text = text_of(state.data, 10_000)
        if state.type is not StateType.COMPLETED and isinstance(state.data, BaseException):
            self._error = error_record(state.data)
        for writer in self._writers():
            writer.close()
        self._other_streams.clear()
        self.bars.close()
        self.book.wake()  # helper threads that are held are so no longer

    def describe_parameters(self) -> None:
        """Write the parameters down as text, before the body can change them."""
        self._parameter_texts = {name: text_of(value) for name, value in self.parameters.items()}

    def _changed(self, state: State) -> None:
        self._history.moved(self._id, as_transition(state))
        self._history.run_changed(self)
        if self._as_task is not None:
            self._as_task.changed()

    def touch(self) -> None:
        """Tell history that something beside the state has changed."""
        self._history.run_changed(self)

    def record(self) -> RunRecord:
        """Return the run as it is now. Any thread."""
        state = self.state
        count = self.log.count
        return RunRecord(
            id=self._id,
            name=self.name,
            flow=self.flow_name,
            on=self.executor.kind,
            kernel=ports.kernel_id,
            parent=self.subflow_of.id if self.subflow_of else None,
            state_type=state.type,
            state_name=state.name,
            state_message=state.message,
            state_time=state.time,
            asked=self.asked,
            reason=self.cancel_reason,
            waiting=self._waiting_now(),
            stopping=None if state.type in TERMINAL else self.stopping,
            created=self.created,
            started=self.started,
            ended=self.ended,
            paused_seconds=self._paused_seconds,
            paused_since=self._paused_since,
            attempt=self.all_attempts,
            replay_of=self.replay_of,
            metadata=self.metadata,
            tags=tuple(sorted(self.tags)),
            parameters=self._parameter_texts or {},
            cell=self.cell,
            progress=self.bars.records(),
            task_count=len(self.task_runs),
            log_first=self.log.first,
            log_count=count,
            live=tuple(live for writer in self._writers() for live in writer.live()),
            output_count=len(self.outputs),
            output_changes=self.outputs.changes,
            result=self._result_text,
            error=self._error,
        )


def _refuse_deadlock(run: FlowRun) -> None:
    """Refuse that code of a run waits for one that waits for its slot, or for its own end.

    A thread or asyncio task beside the body's may wait for the end: nobody waits for that.
    """
    waiter = current.get()
    if waiter is None:
        return
    if run.waiting is not None:
        check_wait(waiter, run)
    if run not in waiter.flow_run.chain or run.state_is_final():
        return
    if _is_hook_of(run) or _is_in_body(waiter):
        raise WouldDeadlock(
            f"Code of {run!r} would wait for the end of {run!r} itself, which comes after it. "
            "Wait in the code that has started the run."
        )


def _is_in_body(life: Life) -> bool:
    """Whether this code is that of a life's body, not of a thread or task beside it."""
    if life.root is not None:
        return life.root.loop is running_loop() and life.root.task is asyncio.current_task()
    return life.flow_run.book.is_worker(get_ident())


def _is_hook_of(run: FlowRun) -> bool:
    """Whether this code is a hook's that whoever waits for the run waits for too."""
    life = current.get()
    while life is not None:
        if life.is_hook and run in life.flow_run.chain:
            return True
        life = life.caller
    return False

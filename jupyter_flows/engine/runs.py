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

from _thread import get_ident
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, MutableMapping
from dataclasses import replace
from logging import WARNING
from threading import Lock
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from jupyter_flows.engine import ports, whereabouts
from jupyter_flows.engine.admission import check_wait
from jupyter_flows.engine.checkpoints import wait_as_worker, wait_for_history
from jupyter_flows.engine.current import current, running_loop
from jupyter_flows.engine.ladder import kill
from jupyter_flows.engine.life import Life, as_transition, ended, interrupt_all
from jupyter_flows.engine.log_lines import LogLines
from jupyter_flows.engine.logs import LineWriter, RunLog
from jupyter_flows.engine.options import Options, is_number
from jupyter_flows.engine.outputs import RunOutputs
from jupyter_flows.engine.pausing import Book
from jupyter_flows.engine.progress import Bars
from jupyter_flows.engine.questions import Question, Read, as_json
from jupyter_flows.engine.task_runs import Subflow, TaskRun
from jupyter_flows.engine.texts import error_record, sendable, text_of
from jupyter_flows.errors import (
    InvalidInput,
    NobodyToAsk,
    NotActive,
    NotPaused,
    NotReplayable,
    WouldDeadlock,
)
from jupyter_flows.records import (
    ErrorRecord,
    RunRecord,
    Stack,
    Waiting,
)
from jupyter_flows.states import TERMINAL, Paused, Pending, Running, State, StateType

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


class FlowRun(Life):
    """A run of a flow, in the background or in the foreground.

    Awaitable: ``await run`` waits for its end and returns its result.
    """

    def __init__(
        self,
        *,
        flow_name: str,
        executor: Executor,
        options: Options,
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
        self.book = Book()
        self.chain: tuple[FlowRun, ...] = (self,)
        if parent is not None and executor.in_callers_thread:
            self.chain = (self, *parent.flow_run.chain)
        self.submitted: Submitted | None = None
        self.waiting: Waiting | None = None
        self._questions: list[Question] = []  # not answered yet: the first is `waiting`
        self._asked_before = 0  # how many questions there have been
        self.answers: dict[str, str] = {}  # by the key of the question, as JSON
        self._held_at = 0.0  # when the hold that is on was asked
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
        self._paused_seconds = 0.0
        self._paused_since: float | None = None
        self._paused_clock = 0.0
        self._paused_clock_since: float | None = None
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

        Raises:
            WouldDeadlock: it runs on the event loop of this thread, or waits for the slot
                of the run that waits for it.
        """
        loop = self.executor.loop
        if loop is not None and loop is running_loop() and not self.state_is_final():
            raise WouldDeadlock(
                f"{self!r} runs on the event loop of this thread, which waiting for it would "
                "block: await it instead."
            )
        if timeout is None:
            _refuse_deadlock(self)
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

    def pause(self) -> None:
        """Ask it and its tasks to hold still; it is PAUSED when all of them do.

        Raises:
            NotActive: it has ended, or is being cancelled.
        """
        with self._lock:
            if self.decided or self.state.type in TERMINAL or self.cancel_reason is not None:
                raise NotActive(f"{self!r} is {self.state.name}: there is nothing to pause.")
            if not self.book.hold:
                self.book.hold, self._held_at = True, time()
            lives = self._mark_all()
            self._settle_pause()
        self._hold_changed(lives)

    def resume(self, run_input: Any = None, *, question: int | None = None) -> None:
        """Let it go on: lift the pause that was asked, or answer what it asks a person.

        Of a run that is both paused and waits for a person, the pause is lifted first,
        unless there is something that only a question can mean: an input, or a number.

        Args:
            run_input: the answer to a run that waits for input: what JSON can hold, or an
                instance of the model. Left out, the defaults of the model's fields are.
            question: which question is answered, by its number in `waiting`; 0 for none.
                So nobody approves what he has not read. Default: the oldest that is open.

        Raises:
            NotPaused: it is not paused, nor about to be; or the question is not open.
            InvalidInput: the input does not fit; nothing has changed.
        """
        text = as_json(run_input)
        with self._lock:
            asked = self._to_answer(question, anything=run_input is not None)
            if asked is None:
                lives = self._lift()
        if asked is not None:
            value = asked.read(text)
            with self._lock:
                if asked not in self._questions:
                    raise NotPaused(f"{self!r} does not wait for this answer any more.")
                asked.answered, asked.value = True, value
                if asked.waiting.key is not None:
                    self.answers[asked.waiting.key] = text
                self._drop(asked)
                lives = self._mark_all()
                self._settle_pause()
        self._hold_changed(lives)

    @property
    def _is_stopping(self) -> bool:
        return self.state.type in TERMINAL or self.state.type is StateType.CANCELLING

    def _to_answer(self, number: int | None, *, anything: bool) -> Question | None:
        """Return the question that a resume means, or None if it means the hold; under the lock.

        Args:
            number: of the question, if that is told; 0 for none.
            anything: whether there is an input.
        """
        if not self._questions and (self._is_stopping or not self.book.hold):
            raise NotPaused(f"{self!r} is {self.state.name}: only a paused run can be resumed.")
        if (self.held or not self._questions) and not number and not anything:
            return None
        if number == 0:
            raise NotPaused(f"{self!r} is not held, or was given an answer to no question.")
        if not self._questions and anything:
            raise InvalidInput(f"{self!r} is paused and waits for no input: resume it without.")
        for question in self._questions:
            if number in (None, question.waiting.number):
                return question
        raise NotPaused(f"{self!r} does not wait for this answer any more.")

    def _lift(self) -> list[Life]:
        """Lift the hold, under the lock; return what `_mark_all` does."""
        self.book.hold = False
        held = time() - self._held_at
        for question in self._questions:
            until = question.waiting.until
            if until is not None:  # nobody is late for having been held
                question.waiting = replace(question.waiting, until=until + held)
        if self._questions:
            self._show_question()
        lives = self._mark_all()
        self._settle_pause()
        return lives

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

    @property
    def asked(self) -> str | None:
        """What is asked and not yet so: "cancel", "pause" or nothing."""
        if self.state.type in TERMINAL:
            return None
        if self.cancel_reason is not None:
            return "cancel"
        return "pause" if self.book.hold and self.state.type is not StateType.PAUSED else None

    @property
    def held(self) -> bool:
        """Whether its code is to hold still; a cancel lifts a hold, and so does its end."""
        return self.book.hold and self.cancel_reason is None and not self.decided

    def _family(self) -> list[Life]:
        """Return it and all that it called and that has not ended."""
        lives: list[Life] = [self]
        for life in lives:
            lives += list(life.active)
        return lives

    def _mark_all(self) -> list[Life]:
        """Bring `pending` of it and of its tasks up to date, under the lock.

        Returns:
            Them all, and the subflows among them, which have a lock of their own.
        """
        lives: list[Life] = [self]
        for life in lives:
            if life.flow_run is self:
                life._mark()
                lives += list(life.active)
        return lives

    def _hold_changed(self, lives: list[Life]) -> None:
        """Let what runs the code of `lives` know; subflows follow their caller."""
        self.announce()
        self._history.run_changed(self)
        interrupt_all([life for life in lives if life.flow_run is self])
        for life in lives:
            if isinstance(life, FlowRun) and life is not self:
                life._follow(self)

    def _follow(self, calling: FlowRun) -> None:
        """Hold still, or go on, as the run that called it does."""
        while True:
            hold = calling.held  # which a cancel lifts: what a cleanup calls goes on
            try:
                if hold:
                    self.pause()
                elif self.book.hold:  # else there is nothing to lift, but maybe a question
                    self.resume(question=0)
            except (NotActive, NotPaused):
                pass
            if calling.held == hold:  # else somebody was faster
                return

    def ask(self, waiting: Waiting, read: Read | None = None) -> Question:
        """Ask a person, and be PAUSED until the question is answered or withdrawn.

        Args:
            waiting: what is asked.
            read: reads an answer; by default a go-ahead or a line of text.

        Raises:
            NobodyToAsk: it has ended, given up by those who could answer.
        """
        with self._lock:
            if self.state.type in TERMINAL:
                raise NobodyToAsk(f"{self!r} has ended: nobody answers what its code still asks.")
            self._asked_before += 1
            question = Question(replace(waiting, number=self._asked_before), read)
            self._questions.append(question)
            self._show_question()
            self._settle_pause()
        self.changed()
        return question

    def withdraw(self, question: Question) -> None:
        """Wait for the answer no longer. Harmless when it was answered."""
        with self._lock:
            if question not in self._questions:
                return
            self._drop(question)
            self._settle_pause()
        self.changed()

    def _drop(self, question: Question) -> None:
        """Take a question for closed, under the lock; what is held stays so."""
        self._questions.remove(question)
        self._show_question()

    def _show_question(self) -> None:
        self.waiting = self._questions[0].waiting if self._questions else None

    def start_worker(self) -> None:
        """Say that this thread begins to run its code."""
        self._count(self.book.workers, +1)

    def end_worker(self) -> None:
        """Say that this thread has left its code."""
        self._count(self.book.workers, -1)

    def park_worker(self) -> None:
        """Say that this thread waits in the engine."""
        self._count(self.book.parked, +1)

    def unpark_worker(self, *, unless_held: bool = False) -> bool:
        """Say that this thread goes back to its code; return False if it is not to."""
        return self._count(self.book.parked, -1, unless_held)

    def start_command(self) -> bool:
        """Say that a command of it goes on; return False if that is to hold still."""
        with self._lock:
            if self.held:
                return False
            self.book.commands += 1
        return True

    def end_command(self) -> None:
        """Say that a command of it is suspended or has ended."""
        with self._lock:
            self.book.commands -= 1
        if self.book.hold:
            self.settle_pause()

    def _count(
        self, threads: MutableMapping[int, int], change: int, unless_held: bool = False
    ) -> bool:
        ident = get_ident()
        with self._lock:
            if unless_held and self.held:
                return False
            count = threads.get(ident, 0) + change
            if count:
                threads[ident] = count
            else:
                del threads[ident]
            moved = self.book.hold and self._settle_pause()
        if moved:
            self.announce()
        return True

    def settle_pause(self) -> None:
        """Say PAUSED if all that was asked to hold still does."""
        with self._lock:
            moved = self._settle_pause()
        if moved:
            self.announce()

    def _settle_pause(self) -> bool:
        """Say PAUSED, or no longer, under the lock; return whether that is news.

        While a hold is asked the run is PAUSED if all of it holds still, else if it
        waits for a person, whatever its tasks do.
        """
        paused = self.book.still if self.held else bool(self._questions)
        if paused and self.state.type is StateType.RUNNING:
            text = self._questions[0].waiting.text if self._questions else ""
            return self._move(Paused(text))
        if not paused and self.state.type is StateType.PAUSED:
            return self._move(Running())
        return False

    def adopt(self, child: Life) -> None:
        """Count a child in; see `Life.adopt`. What holds its parent holds it too."""
        super().adopt(child)
        if self.held and isinstance(child, FlowRun):
            child._follow(self)

    def list_task(self, task: TaskRun | Subflow | TaskImage) -> int:
        """List a task and return its number, under the lock."""
        self.task_runs.append(task)
        if self.state.type in TERMINAL:  # code that was given up, or a thread that it left behind
            self._history.run_changed(self)
        return len(self.task_runs) - 1

    # -- the run's clock --------------------------------------------------------------

    def clock(self) -> float:
        """Seconds on a clock that stands still while the run is paused."""
        with self._lock:
            since = self._paused_clock_since
            return (monotonic() if since is None else since) - self._paused_clock

    def _before_move(self, state: State) -> None:
        if self.state.type is StateType.PAUSED:
            self._paused_seconds += state.time - (self._paused_since or state.time)
            self._paused_since = None
            self._paused_clock += monotonic() - (self._paused_clock_since or monotonic())
            self._paused_clock_since = None
        if state.type is StateType.PAUSED:
            self._paused_since = state.time
            self._paused_clock_since = monotonic()
        if state.type in TERMINAL:
            self.waiting = None
            self._questions.clear()

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

    def _waiting_now(self) -> Waiting | None:
        waiting = self.waiting
        asks = waiting is not None and waiting.number is not None
        return replace(waiting, held=True) if waiting and asks and self.held else waiting

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
    """Refuse that code of a run waits for one that waits for its slot."""
    waiter = current.get()
    if waiter is not None and run.waiting is not None:
        check_wait(waiter, run)

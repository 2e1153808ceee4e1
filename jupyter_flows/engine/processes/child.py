"""What a forked process does: one attempt of a run, and then it ends.

The main thread talks to the kernel; the body runs on a thread (or a loop on one) as
in the kernel, under the same engine, so everything that takes hold there does here:
safe lines, checkpoints, shields, tasks with their retries and timeouts.

What the kernel decides: when to cancel and when to insist, timeouts and retries of
the run, questions to people. What is made here travels as it comes: each log line at
once, so that a crash loses none; bars and unfinished lines every `_TICK`.

A signal handler does nothing but wake the main thread. SIGTERM and SIGINT are from
others: the kernel is told, and asks for a cancel as for any other.

A run has ended when the threads that its code has left running have, as a program
ends; what is registered with `atexit` is called then.
"""

from __future__ import annotations

import atexit
import faulthandler
import inspect
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from multiprocessing.connection import wait
from time import monotonic
from typing import Any, NoReturn, TextIO

import cloudpickle

from jupyter_flows.engine import asking, capture, ports, registry
from jupyter_flows.engine.current import current, current_tags
from jupyter_flows.engine.executors.contract import Executor
from jupyter_flows.engine.executors.own_loop import OwnLoopExecutor
from jupyter_flows.engine.executors.thread import ThreadExecutor
from jupyter_flows.engine.ladder import SETTLES
from jupyter_flows.engine.life import INTERRUPT, Life
from jupyter_flows.engine.options import FlowOptions, TaskRunner
from jupyter_flows.engine.outputs import Bundle, RunOutputs
from jupyter_flows.engine.ports import LinePlain
from jupyter_flows.engine.processes.clock import SharedClock, tell_engine
from jupyter_flows.engine.processes.images import TaskImage
from jupyter_flows.engine.processes.lending import Borrowing
from jupyter_flows.engine.processes.pickling import called_by, pickled
from jupyter_flows.engine.processes.tree import adopt_orphans
from jupyter_flows.engine.processes.wire import Channel
from jupyter_flows.engine.questions import Question, Read
from jupyter_flows.engine.runner import Plan
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.stacks import lives_of
from jupyter_flows.engine.task_runs import Subflow, TaskRun
from jupyter_flows.engine.texts import error_record
from jupyter_flows.engine.threads import EngineThread
from jupyter_flows.engine.whereabouts import Position, position, stacks, what_holds
from jupyter_flows.errors import InvalidInput, NotPortable
from jupyter_flows.records import Transition, Waiting, source_within
from jupyter_flows.states import State, StateType

_TICK = 0.1  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a child is to do, and where."""

    job: bytes  # a function, its arguments and its named arguments; the flow's parameters
    is_async: bool
    run_id: str
    name: str
    flow_name: str
    tags: frozenset[str]
    current_tags: frozenset[str]  # of all that it starts
    task_runner: TaskRunner | None
    parameters: tuple[str, ...]  # the names of the run's parameters
    metadata: Mapping[str, str]
    replay_of: str | None
    attempt: int
    earlier_attempts: int
    log_prints: bool
    persist_result: bool | None
    results_at: tuple[str, float] | None
    grace: float
    may_time_out: bool
    answers: dict[str, str]  # to questions of earlier attempts, by their keys
    refusals: dict[str, str | None]  # why nobody can be asked, by what for
    cwd: str | None
    environ: dict[str, str]
    path: list[str]
    levels: dict[str, int]  # of loggers


def main(end: socket.socket, out: int, err: int, clock: SharedClock) -> NoReturn:
    """Wait for an order, carry it out, and end this process."""
    os.setsid()
    adopt_orphans()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(out, 1)
    os.dup2(err, 2)
    kept = end.fileno()
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    channel = Channel(end)
    message = channel.receive()
    if message is None:
        os._exit(0)
    os.register_at_fork(before=_hold_back, after_in_parent=_let_come, after_in_child=_leave)
    tell_engine(clock.read())
    _Child(channel, message[0]).work()


_HANDLED = (signal.SIGTERM, signal.SIGINT)
_forking = threading.local()


def _hold_back() -> None:
    """Let signals wait while this thread forks: the handlers there are for this process alone."""
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)


def _let_come() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _leave() -> None:
    """Make a process that the run's code forks one of its own, which no run is in.

    What it prints goes to the descriptors that it inherits, and signals end it.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _let_come()


class _Child:
    """The main thread of a process."""

    def __init__(self, channel: Channel, order: Order) -> None:
        self._channel = channel
        self._order = order
        self._wake, self._wakes = socket.socketpair()
        self._wakes.setblocking(False)
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        self._borrowing = Borrowing(channel)
        self._signal: str | None = None  # that somebody has sent
        self._position: Position | None = None  # where it was when it was interrupted
        self._settles_at = math.inf
        self._shown: tuple[Any, ...] = ()  # bars and unfinished lines, as sent last

    def work(self) -> NoReturn:
        """Carry the order out."""
        for number in _HANDLED:
            signal.signal(number, self._note_signal)
        self._settle_in()
        kind: type[Executor] = _OnALoop if self._order.is_async else _OnAThread
        self._run = run = ChildRun(self._order, kind(), self._channel)
        asking.who_asks = lambda asking: run
        registry.add(run)
        run.on_done(self._wake_up)
        plan = Plan(_body(self._order, run), delay=lambda attempt: 0.0)
        run.executor.launch(run, plan)
        self._read()  # what was asked meanwhile may have come with the order
        while not run.state_is_final():
            self._turn()
        finishing = EngineThread("end", self._finish, context=Context())
        finishing.start()
        while finishing.is_alive():
            self._turn()
        self._show()
        self._channel.send("ended", *_outcome(run))
        _end()

    def _turn(self) -> None:
        """Wait for something to do, and do it."""
        sources: list[Any] = [self._channel, self._wake]
        readable: list[Any] = wait(sources, _TICK)
        if self._wake in readable:
            self._wake.recv(4096)
        if self._signal is not None:
            name, self._signal = self._signal, None
            self._channel.send("signalled", name)
        if self._channel in readable:
            self._read()
        if monotonic() >= self._settles_at:
            self._settles_at = math.inf
            self._tell_what_holds()
        self._show()

    def _finish(self) -> None:
        """Wait for the threads that the body has left, and end this process as Python does."""
        try:
            for end in reversed(getattr(threading, "_threading_atexits", [])):
                end()  # lets the idle threads of pools end
            for thread in threading.enumerate():
                if not thread.daemon and thread is not threading.main_thread():
                    thread.join()
            atexit._run_exitfuncs()
        finally:
            self._wake_up()

    def _tell_what_holds(self) -> None:
        stuck, hint = what_holds(self._run, self._position)
        if stuck is not None:
            self._channel.send("held", stuck, hint)

    def _note_signal(self, number: int, _: object) -> None:
        self._signal = signal.Signals(number).name

    def _wake_up(self) -> None:
        try:
            self._wakes.send(b"\0")
        except BlockingIOError:  # it will wake
            pass

    def _settle_in(self) -> None:
        """Make this process look as the kernel does."""
        order = self._order
        if order.cwd is not None:
            os.chdir(order.cwd)
        os.environ.clear()
        os.environ.update(order.environ)
        sys.path[:] = order.path
        for name, level in order.levels.items():
            logging.getLogger(name or None).setLevel(level)
        current_tags.set(order.current_tags)
        sys.stdout, sys.stderr = _stream(1), _stream(2)
        capture.install()
        faulthandler.enable(sys.stderr, all_threads=False)
        ports.history = _Relay(self._channel, order.run_id)
        ports.leases = self._borrowing
        ports.adopted = True  # by the supervisor
        ports.results_at = order.results_at
        asking.can_ask = lambda run, kind: order.refusals.get(kind)

    def _read(self) -> None:
        try:
            for message in self._channel.available():
                self._heed(*message)
        except EOFError:  # the kernel is gone, and the supervisor will see to the rest
            os._exit(1)

    def _heed(self, what: str, *details: Any) -> None:
        run = self._run
        if what == "cancel":
            reason, grace = details
            Life.ask_cancel(run, reason, grace)
        elif what == "insist":
            for life in lives_of(run):
                life.rung = max(life.rung, INTERRUPT)
            run.executor.insist(run)
            self._position = position(run)
            self._settles_at = monotonic() + SETTLES
        elif what == "where":
            self._channel.send("answered", *details, list(stacks(run)))
        elif what == "check":
            number, asked, text = details
            self._channel.send("answered", number, run.check(asked, text))
        elif what == "lent":
            self._borrowing.answered(*details)
        elif what == "answer":
            run.answer(*details)
        elif what == "peek":
            number, name = details
            self._channel.send("answered", number, *_peek(name))

    def _show(self) -> None:
        """Send bars and unfinished lines, if they have changed."""
        live = tuple(each for writer in self._run._writers() for each in writer.live())
        shown = (self._run.bars.records(), live)
        if shown != self._shown:
            self._shown = shown
            self._channel.send("shown", *shown)


def _stream(fd: int) -> TextIO:
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


# -- the run ------------------------------------------------------------------------------


class _UnderTheKernel(Executor):
    """Leaves the ladder of the run to the kernel, which climbs it for this process."""

    def interrupt(self, life: Life) -> None:
        """Let a task's own ladder begin; the run's is the kernel's."""
        if life is not life.flow_run:
            super().interrupt(life)


class _OnAThread(_UnderTheKernel, ThreadExecutor):
    pass


class _OnALoop(_UnderTheKernel, OwnLoopExecutor):
    pass


class ChildRun(FlowRun):
    """An attempt, in its process: what is asked of people and of the run goes to the kernel."""

    def __init__(self, order: Order, executor: Executor, channel: Channel) -> None:
        self._channel = channel
        self._asked: dict[int, Question] = {}
        self._checked: dict[tuple[int, str], Any] = {}  # what was made of an answer to come
        self._number = 0
        self._clock = _KernelsTimeout(channel) if order.may_time_out else None
        super().__init__(
            flow_name=order.flow_name,
            executor=executor,
            options=FlowOptions(
                log_prints=order.log_prints,
                task_runner=order.task_runner,
                persist_result=order.persist_result,
                cancel_grace_seconds=order.grace,
            ),
            name=order.name,
            tags=order.tags,
            metadata=order.metadata,
            run_id=order.run_id,
        )
        self.attempt = order.attempt - 1
        self.answers = order.answers
        self.earlier_attempts = order.earlier_attempts
        self.replay_of = order.replay_of
        self.outputs = _RelayedOutputs(channel)

    @property
    def timeout(self) -> Any:
        """The kernel's clock, which can be given more time."""
        return self._clock

    @timeout.setter
    def timeout(self, timeout: Any) -> None:
        """Leave the clock to the kernel."""

    def cancel(self, grace: float | None = None, *, reason: str = "user") -> bool:
        """Take note of it here, and ask the kernel, whose ladder sees to it."""
        asked = super().cancel(grace, reason=reason)
        self._channel.send("cancel", grace, reason)
        return asked

    def pause(self) -> None:
        """Ask the kernel, which has the whole process suspended."""
        self._channel.send("pause")

    def tell(self, data: bytes) -> None:
        """Tell what sent the body here something, before it ends."""
        self._channel.send("told", data)

    def ask(self, waiting: Waiting, read: Read | None = None) -> Question:
        """Ask a person, by way of the kernel."""
        question = super().ask(waiting, read)
        with self._lock:
            self._number += 1
            number = self._number
            self._asked[number] = question
        self._channel.send("ask", number, waiting)
        return question

    def check(self, number: int, text: str) -> str | None:
        """Read an answer to a question, and keep what came of it; return why it does not fit."""
        question = self._asked.get(number)
        if question is None:
            return "The run does not wait for this answer any more."
        try:
            self._checked[number, text] = question.read(text)
        except InvalidInput as error:
            return str(error)
        return None

    def withdraw(self, question: Question) -> None:
        """Wait for the answer no longer."""
        super().withdraw(question)
        with self._lock:
            numbers = [number for number, each in self._asked.items() if each is question]
            for number in numbers:
                del self._asked[number]
        for number in numbers:
            self._channel.send("withdraw", number)

    def answer(self, number: int, text: str) -> None:
        """Take the answer to a question. Harmless when that was withdrawn."""
        question = self._asked.get(number)
        if question is None:
            return
        key = (number, text)
        value = self._checked[key] if key in self._checked else question.read(text)
        with self._lock:
            if question not in self._questions:
                return
            question.answered, question.value = True, value
            if question.waiting.key is not None:
                self.answers[question.waiting.key] = text
            self._drop(question)
        for run in {life.flow_run for life in self._family()}:
            run.book.wake()


class _KernelsTimeout:
    """The clock of an attempt, which is the kernel's, as its code knows it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def refresh(self, seconds: float | None) -> None:
        """Give more time."""
        self._channel.send("refresh", seconds)

    def end(self) -> None:
        """The kernel sees when the attempt is over."""


class _RelayedOutputs(RunOutputs):
    """Outputs that are shown by the kernel."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def add(self, data: Bundle, metadata: Bundle, display_id: str | None = None) -> None:
        super().add(data, metadata, display_id)
        self._channel.send("output", "add", dict(data), dict(metadata), display_id)

    def update(self, display_id: str, data: Bundle, metadata: Bundle) -> bool:
        known = super().update(display_id, data, metadata)
        if known:
            self._channel.send("output", "update", display_id, dict(data), dict(metadata))
        return known

    def clear(self, wait: bool = False) -> None:
        super().clear(wait)
        self._channel.send("output", "clear", wait)


class _Relay:
    """The history of this process: the kernel's."""

    due = math.inf

    def __init__(self, channel: Channel, run_id: str) -> None:
        self._channel = channel
        self._run_id = run_id
        self._waiting: Waiting | None = None  # as told last

    def line(self, written: tuple[str, LinePlain]) -> None:
        run_id, (_, _, level, source, message) = written
        if run_id != self._run_id:  # a subflow has no log of its own in the kernel
            run = registry.find(run_id)
            source = source_within("subflow" if run is None else run.name, source)
        self._channel.send("line", level, source, message)

    def task_changed(self, run_id: str, task: TaskRun | Subflow | TaskImage) -> None:
        if run_id == self._run_id:
            self._channel.send("task", task.record())

    def moved(self, run_id: str, transition: Transition) -> None:
        return

    def run_changed(self, run: FlowRun) -> None:
        waiting = run.waiting
        if run.id != self._run_id or (waiting is not None and waiting.kind != "slot"):
            return  # what it asks people is asked by the kernel
        if waiting != self._waiting:
            self._waiting = waiting
            self._channel.send("waits", waiting)

    def keep_up(self, now: float, wait: ports.Wait) -> None:
        return


# -- its body and its end --------------------------------------------------------------------


def _body(order: Order, run: FlowRun) -> Callable[[], Any]:
    """Return the body, which imports what it needs when it begins."""

    def load() -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        fn, args, kwargs, *names = cloudpickle.loads(order.job)
        owner = current.get()
        if names and owner is not None:
            owner.flow_run.parameters = names[0]
        if getattr(fn, "__module__", None) == "__main__":
            names = getattr(fn, "__globals__", {})
            vars(sys.modules["__main__"]).update(
                {name: value for name, value in names.items() if not name.startswith("__")}
            )
        if order.parameters:
            given = inspect.signature(called_by(fn)).bind(*args, **kwargs).arguments
            run.parameters = {name: given[name] for name in order.parameters if name in given}
        return fn, args, kwargs

    def body() -> Any:
        __tracebackhide__ = True
        fn, args, kwargs = load()
        return fn(*args, **kwargs)

    async def async_body() -> Any:
        __tracebackhide__ = True
        fn, args, kwargs = load()
        return await fn(*args, **kwargs)

    return async_body if order.is_async else body


def _peek(name: str) -> tuple[bytes | None, str]:
    """Return a variable pickled; or None, and why not."""
    names = vars(sys.modules["__main__"])
    return pickled(names[name]) if name in names else (None, "")


def _outcome(run: FlowRun) -> tuple[Any, ...]:
    """Return the last state in plain values, what came with it pickled, and the error's text."""
    state = run.state
    error = state.data if isinstance(state.data, BaseException) else None
    described = error_record(error) if error is not None else None
    data, why = pickled(state.data)
    if data is None and error is None and state.type is StateType.COMPLETED:
        what = f"The result cannot be sent back, being a {type(state.data).__name__}: {why}"
        lost = NotPortable(f"{what}. Return plain values, or run on='thread'.")
        state = State(StateType.FAILED, "", str(lost), lost)
        data, described = cloudpickle.dumps(lost), error_record(lost)
    return (run.reached, str(state.type), state.name, state.message, data, described)


def _end() -> NoReturn:
    """End this process, of which nothing is left to be done."""
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(0)

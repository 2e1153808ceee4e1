"""The kernel's end: from the first byte of a process to the end of the last one below it.

An `Attempt` is one process of one run. All of it happens on the run's own thread,
which carries what the child says into the run, and what is asked of the run to the
child and the supervisor; `Bell.ring` alone is for other threads.

Guarantees:

- What is asked is read from the run, whenever its bell rings: so asks are never
  lost, and never done twice.
- The thread is the run's one worker. It is parked while nothing of the tree moves,
  and goes back to work before the tree is let go on: PAUSED is never said of a
  process that moves.
- `Attempt.run` returns when the child and everything below it is gone, whatever
  happens here.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from _thread import allocate_lock
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from time import monotonic
from typing import Any

import cloudpickle

from jupyter_flows.engine import asking, ending, ports
from jupyter_flows.engine.life import INTERRUPT, KILL
from jupyter_flows.engine.logs import LineWriter
from jupyter_flows.engine.processes import supervisor as program
from jupyter_flows.engine.processes import tree
from jupyter_flows.engine.processes.child import Order
from jupyter_flows.engine.processes.images import BarImages, LiveImage, TaskImage
from jupyter_flows.engine.processes.pickling import Portable
from jupyter_flows.engine.processes.wire import Channel
from jupyter_flows.engine.runs import STDOUT, FlowRun, Question
from jupyter_flows.engine.texts import RemoteTraceback, plain_text
from jupyter_flows.errors import CrashedRun, FailedRun, NotActive, NotPortable
from jupyter_flows.records import Frame, Stack, TaskRecord
from jupyter_flows.states import Cancelled, Crashed, State, StateType

_READY_SECONDS = 30.0  # for a supervisor to begin
_END_SECONDS = 5.0  # for a child to end once its run has
_PEEK_SECONDS = 5.0
_MOST_READS = 16  # of a descriptor at once, as a process may write without end
_WHERE_SECONDS = 1.0
_SILENT = "It does not answer: it is starting, or a call of code in C holds up all of its Python."
_PROGRAM = (
    "import json, sys; path, control, kernel, prepare = json.loads(sys.argv[1]); "
    "sys.path[:] = path; from jupyter_flows.engine.processes.supervisor import main; "
    "main(control, kernel, prepare)"
)


# -- the supervisor -------------------------------------------------------------------------


class Supervisor:
    """The program beside this kernel. Any thread may call."""

    def __init__(self) -> None:
        self.kernel = os.getpid()
        ours, theirs = socket.socketpair()
        arguments = json.dumps([sys.path, theirs.fileno(), self.kernel, ports.process_preparations])
        with tempfile.TemporaryFile() as errors, theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            theirs.close()
            ours.settimeout(_READY_SECONDS)
            try:
                ready = ours.recv(1)
            except TimeoutError:
                ready = b""
            if ready != program.READY:
                ours.close()
                self._process.kill()
                self._process.wait()
                errors.seek(0)
                raise OSError(
                    "The supervisor of processes does not start. It said: "
                    + errors.read()[-2000:].decode(errors="replace")
                )
        self._socket = ours
        self._sending = allocate_lock()
        self._spawning = allocate_lock()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def serves(self) -> bool:
        """Whether it is there, for this process."""
        return self.kernel == os.getpid() and self._process.poll() is None

    def spawn(self) -> tuple[int, list[int]]:
        """Return a fresh child's process id and descriptors.

        Raises:
            ConnectionError: the supervisor is gone.
            OSError: the system has no process left.
        """
        with self._spawning:
            self.request(program.SPAWN)
            answer, descriptors, _, _ = socket.recv_fds(self._socket, 4, 4)
        if len(answer) < 4:
            raise ConnectionResetError("The supervisor of processes has ended.")
        (pid,) = struct.unpack("<i", answer)
        if len(descriptors) < 4:
            for each in descriptors:
                os.close(each)
            raise OSError("The system has no process, or no file descriptors, left for it.")
        return pid, list(descriptors)

    def request(self, kind: bytes, pid: int = 0, number: int = 0) -> None:
        """Ask for something to be done; it is told on the child's own pipe."""
        with self._sending:
            self._socket.sendall(program.REQUEST.pack(kind, pid, number))

    def close(self, seconds: float) -> None:
        """Let it kill all that is left, and end."""
        self._socket.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass


_starting = threading.Lock()
_supervisor: Supervisor | None = None


def supervisor() -> Supervisor:
    """Return the supervisor of this process; starts it when there is none."""
    global _supervisor
    with _starting:
        if _supervisor is None or not _supervisor.serves:
            _supervisor = Supervisor()
            if close not in ending.at_last:
                ending.at_last.append(close)
        return _supervisor


def spawn() -> tuple[Supervisor, int, list[int]]:
    """Return a fresh child's supervisor, process id and descriptors.

    Raises:
        OSError: no supervisor can be started.
    """
    global _supervisor
    current = supervisor()
    try:
        return current, *current.spawn()
    except ConnectionError:  # it has just ended
        with _starting:
            if _supervisor is current:
                _supervisor = None
        current = supervisor()
        return current, *current.spawn()


def close(seconds: float = 0.5) -> None:
    """End the supervisor, and with it every process of a run."""
    global _supervisor
    with _starting:
        ending, _supervisor = _supervisor, None
    if ending is not None and ending.serves:
        ending.close(seconds)


# -- one process of one run -----------------------------------------------------------------


class Bell:
    """Wakes the thread of a run. Any thread may ring, at any time."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self._lock = allocate_lock()
        self._closed = False

    def fileno(self) -> int:
        """Return what `select` waits for."""
        return self._ours.fileno()

    def ring(self) -> None:
        """Let the thread look at what is asked."""
        with self._lock:
            if not self._closed:
                try:
                    self._theirs.send(b"\0")
                except BlockingIOError:  # it will look
                    pass

    def silence(self) -> None:
        """Take note of having been rung."""
        self._ours.recv(4096)

    def close(self) -> None:
        """Nobody listens any more."""
        with self._lock:
            self._closed = True
            self._ours.close()
            self._theirs.close()


class Inquiries:
    """What a process is asked for while it runs. Any thread but the run's."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._number = 0
        self.wanted: list[tuple[Any, ...]] = []  # messages to send
        self._answers: dict[int, tuple[Any, ...]] = {}
        self._arrived = threading.Condition()
        self._over = False

    def peek(self, name: str) -> Any:
        """Return a copy of a variable.

        Raises:
            KeyError: there is none.
            NotPortable: it cannot be pickled.
            TimeoutError: the process does not answer.
            LookupError: it has ended.
        """
        answer = self._ask("peek", name, seconds=_PEEK_SECONDS)
        if answer is None and self._over:
            raise LookupError("No process runs.")
        if answer is None:
            raise TimeoutError(
                f"The process does not tell {name!r}: it is suspended, or C code holds it up."
            )
        data, why = answer
        if data is None and why:
            raise NotPortable(f"The variable {name!r} stays in its process: {why}")
        if data is None:
            raise KeyError(name)
        return cloudpickle.loads(data)

    def where(self) -> list[Stack] | None:
        """Return where the process is; None if it does not answer."""
        answer = self._ask("where", seconds=_WHERE_SECONDS)
        return None if answer is None else list(answer[0])

    def _ask(self, what: str, *details: Any, seconds: float) -> tuple[Any, ...] | None:
        """Return the answer to a message, or None if there is none in time."""
        with self._arrived:
            self._number += 1
            number = self._number
            self.wanted.append((what, number, *details))
            self._bell.ring()
            self._arrived.wait_for(lambda: number in self._answers or self._over, seconds)
            return self._answers.pop(number, None)

    def end(self) -> None:
        """Nobody answers any more."""
        with self._arrived:
            self._over = True
            self._arrived.notify_all()

    def arrived(self, number: int, *answer: Any) -> None:
        """Take an answer."""
        with self._arrived:
            self._answers[number] = answer
            self._arrived.notify_all()


class Attempt:
    """One process, for one attempt of a run."""

    def __init__(self, run: FlowRun, portable: Portable, job: bytes, bell: Bell) -> None:
        self._run = run
        self._portable = portable
        self._job = job
        self._bell = bell
        self._told: str | None = None  # the reason of the cancel that the child knows
        self._insisted = False
        self._killed = False
        self._suspensions = 0  # how often a suspension was asked
        self._suspended = False  # it is asked, or so
        self._parked = False
        self._said = b""
        self._code: int | None = None
        self._lost = False  # the supervisor is gone
        self._ended: tuple[Any, ...] | None = None
        self._deadline: float | None = None
        self._questions: dict[int, Question] = {}
        self._tasks: dict[int, TaskImage] = {}
        self._first_task = len(run.task_runs)
        self._bars, self._live = BarImages(), LiveImage()
        self._pid = 0
        self.inquiries = Inquiries(bell)

    @property
    def is_over(self) -> bool:
        """Whether the process does not answer any more."""
        return self._ended is not None or self._code is not None

    def where(self) -> list[Stack]:
        """Return where the process is, and what it has started. Any thread but the run's."""
        if not self._pid:
            return []
        stacks = None if self._suspended else self.inquiries.where()
        if stacks is None:
            silent = Stack(
                name=f"{self._run.name} ({self._pid})",
                kind="process",
                doing="suspended" if self._suspended else "running",
                frames=(),
                hint=None if self._suspended else _SILENT,
            )
            stacks = [silent]
        shown = [replace(stack, frames=tuple(map(_named_here, stack.frames))) for stack in stacks]
        return shown + [_of_process(*each) for each in tree.descendants(self._pid)]

    def run(self) -> State:
        """Run the body in a process, and return the state that it led to once all is gone."""
        try:
            self._supervisor, self._pid, descriptors = spawn()
        except OSError as error:
            return Crashed(f"Its process could not be started: {error}", data=error)
        self._channel = Channel(socket.socket(fileno=descriptors[0]))
        self._watch = descriptors[3]
        self._pipes = {
            fd: _Stream(self._run, source)
            for fd, source in zip(descriptors[1:3], ("stdout", "stderr"), strict=True)
        }
        for fd in (*self._pipes, self._watch):
            os.set_blocking(fd, False)
        self._run.bars = self._bars
        self._run._other_streams.add(self._live)
        try:
            self._send(self._order())
            while self._code is None:
                self._wait()
        finally:
            self._close()
        return self._state()

    def _order(self) -> Order:
        run = self._run
        loggers = [logging.root, *logging.Logger.manager.loggerDict.values()]
        try:
            cwd = os.getcwd()
        except FileNotFoundError:
            cwd = None
        return Order(
            job=self._job,
            is_async=self._portable.is_async,
            run_id=run.id,
            name=run.name,
            flow_name=run.flow_name,
            tags=run.tags,
            attempt=run.attempt,
            log_prints=run.captures,
            grace=run.options.cancel_grace_seconds,
            may_time_out=run.timeout is not None,
            refusals={kind: asking.can_ask(run, kind) for kind in ("approval", "input")},
            cwd=cwd,
            environ=dict(os.environ),
            path=list(sys.path),
            levels={
                "" if each is logging.root else each.name: each.level
                for each in loggers
                if isinstance(each, logging.Logger) and each.level
            },
        )

    # -- what is asked ------------------------------------------------------------------

    def _look(self) -> None:
        """Carry on what is asked of the run."""
        run = self._run
        if run.rung >= KILL or run.state_is_final() or self._is_overdue():
            if not self._killed:
                self._killed = True
                self._request(program.KILL)
            return
        self._hold_or_go_on()
        reason = run.cancel_reason
        if reason is not None and reason != self._told:
            self._told = reason
            self._send("cancel", reason, run.grace)
        if run.rung >= INTERRUPT and not self._insisted:
            self._insisted = True
            self._send("insist")
        for number, question in list(self._questions.items()):
            if question.answer is not None:
                del self._questions[number]
                self._send("answer", number, question.answer)
        while self.inquiries.wanted:
            self._send(*self.inquiries.wanted.pop(0))

    def _is_overdue(self) -> bool:
        return self._deadline is not None and monotonic() > self._deadline

    def _hold_or_go_on(self) -> None:
        run = self._run
        if run.held and not self._suspended:
            self._suspended = True
            self._suspensions += 1
            self._request(program.SUSPEND, self._suspensions)
        elif not run.held and self._suspended:
            if self._parked and not run.unpark_worker(unless_held=True):
                return  # it is held again
            self._parked = self._suspended = False
            self._request(program.CONTINUE)

    def _request(self, kind: bytes, number: int = 0) -> None:
        try:
            self._supervisor.request(kind, self._pid, number)
        except OSError:  # it is gone, which is told otherwise
            pass

    def _send(self, *message: Any) -> None:
        try:
            self._channel.send(*message)
        except OSError:  # the child is gone, which is told otherwise
            pass

    # -- what is heard ------------------------------------------------------------------

    def _wait(self) -> None:
        sources: list[Any] = [self._bell, self._watch, *self._pipes]
        if self._channel.open:
            sources.append(self._channel)
        self._look()
        left = None if self._deadline is None else max(self._deadline - monotonic(), 0.0) + 0.01
        if self._killed:
            left = None
        readable, _, _ = select.select(sources, [], [], left)
        if self._bell in readable:
            self._bell.silence()
        self._hear()
        if self._watch in readable:
            self._hear_supervisor()

    def _hear(self, *, everything: bool = False) -> None:
        for fd, stream in self._pipes.copy().items():
            if not stream.read(fd, everything=everything):
                self._pipes.pop(fd)
                os.close(fd)
        try:
            if self._channel.open:
                for what, *details in self._channel.available(everything=everything):
                    self._heed(what, details)
        except (EOFError, OSError):
            self._channel.close()

    def _hear_supervisor(self) -> None:
        try:
            said = os.read(self._watch, 4096)
        except BlockingIOError:
            return
        *words, self._said = (self._said + said).split(b"\n")
        for each in words:
            what, _, number = each.decode().partition(" ")
            if what == "gone":
                self._code = int(number)
            elif int(number) == self._suspensions and self._suspended and not self._parked:
                self._parked = True
                self._run.park_worker()
        if not said and self._code is None:
            self._code, self._lost = 0, True

    def _heed(self, what: str, details: list[Any]) -> None:
        run = self._run
        match what:
            case "line":
                run.log.add(*details)
            case "shown":
                self._bars.update(details[0])
                self._live.update(details[1])
                run.touch()
            case "task":
                self._show_task(details[0])
            case "output":
                how, *rest = details
                getattr(run.outputs, how)(*rest)
                run.touch()
            case "ask":
                self._questions[details[0]] = run.ask(details[1])
            case "withdraw":
                question = self._questions.pop(details[0], None)
                if question is not None:
                    run.withdraw(question)
            case "cancel":
                grace, reason = details
                run.cancel(grace, reason=reason)
            case "terminated":
                if run.cancel_reason is None:
                    run.log.add(logging.WARNING, "flow", "Its process was sent SIGTERM.")
                    run.cancel()
            case "refresh":
                if run.timeout is not None:
                    run.timeout.refresh(details[0])
            case "pause":
                try:
                    run.pause()
                except NotActive:
                    pass
            case "told":
                self._hear_body(details[0])
            case "answered":
                self.inquiries.arrived(*details)
            case "held":
                stuck, hint = details
                if run.ladder is not None:
                    run.ladder.held(_named_here(stuck), hint)
            case "ended":
                self._ended = tuple(details)
                self._deadline = monotonic() + _END_SECONDS

    def _hear_body(self, data: bytes) -> None:
        try:
            self._portable.hear(data)
        except Exception as error:
            text = f"What its process sent back cannot be read here: {plain_text(error)}"
            self._run.log.add(logging.WARNING, "flow", text)

    def _show_task(self, record: TaskRecord) -> None:
        run = self._run
        first = self._first_task
        parent = None if record.parent is None else record.parent + first
        record = record._replace(number=record.number + first, parent=parent)
        while len(run.task_runs) <= record.number:  # one that has not begun is not told of yet
            image = self._tasks[len(run.task_runs)] = TaskImage.unknown(len(run.task_runs))
            run.task_runs.append(image)
        image = self._tasks[record.number]
        image.update(record)
        run._history.task_changed(run.id, image)

    # -- its end --------------------------------------------------------------------------

    def _close(self) -> None:
        """Let go of everything; if it is not gone, something failed here: kill it."""
        run = self._run
        self.inquiries.end()
        if self._code is None:
            self._request(program.KILL)
            while self._code is None:
                select.select([self._watch], [], [])
                self._hear_supervisor()
        self._hear(everything=True)
        for fd, stream in self._pipes.items():
            os.close(fd)
            stream.close()
        self._channel.close()
        os.close(self._watch)
        if self._parked:
            run.unpark_worker()
        for question in self._questions.values():
            run.withdraw(question)
        run._other_streams.discard(self._live)
        self._bars.close()
        killed = run.cancel_reason is not None
        state = StateType.CANCELLED if killed else StateType.CRASHED
        for task in self._tasks.values():
            if task.end(state, "Its process has ended."):
                run._history.task_changed(run.id, task)

    def _state(self) -> State:
        run = self._run
        if self._ended is None:
            if (self._killed or self._lost) and run.cancel_reason is not None:
                run.note_delivery()
                return Cancelled("Its process was killed.")
            text = self._how_it_ended()
            return Crashed(text, data=CrashedRun(text))
        delivered, kind, name, message, data, described = self._ended
        if delivered:
            run.note_delivery()
        value = None
        if data is not None:
            try:
                value = cloudpickle.loads(data)
            except Exception as error:
                lost = f"What its process sent back cannot be read here: {plain_text(error)}"
                if kind == StateType.COMPLETED:
                    kind, name, message = StateType.FAILED, "", lost
        if isinstance(value, BaseException) or described is not None:
            value = value if isinstance(value, BaseException) else _stand_in(kind, message)
            if described is not None:
                value.__cause__ = RemoteTraceback(described)
        elif kind == StateType.COMPLETED:
            value = self._portable.accept(value)
        return State(StateType(kind), name, message, value)

    def _how_it_ended(self) -> str:
        code = self._code or 0
        if self._lost:
            return "The supervisor of processes has ended, and its process with it."
        if code >= 0:
            return f"Its process ended by itself, with the exit code {code}."
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = ", as when memory runs out" if -code == signal.SIGKILL else ""
        return f"Its process was ended by {name}{hint}."


def _named_here(frame: Frame) -> Frame:
    """Name the file of a frame as people know it."""
    return replace(frame, file=ports.show_file(frame.file))


def _of_process(pid: int, state: str, command: str) -> Stack:
    doing = "suspended" if state in tree.STOPPED else "running"
    return Stack(name=f"{command} ({pid})", kind="process", doing=doing, frames=())


def _stand_in(kind: str, message: str) -> BaseException:
    return CrashedRun(message) if kind == StateType.CRASHED else FailedRun(message)


class _Stream:
    """What a process writes to a descriptor: of its C code, and of commands that it runs."""

    def __init__(self, run: FlowRun, source: str) -> None:
        self._decode: Callable[..., str] = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._writer = LineWriter(run.log, STDOUT, source) if run.captures else None
        self._stream = sys.stdout if source == "stdout" else sys.stderr

    def read(self, fd: int, *, everything: bool) -> bool:
        """Take what is there, or some of it; return False when nothing more will come."""
        for _ in count() if everything else range(_MOST_READS):
            try:
                data = os.read(fd, 1 << 16)
            except BlockingIOError:
                return True
            text = self._decode(data, not data)
            if text:
                (self._writer or self._stream).write(text)
            if not data:
                self.close()
                return False
        return True

    def close(self) -> None:
        """Make a line of what has no newline."""
        if self._writer is not None:
            self._writer.close()

"""One process of one run, from its first byte to the end of the last one below it.

All of it happens on the run's own thread, which carries what the child says into the
run, and what is asked of the run to the child and the supervisor; `where` and
`inquiries` alone are for other threads.

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
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from multiprocessing.connection import wait
from time import monotonic
from typing import Any

import cloudpickle

from jupyter_flows.engine import asking, ports, slots
from jupyter_flows.engine.current import current_tags
from jupyter_flows.engine.life import INTERRUPT
from jupyter_flows.engine.logs import LineWriter
from jupyter_flows.engine.processes import link, tree
from jupyter_flows.engine.processes import supervisor as program
from jupyter_flows.engine.processes.child import Order
from jupyter_flows.engine.processes.images import BarImages, LiveImage, TaskImage
from jupyter_flows.engine.processes.inquiries import Bell, Inquiries
from jupyter_flows.engine.processes.lending import Lending
from jupyter_flows.engine.processes.pickling import Portable
from jupyter_flows.engine.processes.wire import Channel
from jupyter_flows.engine.questions import Question, read_plainly
from jupyter_flows.engine.runs import STDOUT, FlowRun
from jupyter_flows.engine.texts import RemoteTraceback, plain_text
from jupyter_flows.errors import CrashedRun, FailedRun, InvalidInput, NotActive
from jupyter_flows.records import Frame, Stack, TaskRecord, Waiting
from jupyter_flows.states import Cancelled, Crashed, State, StateType

_END_SECONDS = 5.0  # for a child to end once its run has
_MOST_READS = 16  # of a descriptor at once, as a process may write without end
_SILENT = "It does not answer: it is starting, or a call of code in C holds up all of its Python."


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
        self._lending = Lending()
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
            self._supervisor, self._pid, descriptors = link.spawn()
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
            current_tags=current_tags.get(),
            task_runner=run.options.task_runner,
            parameters=tuple(run.parameters),
            metadata=run.metadata,
            replay_of=run.replay_of,
            attempt=run.attempt,
            earlier_attempts=run.earlier_attempts,
            log_prints=run.captures,
            persist_result=run.options.persist_result,
            results_at=ports.results_at,
            grace=run.options.cancel_grace_seconds,
            may_time_out=run.timeout is not None,
            answers=dict(run.answers),
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
        if run.killed or run.state_is_final() or self._is_overdue():
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
            if question.answered:
                del self._questions[number]
                self._send("answer", number, question.value)
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
        readable: list[Any] = wait(sources, left)
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
                number, waiting = details
                self._questions[number] = run.ask(waiting, partial(self._check, number, waiting))
            case "withdraw":
                question = self._questions.pop(details[0], None)
                if question is not None:
                    run.withdraw(question)
            case "cancel":
                grace, reason = details
                run.cancel(grace, reason=reason)
            case "signalled":
                if run.cancel_reason is None:
                    run.log.add(logging.WARNING, "flow", f"Its process was sent {details[0]}.")
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
            case "lend":
                number, method, *arguments = details
                answer = self._lending.answer(method, *arguments)
                if number is not None:
                    self._send("lent", number, *answer)
                if method in ("leave", "set_limit"):
                    slots.look()
            case "waits":
                self._say_waiting(details[0])
            case "answered":
                self.inquiries.arrived(*details)
            case "held":
                stuck, hint = details
                if run.ladder is not None:
                    run.ladder.held(_named_here(stuck), hint)
            case "ended":
                self._ended = tuple(details)
                self._deadline = monotonic() + _END_SECONDS

    def _check(self, number: int, waiting: Waiting, text: str) -> str:
        """Read an answer as the process will, and return it as it travels. Any other thread."""
        if waiting.schema is None:
            read_plainly(waiting, text)
        elif self._run.held:
            raise InvalidInput(
                "The input cannot be checked while the run's process is suspended: resume the "
                "run first, without input, and then answer."
            )
        else:
            self.inquiries.check(number, text)
        return text

    def _say_waiting(self, waiting: Waiting | None) -> None:
        """Say for which slot the process waits, unless the run waits for a person."""
        run = self._run
        if run.waiting is None or run.waiting.kind == "slot":
            run.waiting = waiting
            run.changed()

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
        upstream = tuple([number + first for number in record.upstream])
        record = record._replace(number=record.number + first, parent=parent, upstream=upstream)
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
                wait([self._watch])
                self._hear_supervisor()
        self._hear(everything=True)
        for fd, stream in self._pipes.items():
            os.close(fd)
            stream.close()
        self._channel.close()
        os.close(self._watch)
        self._lending.end()
        slots.look()
        self._say_waiting(None)
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

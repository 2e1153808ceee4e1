"""A command and its threads, from its beginning until nothing of it is left.

Guarantees:

- However it ends, it is reaped, and its threads and pipes are gone.
- When `stop` returns, nothing of it is left: all its processes were sent SIGTERM, and
  after a grace SIGKILL.
- It never outlives this process: not its normal end, nor, by way of the guard, any other.
- All that it has said was read when it is said to have ended.
"""

from __future__ import annotations

import codecs
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass
from time import monotonic
from typing import IO, Any
from uuid import uuid4

from jupyter_flows.commands import link, system
from jupyter_flows.commands.descendants import Descendants, with_mark
from jupyter_flows.commands.sinks import Argument, Sink, name_of
from jupyter_flows.engine import ending
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.runs import STDERR, STDOUT
from jupyter_flows.engine.threads import EngineThread
from jupyter_flows.engine.waiting import Waiter
from jupyter_flows.errors import CommandFailed

LAST_GRACE = 0.3  # seconds between SIGTERM and SIGKILL while this process ends
CHUNK = 65_536  # bytes that are read at once
LOOKS = (0.001, 0.002, 0.005, 0.01, 0.02)  # seconds from one look at what is left to the next
READ_SECONDS = 1.0  # after the end: for output that is still in the pipes

Result = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run."""

    command: str | list[str]
    cwd: Argument | None
    env: Mapping[str, str] | None
    input: bytes | None
    grace: float
    sink: Callable[[int], Sink] | None


class Process:
    """A command, and the threads that start it and read what it says.

    A thread of its own starts it, so that an interrupt of the caller never comes
    between the beginning of the process and the knowledge of it.

    `start`, `stop` and `result` are for who made it; the others may be called by
    any thread.
    """

    def __init__(self, order: Order) -> None:
        self.name = name_of(order.command)
        self.ended = False
        self._order = order
        self._mark = str(uuid4())
        self._hurried = False
        self._given_up = False
        self._on_end: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._begun = Waiter()
        self._process: subprocess.Popen[bytes] | None = None
        self._error: Exception | None = None
        self._others: list[EngineThread] = []
        self._texts: dict[int, list[str]] = {STDOUT: [], STDERR: []}
        # the context says which cell the output of a command outside of runs belongs to
        self._reader = self._thread("out", self._run)

    def _thread(self, what: str, job: Callable[..., None], *arguments: Any) -> EngineThread:
        return EngineThread(f"{self.name} {what}", job, *arguments, context=copy_context())

    def start(self) -> None:
        """Start it.

        Raises:
            OSError: it cannot be started.
            ValueError: what it was given is not for the system, such as a null character.
        """
        self._reader.start()
        self._begun.wait()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        with self._lock:
            try:
                if not self._given_up:
                    self._process = self._begin()
            except Exception as error:  # no program, a wrong argument, no thread to read it
                self._error = error
        self._begun.wake()
        if self._process is not None:
            self._follow(self._process)

    def _begin(self) -> subprocess.Popen[bytes]:
        order, before = self._order, system.pids()
        with ExitStack() as ours, ExitStack() as theirs:
            out, to_out = _pipe(ours, theirs)
            err, to_err = _pipe(ours, theirs)
            link.expect(self._mark, to_out.fileno(), to_err.fileno())
            try:
                process = subprocess.Popen(
                    order.command,
                    shell=isinstance(order.command, str),
                    stdin=subprocess.DEVNULL if order.input is None else subprocess.PIPE,
                    stdout=to_out,
                    stderr=to_err,
                    bufsize=0,
                    cwd=order.cwd,
                    env=with_mark(os.environ if order.env is None else order.env, self._mark),
                    start_new_session=True,
                )
            except BaseException:
                self._let_go()
                raise
            link.begun(self._mark, process.pid)
            ours.pop_all()
        process.stdout, process.stderr = out, err
        self.descendants = Descendants({self._mark: process.pid}, before)
        _running.add(self)
        try:
            self._start_others(process)
        except RuntimeError:  # Python ends
            process.kill()
            self._let_go()
            process.communicate()
            raise
        return process

    def _let_go(self) -> None:
        """Nothing of it is to be ended any more, and it may be reaped."""
        _running.discard(self)
        link.forget(self._mark)

    def _start_others(self, process: subprocess.Popen[bytes]) -> None:
        """Start the threads that serve the pipes that this thread does not."""
        self._others.append(self._thread("err", self._read, process.stderr, STDERR))
        if self._order.input is not None:
            self._others.append(self._thread("in", _write, process.stdin, self._order.input))
        for thread in self._others:
            thread.start()

    def _read(self, pipe: IO[bytes], level: int) -> None:
        sink = self._order.sink
        _read(pipe, self._texts[level], None if sink is None else sink(level))

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        """Read to the end of the command, and say that it has come."""
        assert process.stdout is not None, "a pipe"
        self._read(process.stdout, STDOUT)
        for thread in self._others:
            thread.join()
        _wait_unreaped(process)
        self._let_go()
        with self._lock:
            self.ended = True
            told = list(self._on_end)
        for tell in told:
            tell()

    def on_end(self, tell: Callable[[], None]) -> None:
        """Call `tell` when it has ended and all that it said was read: at once, if it has."""
        with self._lock:
            self._on_end.append(tell)
            ended = self.ended
        if ended:
            tell()

    def hurry(self) -> None:
        """Wait for no grace: whoever stops it is to kill it."""
        self._hurried = True

    def stop(self, owner: Life | None) -> None:
        """Terminate all its processes, after a grace kill them; return when none is left."""
        with self._lock:
            self._given_up = True
        if self._process is None:  # it was not started, and will not be
            return
        grace = self._order.grace
        if ending.is_under_way():
            grace = min(grace, LAST_GRACE)
        elif owner is not None and owner.grace is not None:
            grace = min(grace, owner.grace)
        deadline = monotonic() + grace
        waiter = Waiter()
        self.on_end(waiter.wake)
        try:
            self.descendants.terminate()
            looks = 0
            while self.descendants.alive():
                killed = owner is not None and owner.killed
                if killed or self._hurried or monotonic() >= deadline:
                    self.descendants.kill()
                waiter.wait(LOOKS[min(looks, len(LOOKS) - 1)])
                looks += 1
        except BaseException:  # an interrupt by somebody who cannot wait
            self.descendants.kill()
            raise
        finally:
            self._let_go()
            self._process.poll()
            self._reader.join(READ_SECONDS)

    def result(self, check: bool) -> Result:
        """Return what came of it, now that it has ended.

        Raises:
            CommandFailed: its exit code is not 0, and `check` is true.
        """
        assert self._process is not None, "it has ended"
        returncode = self._process.wait()
        out, err = ("".join(self._texts[level]) for level in (STDOUT, STDERR))
        arguments = self._order.command
        if check and returncode:
            raise CommandFailed(returncode, arguments, out, err)
        return subprocess.CompletedProcess(arguments, returncode, out, err)


_running: set[Process] = set()


def _kill_all() -> None:
    """End the commands that still run: this process ends, and none is to outlive it."""
    for process in list(_running):
        process.hurry()
        process.descendants.kill()


ending.at_last.append(_kill_all)


def _wait_unreaped(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process; where that can be, leave it to be reaped."""
    try:
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        else:
            process.wait()
    except ChildProcessError:  # it was stopped, and reaped
        pass


def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """Return the two ends of a new pipe, which this process reads from."""
    read, write = os.pipe()
    return (
        ours.enter_context(open(read, "rb", buffering=0)),
        theirs.enter_context(open(write, "wb", buffering=0)),
    )


def _read(pipe: IO[bytes], texts: list[str], sink: Sink | None) -> None:
    """Take what a command says, to the end of the pipe."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with pipe:
        while True:
            chunk = pipe.read(CHUNK)
            text = decoder.decode(chunk, final=not chunk)
            texts.append(text)
            if sink is not None:
                sink.write(text)
            if not chunk:
                break
    if sink is not None:
        sink.close()


def _write(pipe: IO[bytes], input: bytes) -> None:
    """Give a command its input, as far as it reads it."""
    left = memoryview(input)
    try:
        with pipe:
            while left:
                left = left[pipe.write(left) :]
    except OSError:  # it has ended, or closed its stdin
        pass

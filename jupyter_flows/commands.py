"""`run_process`: a command that belongs to a run.

The caller waits in the engine, where a cancel, a timeout and a pause reach it;
threads of the engine read what the command says. What happens to the run happens
to the command: a pause suspends it, a cancel terminates it.

Guarantees:

- A run is PAUSED only when its commands are suspended, and goes on before they do.
- When a cancel is raised in the code, nothing of the command is left: all its
  processes were sent SIGTERM, and after a grace SIGKILL.
- Within a shield, and in a cleanup, a command is left to end, unless the run is
  killed.
- However it ends, it is reaped, and its threads and pipes are gone.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from time import monotonic
from typing import IO, Any, Protocol, TextIO
from uuid import uuid4

from jupyter_flows.engine import checkpoints, ending
from jupyter_flows.engine.current import called_from_async, current
from jupyter_flows.engine.life import KILL, Life
from jupyter_flows.engine.pausing import wait_in_run
from jupyter_flows.engine.runs import STDERR, STDOUT, FlowRun
from jupyter_flows.engine.shielding import in_shield, shield
from jupyter_flows.engine.threads import EngineThread
from jupyter_flows.engine.waiting import Waiter
from jupyter_flows.errors import CommandFailed

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
LAST_GRACE = 0.3  # the same while this process ends
CHUNK = 65_536  # bytes that are read at once
LOOKS = (0.001, 0.002, 0.005, 0.01, 0.02)  # seconds from one look at what is left to the next
READ_SECONDS = 1.0  # after the end: for output that is still in the pipes

Argument = str | os.PathLike[str]
Result = subprocess.CompletedProcess[str]


def run_process(
    command: str | Sequence[Argument],
    *,
    stream_output: bool = True,
    cwd: Argument | None = None,
    env: Mapping[str, str] | None = None,
    input: str | bytes | None = None,
    check: bool = True,
    grace: float = GRACE,
) -> Any:
    """Run a command to its end, and show what it says in the run's log as it comes.

    In async code the call is to be awaited. A cancel or a timeout of the run ends
    the command with all processes that it has started, by SIGTERM first; a pause
    suspends it. Outside of runs its output goes to stdout and stderr.

    Args:
        command: the program and its arguments, as a list; or a text, which a shell
            reads (``shell=True``): pipes, variables and wildcards work then, and
            what comes from others must be quoted by `shlex.quote`.
        stream_output: show each line as it comes.
        cwd: the directory to run it in.
        env: its whole environment; this process's by default.
        input: what it reads on its stdin, which is empty by default.
        check: raise `CommandFailed` if it ends with an exit code other than 0.
        grace: seconds between SIGTERM and SIGKILL; a cancel that says a shorter
            one (``run.cancel(grace=...)``, the kernel's shutdown) is heeded.

    Returns:
        A `subprocess.CompletedProcess` with `args`, `returncode`, `stdout` and
        `stderr`, both as text. Bytes that are no UTF-8 become �.

    Raises:
        CommandFailed: it failed; also a `subprocess.CalledProcessError`.
        FileNotFoundError: there is no such program.
        RunCancellation: the run is to stop, in sync code.
        asyncio.CancelledError: likewise, in async code.
    """
    if not isinstance(grace, int | float) or not isfinite(grace) or grace < 0:
        raise ValueError(f"grace must be a number of seconds, 0 or more, not {grace!r}.")
    owner, frame = current.get(), sys._getframe(1)
    order = _Order(
        command=command if isinstance(command, str) else [os.fspath(each) for each in command],
        cwd=cwd,
        env=env,
        input=input.encode() if isinstance(input, str) else input,
        grace=grace,
        sink=_sink(_name(command), owner) if stream_output else None,
    )
    if called_from_async(owner, frame):
        return _run_async(order, owner, check)
    if owner is not None and owner.pending:
        checkpoints.heed(owner, forced=False, frame=frame)
    process = _Process(order)
    try:
        process.start()
        with _part_of(owner, process):
            if owner is None:
                waiter = Waiter()
                process.on_end(waiter.wake)
                waiter.wait()
            else:
                heed = partial(checkpoints.raise_if_due, owner, frame, forced=False)
                wait_in_run(owner.flow_run, lambda: process.ended, process.on_end, heed=heed)
    except BaseException:
        with shield():
            process.stop(owner)
        raise
    return process.result(check)


async def _run_async(order: _Order, owner: Life | None, check: bool) -> Result:
    if owner is not None and owner.pending:
        await asyncio.sleep(0)
    process = _Process(order)
    try:
        process.start()
        with _part_of(owner, process):
            await _come(process.on_end)
    except GeneratorExit:  # nobody will run this coroutine any more: no more awaits
        process.hurry()
        process.stop(owner)
        raise
    except BaseException:
        await _stop_async(process, owner)
        raise
    return process.result(check)


async def _stop_async(process: _Process, owner: Life | None) -> None:
    """Stop a process without blocking the event loop, whoever cancels that."""
    told: list[Callable[[], None]] = []
    stopped = threading.Event()

    def stop() -> None:
        process.stop(owner)
        stopped.set()
        for tell in told:
            tell()

    def on_stop(tell: Callable[[], None]) -> None:
        told.append(tell)
        if stopped.is_set():
            tell()

    try:
        EngineThread(f"{process.name} is stopped", stop, context=Context()).start()
    except RuntimeError:  # Python ends, and starts no thread any more
        stop()
    while not stopped.is_set():
        try:
            await _come(on_stop)
        except asyncio.CancelledError:
            if owner is None:  # cancelled again: by somebody who cannot wait
                process.hurry()


async def _come(subscribe: Callable[[Callable[[], None]], None]) -> None:
    """Wait on an event loop until what was subscribed to has come."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def settle() -> None:
        if not future.done():
            future.set_result(None)

    def tell() -> None:
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the loop was closed: nobody waits any more
            pass

    subscribe(tell)
    await future


# -- what a run asks ----------------------------------------------------------------------


@contextmanager
def _part_of(owner: Life | None, process: _Process) -> Iterator[None]:
    """Let what is asked of a run reach a process while it runs."""
    if owner is None or in_shield():
        yield
        return
    hold = _Hold(owner, process)
    chain = owner.flow_run.chain
    for run in chain:
        run.book.waiters.add(hold)
    try:
        hold.wake()
        yield
    finally:
        for run in chain:
            run.book.waiters.discard(hold)
        hold.end()


class _Hold:
    """Suspends a process while one of its runs is held, and counts it as going on else."""

    def __init__(self, owner: Life, process: _Process) -> None:
        self._owner = owner
        self._process = process
        self._lock = threading.Lock()
        self._counted: tuple[FlowRun, ...] = ()  # the runs in whose books it goes on
        self._suspended = False
        self._ended = False

    def wake(self) -> None:
        """Look at what is asked. Any thread."""
        with self._lock:
            while not self._ended:
                if self._owner.rung >= KILL:
                    self._process.descendants.kill()
                    return
                if not any(run.held for run in self._owner.flow_run.chain):
                    if self._counted or self._goes_on():
                        return
                elif self._suspended:
                    return
                else:
                    self._process.descendants.suspend()
                    self._suspended = True
                    self._stands_still()

    def end(self) -> None:
        """The process has ended, or is to be stopped."""
        with self._lock:
            self._ended = True
            self._stands_still()

    def _goes_on(self) -> bool:
        """Let the process go on, unless one of its runs is held again."""
        for run in self._owner.flow_run.chain:
            if not run.start_command():
                self._stands_still()
                return False
            self._counted += (run,)
        if self._suspended:
            self._process.descendants.resume()
            self._suspended = False
        return True

    def _stands_still(self) -> None:
        counted, self._counted = self._counted, ()
        for run in counted:
            run.end_command()


# -- the process ----------------------------------------------------------------------------


class _Sink(Protocol):
    """Takes what a command says on one of its streams, as it comes."""

    def write(self, text: str, /) -> object: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What is to be run."""

    command: str | list[str]
    cwd: Argument | None
    env: Mapping[str, str] | None
    input: bytes | None
    grace: float
    sink: Callable[[int], _Sink] | None


class _Process:
    """A command, and the threads that start it and read what it says.

    A thread of its own starts it, so that an interrupt of the caller never comes
    between the beginning of the process and the knowledge of it.

    `start`, `stop` and `result` are for who made it; the others may be called by
    any thread.
    """

    def __init__(self, order: _Order) -> None:
        self.name = _name(order.command)
        self.ended = False
        self._order = order
        self._hurried = False
        self._given_up = False
        self._on_end: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._begun = Waiter()
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | RuntimeError | None = None
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
            except (OSError, RuntimeError) as error:  # no program, or no thread to read it
                self._error = error
        self._begun.wake()
        if self._process is not None:
            self._follow(self._process)

    def _begin(self) -> subprocess.Popen[bytes]:
        from psutil import pids  # imported where it is needed, as that takes its time

        from jupyter_flows.descendants import MARK, Descendants

        order, mark, before = self._order, str(uuid4()), pids()
        process = subprocess.Popen(
            order.command,
            shell=isinstance(order.command, str),
            stdin=subprocess.DEVNULL if order.input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=order.cwd,
            env={**(os.environ if order.env is None else order.env), MARK: mark},
            start_new_session=True,
        )
        try:
            self._start_others(process)
        except RuntimeError:  # Python ends
            process.kill()
            process.communicate()
            raise
        self.descendants = Descendants(process.pid, mark, before)
        _running.add(self)
        return process

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
        _running.discard(self)
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
                killed = owner is not None and owner.rung >= KILL
                if killed or self._hurried or monotonic() >= deadline:
                    self.descendants.kill()
                waiter.wait(LOOKS[min(looks, len(LOOKS) - 1)])
                looks += 1
        except BaseException:  # an interrupt by somebody who cannot wait
            self.descendants.kill()
            raise
        finally:
            _running.discard(self)
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


_running: set[_Process] = set()


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


def _read(pipe: IO[bytes], texts: list[str], sink: _Sink | None) -> None:
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


# -- what it says -----------------------------------------------------------------------------


def _name(command: str | Sequence[Argument]) -> str:
    """What the log calls a command: its program."""
    if isinstance(command, str):
        try:
            words = shlex.split(command, comments=True)
        except ValueError:  # a quote that is not closed: let the shell say so
            words = command.split()
        command = [word for word in words if "=" not in word]
    return Path(command[0]).name if command else "command"


def _sink(name: str, owner: Life | None) -> Callable[[int], _Sink]:
    """Return what makes the sink of a command's stdout or stderr, given which it is."""
    if owner is None or owner.stream(STDOUT) is None:
        return lambda level: _Shown(sys.stdout if level == STDOUT else sys.stderr)
    run = owner.flow_run
    source = name if owner is run else f"{owner.name} · {name}"
    return lambda level: _Logged(run, source)


class _Logged:
    """The log of a run."""

    def __init__(self, run: FlowRun, source: str) -> None:
        self._run = run
        self._writer = run.open_stream(source)
        self.write = self._writer.write

    def close(self) -> None:
        self._run.close_stream(self._writer)


class _Shown:
    """A stream of this process."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # it was closed, or cannot show such characters
            self._stream = None

    def close(self) -> None:
        return

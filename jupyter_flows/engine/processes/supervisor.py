"""The program beside the kernel that forks, suspends, kills and reaps.

It is started by `link` with one end of a socket, and serves requests of a letter, a
process id and a number (`REQUEST`):

    SPAWN      hand over a fresh child: its id, and the descriptors of its socket, its
               stdout and stderr, and the pipe on which its end will be told
    SUSPEND    stop the child and all below it; ``stopped NUMBER`` is said on that pipe
               when none of them moves
    CONTINUE   let them go on
    KILL       kill it and all below it

``gone CODE`` is the last word on a child's pipe (a negative code is a signal's number):
then it and all below it is gone.

Guarantees:

- One thread, no user code. Only its own descendants are ever sent a signal.
- A look at all processes is made only while something is to be done.
- When the kernel's end of the socket closes, when another process becomes its parent,
  or on SIGTERM, everything below it is killed, again and again until nothing is left.
"""

from __future__ import annotations

import array
import gc
import importlib
import os
import signal
import socket
import struct
import sys
import time
import traceback
import types
from multiprocessing.connection import wait
from typing import NoReturn

from jupyter_flows.engine import capture
from jupyter_flows.engine.processes import child as child_process
from jupyter_flows.engine.processes.clock import SharedClock
from jupyter_flows.engine.processes.tree import (
    ADOPTS,
    STOPPED,
    adopt_orphans,
    below,
    die_with_parent,
    send,
    snapshot,
)
from jupyter_flows.engine.processes.tree import CONTINUE as SIGCONT
from jupyter_flows.engine.processes.tree import KILL as SIGKILL
from jupyter_flows.engine.processes.tree import STOP as SIGSTOP

REQUEST = struct.Struct("<cii")
SPAWN, SUSPEND, CONTINUE, KILL = b"S", b"P", b"C", b"K"
READY = b"R"

_IDLE = 0.5  # seconds between two looks for a kernel that is gone
_BUSY = 0.002  # between two steps of what is under way, at first
_LATER = 0.02  # and later: who is killed needs the processor to end


class _Child:
    """A process for one attempt of a run."""

    def __init__(self) -> None:
        self.clock = SharedClock()
        self._ends = socket.socketpair()
        self._out, self._err, self._told = os.pipe(), os.pipe(), os.pipe()
        self.code: int | None = None  # how it ended
        self.killing = False
        self.suspending: int | None = None  # the number of the request
        self.stopped: set[int] = set()
        self.since = 0.0  # when it was suspended
        self.calm = False  # the last look found nothing more to do
        self.pid = os.fork()
        if not self.pid:
            self._begin()
        self._ends[1].close()
        os.close(self._out[1])
        os.close(self._err[1])

    def _begin(self) -> NoReturn:
        try:
            die_with_parent()
            child_process.main(self._ends[1], self._out[1], self._err[1], self.clock)
        except BaseException:
            traceback.print_exc()  # which the kernel shows as what the process wrote to stderr
        finally:
            os._exit(1)

    @property
    def descriptors(self) -> list[int]:
        """What the kernel gets: socket, stdout, stderr, and where the end is told."""
        return [self._ends[0].fileno(), self._out[0], self._err[0], self._told[0]]

    def handed_over(self) -> None:
        """Close what is the kernel's now."""
        self._ends[0].close()
        for pipe in (self._out, self._err, self._told):
            os.close(pipe[0])

    def tell(self, text: str) -> None:
        """Say something to the kernel, if that still listens."""
        try:
            os.write(self._told[1], f"{text}\n".encode())
        except OSError:
            pass

    def close(self) -> None:
        """Say how it ended; nothing of it is left."""
        self.tell(f"gone {self.code}")
        os.close(self._told[1])
        self.clock.close()

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self.killing or self.suspending is not None or self.code is not None


class Supervisor:
    """Serves one kernel."""

    def __init__(self, control: socket.socket, kernel: int, wake: socket.socket) -> None:
        self._control = control
        self._kernel = kernel
        self._wake = wake  # readable after a signal
        self._children: dict[int, _Child] = {}
        self._spare: _Child | None = None
        self._received = b""
        self.ended = False  # by SIGTERM

    def serve(self) -> NoReturn:
        """Serve until the kernel is gone."""
        self._make_spare()
        self._control.sendall(READY)
        pause = _BUSY
        while not self.ended and os.getppid() == self._kernel:
            busy = any(child.busy for child in self._children.values())
            pause = min(1.5 * pause, _LATER) if busy else _BUSY
            waits = [self._control, self._wake]
            readable = wait(waits, pause if busy else _IDLE)
            if readable:
                pause = _BUSY
            if self._wake in readable:
                self._wake.recv(4096)
            if self._control in readable and not self._take_requests():
                break
            self._reap()
            self._step()
            self._make_spare()
        self.end_all()

    def _make_spare(self) -> None:
        if self._spare is None:
            try:
                self._spare = _Child()
            except OSError:  # the system has no process left: tried again later
                return
            self._children[self._spare.pid] = self._spare

    def _take_requests(self) -> bool:
        try:
            data = self._control.recv(4096)
        except OSError:
            data = b""
        self._received += data
        while len(self._received) >= REQUEST.size:
            kind, pid, number = REQUEST.unpack_from(self._received)
            self._received = self._received[REQUEST.size :]
            if kind == SPAWN:
                self._hand_over()
            elif (child := self._children.get(pid)) is not None and child.code is None:
                self._serve_child(kind, child, number)
        return bool(data)

    def _hand_over(self) -> None:
        self._make_spare()
        child, self._spare = self._spare, None
        if child is None:
            self._control.sendall(struct.pack("<i", 0))
            return
        rights = array.array("i", child.descriptors)
        self._control.sendmsg(
            [struct.pack("<i", child.pid)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        )
        child.handed_over()

    def _serve_child(self, kind: bytes, child: _Child, number: int) -> None:
        if kind == KILL:
            child.killing = True
            child.calm = False
            send([child.pid], SIGSTOP)  # so that it starts nothing new
        elif kind == SUSPEND:
            if not child.since:
                child.since = time.monotonic()
            child.suspending = number
            child.calm = False
            send([child.pid], SIGSTOP)
            child.stopped.add(child.pid)
        elif kind == CONTINUE and child.since:
            child.clock.lose(time.monotonic() - child.since)
            child.since = 0.0
            child.suspending = None
            stopped, child.stopped = child.stopped, set()
            if not child.killing:
                send(sorted(stopped & {child.pid, *below([child.pid], snapshot())}), SIGCONT)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self._children.get(pid)
            if child is not None:
                child.code = os.waitstatus_to_exitcode(status)
                child.calm = False
                if child is self._spare:
                    self._spare = None

    def _step(self) -> None:
        """Go on with what is under way."""
        busy = [child for child in self._children.values() if child.busy]
        if not busy:
            return
        processes = snapshot()
        for child in busy:
            if child.code is not None:
                self._sweep(child, processes)
            elif child.killing:
                self._kill(child, processes)
            else:
                self._suspend(child, processes)

    def _suspend(self, child: _Child, processes: dict[int, tuple[int, str]]) -> None:
        tree = [child.pid, *below([child.pid], processes)]
        moving = [pid for pid in tree if pid in processes and processes[pid][1] not in STOPPED]
        send(moving, SIGSTOP)
        child.stopped.update(moving)
        if not moving and child.calm:
            child.tell(f"stopped {child.suspending}")
            child.suspending = None
        child.calm = not moving

    def _kill(self, child: _Child, processes: dict[int, tuple[int, str]]) -> None:
        """Kill a tree: what is born meanwhile becomes the supervisor's, and is swept.

        Where nobody adopts, the child is left until nothing is below it.
        """
        tree = below([child.pid], processes)
        send(tree, SIGKILL)
        if ADOPTS or (not tree and child.calm):
            send([child.pid], SIGKILL)
        child.calm = not tree

    def _sweep(self, child: _Child, processes: dict[int, tuple[int, str]]) -> None:
        """End what a child that has ended left behind: it has become the supervisor's."""
        mine = below([os.getpid()], processes)
        direct = [pid for pid in mine if processes[pid][0] == os.getpid()]
        orphans = [pid for pid in direct if pid not in self._children]
        send([*orphans, *below(orphans, processes)], SIGKILL)
        if not orphans and child.calm:
            del self._children[child.pid]
            child.close()
        child.calm = not orphans

    def end_all(self) -> NoReturn:
        """Kill everything below, and end."""
        while True:
            send(below([os.getpid()], snapshot()), SIGKILL)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                os._exit(0)
            time.sleep(_BUSY)


def main(control: int, kernel: int, prepare: list[str]) -> NoReturn:
    """Be the supervisor of a kernel.

    Args:
        control: the descriptor of the socket to the kernel.
        kernel: its process id.
        prepare: functions, as ``module:name``, to call now so that children need not.
    """
    wake, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    supervisor = Supervisor(socket.socket(fileno=control), kernel, wake)

    def stop(*_: object) -> None:
        supervisor.ended = True

    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    adopt_orphans()
    del sys.modules["__main__"]  # this program, which is nothing to a run
    capture.install()
    for name in prepare:
        module, _, function = name.partition(":")
        getattr(importlib.import_module(module), function)()
    sys.modules.setdefault("__main__", types.ModuleType("__main__"))
    gc.collect()
    gc.freeze()
    try:
        supervisor.serve()
    except BaseException:
        traceback.print_exc()
    finally:  # it fails: better none of its processes than some that nobody ends
        supervisor.end_all()

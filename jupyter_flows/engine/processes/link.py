"""The kernel's end of the conversation with its supervisor. Any thread may call.

Guarantees:

- There is one supervisor for this process, and one that has ended is replaced.
- Children are handed over one after the other, each to who asked for it.
- It ends with this process, at the latest.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from _thread import allocate_lock
from contextlib import suppress

from jupyter_flows.engine import ending, ports
from jupyter_flows.engine.processes import supervisor as program

_READY_SECONDS = 30.0  # for a supervisor to begin
_END_SECONDS = 0.5  # and to end
_PROGRAM = (
    "import json, sys; path, control, kernel, prepare = json.loads(sys.argv[1]); "
    "sys.path[:] = path; from jupyter_flows.engine.processes.supervisor import main; "
    "main(control, kernel, prepare)"
)


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
        talking = self.kernel == os.getpid() and self._socket.fileno() >= 0
        return talking and self._process.poll() is None

    def spawn(self) -> tuple[int, list[int]]:
        """Return a fresh child's process id and descriptors.

        Raises:
            ConnectionError: the supervisor is gone.
            OSError: the system has no process left.
        """
        with self._spawning:
            try:
                self.request(program.SPAWN)
                answer, descriptors, _, _ = socket.recv_fds(self._socket, 4, 4)
            except OSError:  # it is gone, or was hung up on
                answer, descriptors = b"", []
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

    def hang_up(self) -> None:
        """Talk to it no more: if it still is there, it kills all that is left, and ends."""
        with suppress(OSError):  # it was hung up on, or is gone
            self._socket.shutdown(socket.SHUT_RDWR)  # nobody waits for an answer any more
        with self._spawning, self._sending:
            self._socket.close()

    def wait(self, seconds: float) -> None:
        """Wait for its end, once nobody talks to it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)


_starting = threading.Lock()
_supervisor: Supervisor | None = None


def supervisor() -> Supervisor:
    """Return the supervisor of this process; starts it when there is none."""
    global _supervisor
    with _starting:
        if _supervisor is None or not _supervisor.serves:
            if _supervisor is not None and _supervisor.kernel == os.getpid():
                _supervisor.hang_up()
                _supervisor.wait(_END_SECONDS)
            _supervisor = Supervisor()
            if close not in ending.at_last:
                ending.at_last.append(close)
        return _supervisor


def spawn() -> tuple[Supervisor, int, list[int]]:
    """Return a fresh child's supervisor, process id and descriptors.

    Raises:
        OSError: no supervisor can be started.
    """
    current = supervisor()
    try:
        return current, *current.spawn()
    except ConnectionError:  # it has just ended
        current.hang_up()
        current = supervisor()
        return current, *current.spawn()


def close() -> None:
    """End the supervisor, and with it every process of a run."""
    global _supervisor
    with _starting:
        last, _supervisor = _supervisor, None
    if last is not None and last.kernel == os.getpid():
        last.hang_up()
        last.wait(_END_SECONDS)

"""The processes of a command: all that it has started, and how they are told to end.

What belongs to a command is found by three marks, as any one of them can be lost:
its process group, its session, and a variable of its environment, which follows a
daemon that has left both.

Rules:

- Signals reach the process group at once and as a whole. They may be sent only as
  long as the command itself has not been reaped: then its number cannot have
  become another's.
- A process that only waits to be reaped is not alive.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

import psutil

MARK = "JUPYTER_FLOWS_COMMAND"
"""The environment variable that the processes of a command carry."""

_SIGNALS = {"terminate": "SIGTERM", "kill": "SIGKILL", "suspend": "SIGSTOP", "resume": "SIGCONT"}
_HAS_GROUPS = hasattr(os, "killpg")  # everywhere but on Windows


class Descendants:
    """The processes of one command, itself included; for one thread at a time."""

    def __init__(self, pid: int, mark: str, before: Iterable[int]) -> None:
        """Take the id of a process, its mark, and the ids that there were before it began."""
        self._pid = pid
        self._mark = mark
        self._strangers = set(before)  # also those that carry another environment
        self._untouchable: set[int] = set()  # that became somebody else's, by sudo for instance

    def alive(self) -> list[psutil.Process]:
        """Return those that have not ended and can be told to."""
        found = (self._own(pid) for pid in psutil.pids() if pid not in self._untouchable)
        return [process for process in found if process is not None]

    def terminate(self) -> None:
        """Ask all of them to end."""
        self._tell_group("terminate")
        self._tell_others("terminate")
        self.resume()  # one that is suspended does not hear of it

    def kill(self) -> None:
        """End all of them."""
        self._tell_group("kill")
        self._tell_others("kill")

    def suspend(self) -> None:
        """Hold the group still."""
        self._tell_group("suspend")

    def resume(self) -> None:
        """Let the group go on."""
        self._tell_group("resume")

    def _tell_group(self, verb: str) -> None:
        if not _HAS_GROUPS:
            if verb in ("suspend", "resume"):
                self._tell_others(verb)
            return
        try:
            os.killpg(self._pid, getattr(signal, _SIGNALS[verb]))
        except (ProcessLookupError, PermissionError):
            pass

    def _tell_others(self, verb: str) -> None:
        """Tell those that are not in the group: all of them, where there are no groups."""
        for process in self.alive():
            try:
                if not _HAS_GROUPS or os.getpgid(process.pid) != self._pid:
                    getattr(process, verb)()
                elif verb == "kill":
                    os.kill(process.pid, 0)
            except (psutil.NoSuchProcess, ProcessLookupError):
                pass
            except (psutil.AccessDenied, PermissionError):
                self._untouchable.add(process.pid)

    def _own(self, pid: int) -> psutil.Process | None:
        """Return a process if it is one of the command's and has not ended."""
        try:
            if not self._is_of_session(pid):
                if pid in self._strangers:
                    return None
                environment = psutil.Process(pid).environ()
                if environment.get(MARK) != self._mark:
                    if environment:  # it has none in the moment in which it begins
                        self._strangers.add(pid)
                    return None
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.AccessDenied:
            self._strangers.add(pid)
        except (psutil.Error, OSError):
            pass
        return None

    def _is_of_session(self, pid: int) -> bool:
        return _HAS_GROUPS and os.getsid(pid) == self._pid

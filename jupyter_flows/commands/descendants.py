"""The processes of commands: all that they have started, and how they are told to end.

What belongs to a command is found by three marks, as any one of them can be lost:
its process group, its session, and a variable of its environment, which follows a
daemon that has left both. A command that has just begun, so that its process id is not
known yet, is also found by the pipes that its output goes to.

Rules:

- Signals reach a process group at once and as a whole. They may be sent only as
  long as the command itself has not been reaped: then its number cannot have
  become another's.
- A process that only waits to be reaped is not alive.
- A command of a command carries the marks of both.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping

from jupyter_flows.commands import system

MARK = "JUPYTER_FLOWS_COMMAND"
"""The environment variable that the processes of a command carry."""

_BETWEEN = ":"  # two marks
_SIGNALS = {"terminate": "SIGTERM", "kill": "SIGKILL", "suspend": "SIGSTOP", "resume": "SIGCONT"}


def with_mark(environment: Mapping[str, str], mark: str) -> dict[str, str]:
    """Return an environment in which a command carries its mark, and those of this process."""
    outer = os.environ.get(MARK)
    return {**environment, MARK: mark if outer is None else outer + _BETWEEN + mark}


class Beginning:
    """A command of which nothing is known but that it may be about to begin."""

    __slots__ = ("pipes", "session")

    def __init__(self, session: int, pipes: frozenset[int]) -> None:
        """Take what is known before.

        Args:
            session: that of who starts it; the command gets one of its own.
            pipes: those that its output goes to, by the system's numbers for them.
        """
        self.session = session
        self.pipes = pipes


class Descendants:
    """The processes of some commands, themselves included; for one thread at a time."""

    def __init__(self, commands: Mapping[str, int | Beginning], before: Iterable[int] = ()) -> None:
        """Take the process id of each command, by its mark, and who cannot be one of them.

        Args:
            commands: what is known of each: its process id, or that it is to begin.
            before: the ids that there were before any of them began.
        """
        self._marks = frozenset(commands)
        self._beginnings = [each for each in commands.values() if isinstance(each, Beginning)]
        # of groups and sessions
        self._leaders = {each for each in commands.values() if not isinstance(each, Beginning)}
        self._strangers = set(before)  # also those that carry another environment
        self._untouchable: set[int] = set()  # that became somebody else's, by sudo for instance

    @property
    def have_begun(self) -> bool:
        """Whether the process id of each command is known."""
        return not self._beginnings

    def alive(self) -> list[int]:
        """Return those that have not ended and can be told to."""
        return [
            pid for pid in system.pids() if pid not in self._untouchable and self._is_alive(pid)
        ]

    def terminate(self) -> None:
        """Ask all of them to end."""
        self._tell_groups("terminate")
        self._tell_others("terminate")
        self.resume()  # one that is suspended does not hear of it

    def kill(self) -> None:
        """End all of them."""
        self._tell_groups("kill")
        self._tell_others("kill")

    def suspend(self) -> None:
        """Hold the groups still."""
        self._tell_groups("suspend")

    def resume(self) -> None:
        """Let the groups go on."""
        self._tell_groups("resume")

    def _tell_groups(self, verb: str) -> None:
        if not system.HAS_GROUPS:
            if verb in ("suspend", "resume"):
                self._tell_others(verb)
            return
        for leader in self._leaders:
            try:
                os.killpg(leader, getattr(signal, _SIGNALS[verb]))
            except (ProcessLookupError, PermissionError):
                pass

    def _tell_others(self, verb: str) -> None:
        """Tell those that are in none of the groups: all of them, where there are no groups."""
        for pid in self.alive():
            try:
                if not system.HAS_GROUPS:
                    _tell_by_psutil(pid, verb)
                elif os.getpgid(pid) not in self._leaders:
                    os.kill(pid, getattr(signal, _SIGNALS[verb]))
                elif verb == "kill":
                    os.kill(pid, 0)
            except ProcessLookupError:
                pass
            except PermissionError:
                self._untouchable.add(pid)

    def _is_alive(self, pid: int) -> bool:
        """Whether a process is one of the commands' and has not ended."""
        try:
            session = os.getsid(pid) if system.HAS_GROUPS else 0
        except OSError:  # it has ended, or is out of sight
            return False
        if session not in self._leaders:
            if pid in self._strangers:
                return False
            marks = system.variable(pid, MARK)
            if marks is not None and not self._marks.isdisjoint(marks.split(_BETWEEN)):
                if session == pid and self._beginnings:
                    self._leaders.add(pid)
            elif self._writes_to_one(pid, session):
                self._leaders.add(session)
            else:
                if marks is not None and not self._beginnings:  # else it may become a command
                    self._strangers.add(pid)
                return False
        return not system.has_ended(pid)

    def _writes_to_one(self, pid: int, session: int) -> bool:
        """Whether the output of a process goes where that of a command goes that begins."""
        return any(
            session != each.session and not each.pipes.isdisjoint(system.output_pipes(pid))
            for each in self._beginnings
        )


def _tell_by_psutil(pid: int, verb: str) -> None:
    import psutil

    try:
        getattr(psutil.Process(pid), verb)()
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError from error
    except psutil.AccessDenied as error:
        raise PermissionError from error

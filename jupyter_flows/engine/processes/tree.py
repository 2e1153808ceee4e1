"""Which processes descend from which.

A look at all processes of the machine, some milliseconds long: what is born or dies
meanwhile may be missed, so whoever must be sure looks until nothing changes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterable

import psutil

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36

ADOPTS = sys.platform == "linux"  # whether a process can adopt the orphans below it
STOPPED = frozenset("Tt")
_LONGEST_COMMAND = 200  # characters of a command line
_DEAD = frozenset("ZX")
_LETTERS = {psutil.STATUS_STOPPED: "T", psutil.STATUS_TRACING_STOP: "t", psutil.STATUS_ZOMBIE: "Z"}


def snapshot() -> dict[int, tuple[int, str]]:
    """Return the parent and the state, a letter as in ``ps``, of every process alive."""
    found = _from_proc() if os.path.exists("/proc/self/stat") else _from_psutil()
    return {pid: each for pid, each in found.items() if each[1] not in _DEAD}


def _from_proc() -> dict[int, tuple[int, str]]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split(maxsplit=2)[:2]
            except OSError:  # it has just ended
                continue
            found[int(name)] = (int(parent), state.decode())
    return found


def _from_psutil() -> dict[int, tuple[int, str]]:
    found = {}
    for process in psutil.process_iter(["ppid", "status"]):
        info = process.info
        found[process.pid] = (info["ppid"] or 0, _LETTERS.get(info["status"], "S"))
    return found


def below(roots: Iterable[int], processes: dict[int, tuple[int, str]]) -> list[int]:
    """Return the descendants of `roots`, parents before their children; not the roots."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in processes.items():
        children.setdefault(parent, []).append(pid)
    found = [child for root in roots for child in children.get(root, ())]
    for pid in found:
        found += children.get(pid, ())
    return found


def descendants(root: int) -> list[tuple[int, str, str]]:
    """Return the id, the state and the command line of each descendant of a process."""
    processes = snapshot()
    found = []
    for pid in below([root], processes):
        try:
            command = " ".join(psutil.Process(pid).cmdline())
        except psutil.Error:  # it has just ended
            continue
        found.append((pid, processes[pid][1], command[:_LONGEST_COMMAND]))
    return found


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes, of which some may have ended."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass


KILL, STOP, CONTINUE = (
    getattr(signal, name, 0) for name in ("SIGKILL", "SIGSTOP", "SIGCONT")
)  # 0 on Windows, which has none of them


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, where the system can."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Be killed when the supervisor ends. (It has one thread: the one that forks.)"""
    _prctl(_PR_SET_PDEATHSIG, KILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)

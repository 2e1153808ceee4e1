"""What the system tells about processes: from /proc where there is one, else by psutil.

Rules:

- The standard library alone, until psutil is needed: the guard, which is to begin at
  once, imports this.
- Processes come and go: what has ended is told to have ended, and nothing is raised.
"""

from __future__ import annotations

import os

HAS_GROUPS = hasattr(os, "killpg")  # of processes, and sessions: everywhere but on Windows
HAS_PROC = os.path.exists("/proc/self/environ")

_ENDED = ("Z", "X")  # states, as in ps


def pids() -> list[int]:
    """Return the ids of all processes."""
    if HAS_PROC:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    import psutil

    return psutil.pids()


def variable(pid: int, name: str) -> str | None:
    """Return a variable of a process's environment.

    It is empty if the process has none of that name, or does not show it; and None if
    there is no environment: in the moment in which it begins, and when it has ended.
    """
    if not HAS_PROC:
        return _variable_by_psutil(pid, name)
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except PermissionError:
        return ""
    except OSError:
        return None
    if not environment:
        return None
    _, found, rest = (b"\0" + environment).partition(f"\0{name}=".encode())
    return os.fsdecode(rest.partition(b"\0")[0]) if found else ""


def _variable_by_psutil(pid: int, name: str) -> str | None:
    import psutil

    try:
        environment = psutil.Process(pid).environ()
    except psutil.AccessDenied:
        return ""
    except (psutil.Error, OSError):
        return None
    return environment.get(name, "") if environment else None


def output_pipes(pid: int) -> frozenset[int]:
    """Return the numbers of the pipes that its stdout and stderr are, as far as it is seen."""
    found = set()
    for descriptor in (1, 2) if HAS_PROC else ():
        try:
            kind, _, number = os.readlink(f"/proc/{pid}/fd/{descriptor}").partition(":")
        except OSError:
            continue
        if kind == "pipe":
            found.add(int(number.strip("[]")))
    return frozenset(found)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or only waits to be reaped."""
    if not HAS_PROC:
        return _has_ended_by_psutil(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split(maxsplit=1)[0].decode() in _ENDED
    except OSError:
        return True


def _has_ended_by_psutil(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return False
    except (psutil.Error, OSError):
        return True

"""The processes that commands have started, as tests look for them."""

import os

import psutil

from jupyter_flows.commands.descendants import MARK

STUBBORN = "trap '' TERM; echo on; while :; do sleep 0.1; done"  # a shell that ignores SIGTERM


def commands_below():
    """Return the processes below this one that commands have started."""
    found = []
    for each in psutil.Process().children(recursive=True):
        try:
            zombie = each.status() == psutil.STATUS_ZOMBIE
            if zombie or MARK in each.environ():
                found.append(each)
        except psutil.NoSuchProcess:
            pass
    return found


def carrying(name, value):
    """Return the processes of this machine that have a variable in their environment."""
    found = []
    for each in psutil.process_iter():
        try:
            if each.environ().get(name) == value and alive(each.pid):
                found.append(each)
        except psutil.Error:
            pass
    return found


def described(pid):
    """Say of a process what helps to find out why it is still there."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return (
                f"{pid} {process.cmdline()} {process.status()}, parent {process.ppid()}, group "
                f"{os.getpgid(pid)}, session {os.getsid(pid)}, {process.environ().get(MARK)!r}"
            )
    except (psutil.Error, ProcessLookupError):
        return f"{pid} has ended"


def alive(pid):
    """Whether a process has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pipes():
    """Return the pipes that this process has open."""
    found = set()
    for each in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{each}")
        except FileNotFoundError:
            continue
        if target.startswith("pipe:"):
            found.add(target)
    return found

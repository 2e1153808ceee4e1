"""The program beside this process that ends its commands when it is gone.

It is started by `link` with one end of a pipe, on which it hears, a line each:

    ? MARK SESSION PIPE PIPE  a command is about to begin: in a session of its own, which
                              is not this one, and with these pipes for its output
    + MARK PID                it has begun, and this is its process id
    - MARK                    nothing of it is to be ended any more: from now on it may be
                              reaped

Guarantees:

- When nobody holds the other end any more, or another process becomes its parent, all
  processes of the commands that it has heard of are killed, again and again until
  nothing is left. Then it ends; at once, if there are none.
- What was written before the end is heeded, also when that came before it could read.
- A command that began in the moment of the end is waited for, and found by its mark or,
  where there is /proc, by its pipes. (A process of it that has by then left its session
  and its environment, and writes elsewhere, is lost.)
- It is in a session of its own and heeds no signal, so what ends the process beside it
  does not reach it.
- It imports next to nothing, and never the package's own ``__init__``.
"""

from __future__ import annotations

import os
import select
import signal
import time

from jupyter_flows.commands.descendants import Beginning, Descendants

_IDLE = 0.5  # seconds between two looks for a parent that is gone
_BEGINS = 3.0  # seconds in which a command that was about to begin has begun
_CALM = 0.5  # seconds in which nothing is found, until that is believed: who is just
# becoming another program shows no environment, and on a busy machine that takes a while
_PAUSES = (0.005, 0.01, 0.02, 0.05)  # seconds from one look to the next


def main(pipe: int, parent: int) -> None:
    """Be the guard of a process, and end.

    Args:
        pipe: the descriptor on which it hears of commands.
        parent: the id of that process.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    commands = _hear(pipe, parent)
    if commands:
        _end(commands)
    os._exit(0)


def _hear(pipe: int, parent: int) -> dict[str, int | Beginning]:
    """Return the commands that are left when the process beside this one has ended."""
    os.set_blocking(pipe, False)
    poll = select.poll()
    poll.register(pipe, 0)  # for its end alone: what is said may wait, and costs nobody time
    commands: dict[str, int | Beginning] = {}
    unread = b""
    orphaned = False
    while True:
        if not orphaned:
            poll.poll(_IDLE * 1000)
            orphaned = os.getppid() != parent  # before the read: nothing more is written then
        try:
            data = os.read(pipe, 65_536)
        except BlockingIOError:
            if orphaned:
                return commands
            continue
        if not data:
            return commands
        *lines, unread = (unread + data).split(b"\n")
        for line in lines:
            what, mark, *numbers = line.decode().split()
            if what == "?":
                session, *pipes = map(int, numbers)
                commands[mark] = Beginning(session, frozenset(pipes))
            elif what == "+":
                commands[mark] = int(numbers[0])
            else:
                commands.pop(mark, None)


def _end(commands: dict[str, int | Beginning]) -> None:
    """Kill all processes of the commands, until nothing is left."""
    descendants = Descendants(commands)
    descendants.kill()
    until = time.monotonic() + (0 if descendants.have_begun else _BEGINS)
    looks = 0
    found = time.monotonic()
    while time.monotonic() < max(found + _CALM, until):
        time.sleep(_PAUSES[min(looks, len(_PAUSES) - 1)])
        looks += 1
        if descendants.alive():
            found = time.monotonic()
            descendants.kill()

"""This process's end of the conversation with its guard. Any thread may call.

Guarantees:

- From before a command begins until before it is reaped the guard knows of it. What is
  said waits in a pipe, so nobody waits for the guard to begin.
- There is one guard for this process, started when it is first needed; one that has
  ended is replaced when the next command begins, and hears of all that run.
- Where none can be started, commands run without.
- A forked child has nothing of its parent's guard, and gets its own.

There is none in a process whose end is another's business (`ports.adopted`), and none on
Windows.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from pathlib import Path

from jupyter_flows.commands.descendants import MARK, Beginning
from jupyter_flows.engine import ports

_PATIENCE = 2_000  # milliseconds that a guard may take to read, when the pipe is full
_PROGRAM = """\
import sys
pipe, parent, folder, *path = sys.argv[1:]
for name in ("jupyter_flows", "jupyter_flows.commands"):  # as they are, but for their __init__
    package = sys.modules[name] = type(sys)(name)
    package.__path__ = [folder + "/" + name.replace(".", "/")]
sys.path += path
from jupyter_flows.commands.guard import main
main(int(pipe), int(parent))
"""


class _Program(subprocess.Popen[bytes]):
    """A process that ends after this one."""

    def __del__(self) -> None:
        """Warn of nothing: that it still runs is what it is for."""


class _Guard:
    """The program beside this process."""

    def __init__(self) -> None:
        folder = Path(__file__).parents[2]
        path = [each for each in sys.path if isinstance(each, str)]
        # its end stays open here, too: a guard that was killed must not cause a SIGPIPE
        self._ends = os.pipe()
        arguments = [str(self._ends[0]), str(os.getpid()), str(folder), *path]
        try:
            os.set_blocking(self._ends[1], False)
            self._process = _Program(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[self._ends[0]],
                cwd="/",  # it keeps no folder in use
                env={name: value for name, value in os.environ.items() if name != MARK},
                start_new_session=True,
            )
        except BaseException:
            self.close()
            raise

    @property
    def serves(self) -> bool:
        """Whether it is there."""
        return self._process.poll() is None

    def tell(self, line: str) -> bool:
        """Tell it something; return False if it does not read."""
        data = line.encode()
        while data:
            try:
                data = data[os.write(self._ends[1], data) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._ends[1], select.POLLOUT)
                if not poll.poll(_PATIENCE):
                    return False
        return True

    def dismiss(self) -> None:
        """End it, and nothing else."""
        self._process.kill()
        self._process.wait()
        self.close()

    def close(self) -> None:
        """Talk to it no more: if nobody else does, it takes this for the end of the process."""
        for end in self._ends:
            os.close(end)


_lock = threading.RLock()  # a coroutine that is thrown away stops its command on any thread
_guard: _Guard | None = None
_commands: dict[str, int | Beginning] = {}  # the process id of each, by its mark


def expect(mark: str, *outputs: int) -> None:
    """Make sure that a command which is about to begin does not outlive this process.

    Args:
        mark: what it carries in its environment.
        outputs: the pipes, open here, that are to be its stdout and stderr.
    """
    if not ports.adopted and os.name == "posix":
        pipes = frozenset(os.fstat(each).st_ino for each in outputs)
        _tell_of(mark, Beginning(os.getsid(0), pipes))


def begun(mark: str, pid: int) -> None:
    """Say which process the command is that was expected."""
    if mark in _commands:
        _tell_of(mark, pid)


def forget(mark: str) -> None:
    """Nothing of a command is to be ended any more. To be called before it is reaped."""
    with _lock:
        if _commands.pop(mark, None) is None or _guard is None:
            return
        if not _guard.tell(f"- {mark}\n"):
            _dismiss()


def _tell_of(mark: str, what: int | Beginning) -> None:
    with _lock:
        _commands[mark] = what
        try:
            if not (_guard and _guard.serves and _guard.tell(_line(mark, what))):
                _start()
        except OSError:  # the system has no process, or no file descriptor, left for it
            pass


def _line(mark: str, what: int | Beginning) -> str:
    if isinstance(what, Beginning):
        return f"? {mark} {what.session} {' '.join(map(str, what.pipes))}\n"
    return f"+ {mark} {what}\n"


def _start() -> None:
    global _guard
    _dismiss()
    _guard = _Guard()
    for mark, what in list(_commands.items()):
        _guard.tell(_line(mark, what))


def _dismiss() -> None:
    global _guard
    guard, _guard = _guard, None
    if guard is not None:
        guard.dismiss()


def _begin_anew() -> None:
    """Have no guard in a forked child: its parent's is to see the end of the parent alone."""
    global _guard, _lock
    _lock = threading.RLock()
    _commands.clear()
    guard, _guard = _guard, None
    if guard is not None:
        guard.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)

"""What other threads want of the thread that minds a process.

That thread waits for many things at once; a `Bell` is one of them. It rings when
something is asked of the run, which the thread then reads there, and for `Inquiries`,
which it passes on to the process.
"""

from __future__ import annotations

import socket
import threading
from _thread import allocate_lock
from typing import Any

import cloudpickle

from jupyter_flows.errors import InvalidInput, NotPortable
from jupyter_flows.records import Stack

_PEEK_SECONDS = 5.0
_WHERE_SECONDS = 1.0
_CHECK_SECONDS = 5.0


class Bell:
    """Wakes the thread of a run. Any thread may ring, at any time."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self._lock = allocate_lock()
        self._closed = False

    def fileno(self) -> int:
        """Return what `select` waits for."""
        return self._ours.fileno()

    def ring(self) -> None:
        """Let the thread look at what is asked."""
        with self._lock:
            if not self._closed:
                try:
                    self._theirs.send(b"\0")
                except BlockingIOError:  # it will look
                    pass

    def silence(self) -> None:
        """Take note of having been rung."""
        self._ours.recv(4096)

    def close(self) -> None:
        """Nobody listens any more."""
        with self._lock:
            self._closed = True
            self._ours.close()
            self._theirs.close()


class Inquiries:
    """What a process is asked for while it runs. Any thread but the run's."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._number = 0
        self.wanted: list[tuple[Any, ...]] = []  # messages to send
        self._answers: dict[int, tuple[Any, ...]] = {}
        self._arrived = threading.Condition()
        self._over = False

    def peek(self, name: str) -> Any:
        """Return a copy of a variable.

        Raises:
            KeyError: there is none.
            NotPortable: it cannot be pickled.
            TimeoutError: the process does not answer.
            LookupError: it has ended.
        """
        answer = self._ask("peek", name, seconds=_PEEK_SECONDS)
        if answer is None and self._over:
            raise LookupError("No process runs.")
        if answer is None:
            raise TimeoutError(
                f"The process does not tell {name!r}: it is suspended, or C code holds it up."
            )
        data, why = answer
        if data is None and why:
            raise NotPortable(f"The variable {name!r} stays in its process: {why}")
        if data is None:
            raise KeyError(name)
        return cloudpickle.loads(data)

    def where(self) -> list[Stack] | None:
        """Return where the process is; None if it does not answer."""
        answer = self._ask("where", seconds=_WHERE_SECONDS)
        return None if answer is None else list(answer[0])

    def check(self, number: int, text: str) -> None:
        """Have an answer to a question read where that is asked.

        Raises:
            InvalidInput: it does not fit, or the process does not say.
        """
        answer = self._ask("check", number, text, seconds=_CHECK_SECONDS)
        if answer is None:
            raise InvalidInput(
                "The input could not be checked, as the run's process does not answer: it is "
                "suspended, has ended, or C code holds it up. Nothing has changed: try again."
            )
        if answer[0] is not None:
            raise InvalidInput(answer[0])

    def _ask(self, what: str, *details: Any, seconds: float) -> tuple[Any, ...] | None:
        """Return the answer to a message, or None if there is none in time."""
        with self._arrived:
            self._number += 1
            number = self._number
            self.wanted.append((what, number, *details))
            self._bell.ring()
            self._arrived.wait_for(lambda: number in self._answers or self._over, seconds)
            return self._answers.pop(number, None)

    def end(self) -> None:
        """Nobody answers any more."""
        with self._arrived:
            self._over = True
            self._arrived.notify_all()

    def arrived(self, number: int, *answer: Any) -> None:
        """Take an answer."""
        with self._arrived:
            self._answers[number] = answer
            self._arrived.notify_all()

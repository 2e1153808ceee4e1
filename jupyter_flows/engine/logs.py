"""The lines of a run: numbered from 0 without gaps, the newest of them in memory.

Guarantees:

- Any thread may write at any time; a line is numbered, kept and given to history
  under one lock, so history gets the lines in the order of their numbers.
- What a thread has written without a newline belongs to that thread alone: the
  prints of two threads never share a line.
- Nothing is lost silently. Lines beyond `HELD` leave memory (history has them,
  where there is one) and `first` says so; a line beyond `LONGEST` characters is
  cut and says how much was cut.
- When history falls behind, the writing thread waits for it (`History.keep_up`),
  outside the lock, in the way that the run says.
"""

import re
from _thread import allocate_lock, get_ident
from collections.abc import Callable, Iterator
from time import time

from jupyter_flows.engine.ports import History, LinePlain, Wait
from jupyter_flows.engine.texts import sendable
from jupyter_flows.records import LogLine

HELD = 10_000  # lines of an active run in memory: about 2 MB; a screen shows 50
HELD_AFTER = 1_000  # lines of an ended run in memory, where history has the rest
LONGEST = 1_000_000  # characters in a line: more is a mistake, and freezes a browser


class RunLog:
    """The log of one flow run."""

    __slots__ = (
        "_first",
        "_forget",
        "_history",
        "_lines",
        "_lock",
        "_run_id",
        "_wait",
        "closed",
        "echo",
    )

    def __init__(self, run_id: str, history: History, wait: Wait) -> None:
        self._run_id = run_id
        self._history = history
        self._wait = wait
        self._lines: list[LinePlain] = []
        self._first = 0
        self._forget = 2 * HELD
        self._lock = allocate_lock()
        self.closed = False  # what is written from now on is dropped
        self.echo: Callable[[LinePlain], None] | None = None  # shows a foreground run's lines

    def add(self, level: int, source: str, message: str) -> None:
        """Append one line; `message` holds no newline."""
        if self.closed:
            return
        if not message.isascii():
            message = sendable(message)
        if len(message) > LONGEST:
            cut = len(message) - LONGEST
            message = f"{message[:LONGEST]}… [{cut:,} characters cut]"
        history = self._history
        now = time()
        with self._lock:
            lines = self._lines
            line = (self._first + len(lines), now, level, source, message)
            lines.append(line)
            history.line((self._run_id, line))
            if len(lines) >= self._forget:
                self._first += len(lines) // 2
                del lines[: len(lines) // 2]
        if self.echo is not None:
            self.echo(line)
        if now > history.due:
            history.keep_up(now, self._wait)

    @property
    def run_id(self) -> str:
        """The id of the run whose log it is."""
        return self._run_id

    @property
    def first(self) -> int:
        """The number of the oldest line in memory."""
        return self._first

    @property
    def count(self) -> int:
        """How many lines there have been."""
        with self._lock:
            return self._first + len(self._lines)

    def read(self, start: int = 0, stop: int | None = None) -> list[LogLine]:
        """Return the lines from number `start` to before `stop` that are in memory."""
        with self._lock:
            begin = max(start - self._first, 0)
            end = None if stop is None else max(stop - self._first, 0)
            lines = self._lines[begin:end]
        return [LogLine._make(line) for line in lines]

    def shrink(self) -> None:
        """Keep only the tail in memory: the run has ended and history has the rest."""
        with self._lock:
            self._forget = 2 * HELD_AFTER
            surplus = len(self._lines) - HELD_AFTER
            if surplus > 0:
                self._first += surplus
                del self._lines[:surplus]


class LineWriter:
    """One stream of one run or task (its stdout, say), cut into lines."""

    __slots__ = ("_level", "_live", "_log", "_parts", "_source", "_up")

    def __init__(self, log: RunLog, level: int, source: str) -> None:
        self._log = log
        self._level = level
        self._source = source
        self._parts: dict[int, str] = {}  # by thread: what has no newline yet
        self._live: set[int] = set()  # threads whose unfinished line is to be seen
        self._up: set[int] = set()  # threads that have just moved the cursor up

    def write(self, text: str) -> None:
        """Take what a thread wrote; whole lines go to the log."""
        ident = get_ident()
        parts = self._parts
        if ident in self._up or (ident in self._live and text.startswith(_CURSOR_UP)):
            self._write_below(ident, text)
        elif text == "\n":
            message = parts.pop(ident, "")
            if ident in self._live:
                self._live.discard(ident)
                message = _settled(message).rstrip()  # bars are wiped out with spaces
            self._log.add(self._level, self._source, message)
        elif "\n" not in text and "\r" not in text:
            part = parts.pop(ident, "")
            part += text  # in place, as nothing else refers to it
            parts[ident] = part
        else:
            self._write_mixed(ident, text)

    def _write_below(self, ident: int, text: str) -> None:
        """Take the output of a progress bar that is one of several, such as tqdm's.

        It moves the cursor down to its line before it writes, and up again afterwards:
        neither ends a line.
        """
        was_up = ident in self._up
        self._up.discard(ident)
        rest = text.lstrip("\n") if was_up else text
        if rest.startswith(_CURSOR_UP):
            self._up.add(ident)
            rest = rest.replace(_CURSOR_UP, "")
        if rest:
            self.write(rest)

    def _write_mixed(self, ident: int, text: str) -> None:
        *whole, rest = (self._parts.pop(ident, "") + text).replace("\r\n", "\n").split("\n")
        if whole and ident in self._live:
            whole[0] = _settled(whole[0]).rstrip()
        for message in whole:
            self._log.add(self._level, self._source, _settled(message))
        self._live.discard(ident)
        if "\r" in rest:
            rest = _pending(rest)
            self._live.add(ident)
        if rest:
            self._parts[ident] = rest

    def flush(self) -> None:
        """Show the unfinished line of this thread while it lasts."""
        ident = get_ident()
        if ident in self._parts:
            self._live.add(ident)

    def end_line(self) -> None:
        """Make a line of what this thread has written without a newline."""
        self._end_line(get_ident())

    def live(self) -> Iterator[tuple[str, str]]:
        """Yield the unfinished lines that are to be seen, as (source, text)."""
        for ident in list(self._live):
            text = self._parts.get(ident)
            if text:
                yield self._source, _settled(text)[-1000:]

    def close(self) -> None:
        """Make lines of what has no newline: the run has ended."""
        for ident in list(self._parts):
            self._end_line(ident)

    def _end_line(self, ident: int) -> None:
        text = _settled(self._parts.pop(ident, ""))
        if ident in self._live:
            self._live.discard(ident)
            text = text.rstrip()
        if text:
            self._log.add(self._level, self._source, text)


def _pending(text: str) -> str:
    """Keep what can still be seen of a line with carriage returns, its last one included."""
    *_, before, after = text.split("\r")
    return after if after else f"{before}\r"


def _settled(text: str) -> str:
    """Return what a terminal shows of a line after its carriage returns."""
    if "\r" not in text:
        return text
    shown = ""
    for part in text.split("\r"):
        if part:
            shown = part + (shown[len(part) :] if not _ESCAPE.search(part) else "")
    return shown.rstrip()


_CURSOR_UP = "\x1b[A"
_ESCAPE = re.compile(r"\x1b")

"""A run's log as its users have it: lines to look through, and to write out.

`LogLines` is a list of the lines that are in memory. To filter and to write out it goes
through the whole log, the lines that have left memory included, where a store keeps
them; a gap says how many lines were not kept.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from jupyter_flows.engine.moments import Moment, seconds_since_epoch
from jupyter_flows.engine.numbers import is_whole
from jupyter_flows.engine.texts import without_escapes
from jupyter_flows.engine.whole_logs import not_kept, pages
from jupyter_flows.records import WITHIN, LogLine

if TYPE_CHECKING:
    from jupyter_flows.engine.logs import RunLog

MOST = 100_000  # lines that a filter returns: some 30 MB

PREFECTS = "%(asctime)s.%(msecs)03d | %(levelname)-7s | %(run)s - %(message)s"
line_format = PREFECTS
"""How a line is written as text: a format of ``logging``'s old style; see `formatted`."""


def formatted(line: tuple[int, float, int, str, str], run_name: str, form: str) -> str:
    """Return a line as text.

    The format may name ``asctime`` (the local time of day), ``date``, ``msecs``,
    ``created`` (seconds since the epoch), ``levelname``, ``levelno``, ``name`` (where
    the line is from), ``flow_run_name``, ``run`` (``Flow run 'etl'``, or for what is
    logged in or about a task ``Task run 'load-0'``), ``number`` and ``message``.

    Raises:
        ValueError: the format names something else, or cannot be read.
    """
    number, when, level, source, message = line
    local = time.localtime(when)
    task_run_name, of_task, _ = source.partition(WITHIN)
    values = {
        "asctime": time.strftime("%H:%M:%S", local),
        "date": time.strftime("%Y-%m-%d", local),
        "msecs": int(when % 1 * 1000),
        "created": when,
        "levelname": level_name(level),
        "levelno": level,
        "name": source,
        "flow_run_name": run_name,
        "run": f"Task run {task_run_name!r}" if of_task else f"Flow run {run_name!r}",
        "number": number,
        "message": message,
    }
    try:
        return form % values
    except (KeyError, TypeError, ValueError) as error:
        known = ", ".join(values)
        raise ValueError(
            f"{form!r} is no format of a line ({error}). It may name {known}."
        ) from None


def level_name(level: int) -> str:
    """Return what a level is called: prints to stderr are no level of their own."""
    return logging.getLevelName(level - 1 if level == logging.INFO + 1 else level)


def level_number(level: int | str) -> int:
    """Return a level by its number or name, such as ``"WARNING"``.

    Raises:
        ValueError: there is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
    if not is_whole(number):
        raise ValueError(f"level must be a number or a name such as 'WARNING', not {level!r}.")
    return number


class LogLines(list[LogLine]):
    """The lines of a log that are in memory, oldest first; `filter` and `export` go through all.

    Attributes:
        left_off: how many lines a filter has left off, as they were more than it returns.
    """

    def __init__(self, run_name: str, lines: Iterable[LogLine], log: RunLog | None = None) -> None:
        super().__init__(lines)
        self.left_off = 0
        self._run_name = run_name
        self._log = log

    def filter(
        self,
        *,
        level: int | str | None = None,
        source: str | Iterable[str] | None = None,
        text: str | re.Pattern[str] | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> LogLines:
        """Return the lines of the whole log that fit, the newest `MOST` of them.

        Args:
            level: only lines of this level or above: a number or a name.
            source: only what is from this stream, logger or task, such as ``"stderr"``
                or ``"extract-0"``, or from one of these.
            text: only lines that hold this text, upper or lower case, or a pattern.
            since: only lines written then or later: a `datetime`, or how long ago, in
                seconds or as a `timedelta`.
            until: only lines written then or earlier.
        """
        least = None if level is None else level_number(level)
        earliest, latest = seconds_since_epoch("since", since), seconds_since_epoch("until", until)
        sources = {source} if isinstance(source, str) else None if source is None else set(source)
        wanted = re.compile(re.escape(text), re.IGNORECASE) if isinstance(text, str) else text
        found: deque[LogLine] = deque(maxlen=MOST)
        count = 0
        for line in chain.from_iterable(self._pages()):
            if (
                (least is None or line.level >= least)
                and (sources is None or line.source in sources or sources & _parts(line.source))
                and (wanted is None or wanted.search(without_escapes(line.message)))
                and (earliest is None or line.time >= earliest)
                and (latest is None or line.time <= latest)
            ):
                found.append(line)
                count += 1
        chosen = LogLines(self._run_name, found)
        chosen.left_off = count - len(found)
        return chosen

    def to_text(self, *, line_format: str | None = None, escapes: bool = False) -> str:
        """Return the whole log as text, a line each; for a long one see `export`.

        Args:
            line_format: how a line is written, as in ``logging``, such as ``"%(message)s"``;
                the default is what `FlowsConfig.log_format` says.
            escapes: keep terminal escapes, such as colours. By default they are left
                out, as a file may be looked at in a terminal, which obeys them.
        """
        return "".join(self._as_text(line_format, escapes))

    def to_jsonl(self, *, escapes: bool = False) -> str:
        """Return the whole log as JSON lines: an object a line, with the fields of a `LogLine`."""
        return "".join(self._as_jsonl(escapes))

    def export(
        self,
        target: str | PathLike[str] | IO[str],
        *,
        format: str | None = None,
        line_format: str | None = None,
        escapes: bool = False,
    ) -> None:
        """Write the whole log to a file, however long it is.

        Args:
            target: a path, or a file that is open for text.
            format: ``"text"`` or ``"jsonl"``; by default a path's ending decides, and
                what ends neither in ``.jsonl`` nor ``.ndjson`` is text.
            line_format: as in `to_text`.
            escapes: likewise.
        """
        if format is None:
            by_name = isinstance(target, str | PathLike)
            ending = Path(target).suffix.lower() if isinstance(target, str | PathLike) else ""
            format = "jsonl" if by_name and ending in (".jsonl", ".ndjson") else "text"
        if format not in ("text", "jsonl"):
            raise ValueError(f"format must be 'text' or 'jsonl', not {format!r}.")
        parts = (
            self._as_jsonl(escapes) if format == "jsonl" else self._as_text(line_format, escapes)
        )
        if isinstance(target, str | PathLike):
            with open(target, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(parts)
        else:
            target.writelines(parts)

    def _pages(self) -> Iterator[list[LogLine]]:
        if self._log is not None:
            yield from pages(self._log)
        elif self:
            yield self

    def _as_text(self, form: str | None, escapes: bool) -> Iterator[str]:
        form = line_format if form is None else form
        number = 0
        for page in self._pages():
            if self._log is not None and page[0].number > number:
                yield f"{not_kept(page[0].number - number)}\n"
            for line in page:
                shown = line if escapes else line._replace(message=without_escapes(line.message))
                yield formatted(shown, self._run_name, form) + "\n"
            number = page[-1].number + 1

    def _as_jsonl(self, escapes: bool) -> Iterator[str]:
        for line in chain.from_iterable(self._pages()):
            fields: dict[str, Any] = line._asdict()
            if not escapes:
                fields["message"] = without_escapes(line.message)
            yield json.dumps(fields) + "\n"


def _parts(source: str) -> set[str]:
    """Return what a line's source is made of: the task, and the stream or logger in it."""
    return set(re.split(" [·›] ", source))

"""Values and errors of users as text for records; nothing here raises, whatever they do."""

from __future__ import annotations

import re
import reprlib
from asyncio import CancelledError
from typing import Any

from jupyter_flows.engine import ports
from jupyter_flows.errors import RunCancellation
from jupyter_flows.records import ErrorRecord


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in another process: where, as text."""

    def __init__(self, record: ErrorRecord) -> None:
        super().__init__(record)
        self.record = record

    def __str__(self) -> str:
        return f"\n{self.record.traceback}"


def error_record(error: BaseException) -> ErrorRecord:
    """Describe the exception that a run ended with."""
    if isinstance(error.__cause__, RemoteTraceback):
        return error.__cause__.record
    try:
        shown = ports.show_error(error)
    except Exception:
        shown = ports.plain_traceback(error)
    return ErrorRecord(
        type=type(error).__name__, message=plain_text(error), traceback=sendable(shown)
    )


def plain_text(error: BaseException) -> str:
    """Return the text of an exception."""
    try:
        return sendable(str(error))
    except _OURS:
        raise
    except BaseException as broken:
        return f"<its text cannot be made: {type(broken).__name__}>"


def sendable(text: str) -> str:
    """Return text that can be sent: a lone surrogate, as bad file names hold, as its escape."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def without_escapes(text: str) -> str:
    """Return text without what a terminal would obey: colours, links, cursor moves, bells."""
    return text if text.isprintable() else _ESCAPES.sub("", text)


_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor moves
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|\x9c|$)"  # links, titles and other texts to it
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]",
    re.DOTALL,
)


_OURS = (RunCancellation, CancelledError)  # not the fault of whoever makes the text


_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 200
_shortened.maxlong = 100
_shortened.maxlist = _shortened.maxtuple = _shortened.maxdict = _shortened.maxset = 10


def text_of(value: Any, longest: int = 1_000) -> str:
    """Return a value's text form, shortened; never raises."""
    try:
        if isinstance(value, str | int | float | bool | None | list | tuple | dict | set):
            return sendable(_shortened.repr(value)[:longest])
        text = sendable(repr(value))
    except _OURS:
        raise
    except BaseException as broken:
        return f"<{type(value).__name__}: its text cannot be made, {type(broken).__name__}>"
    return text if len(text) <= longest else text[: longest - 1] + "…"

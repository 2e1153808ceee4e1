"""Tracebacks as IPython shows those of a cell: colours, source lines, the user's frames."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from jupyter_flows.engine.ports import both_ends, is_engine_module, plain_traceback, user_traceback

_LONGEST = 100_000  # characters: a recursion's traceback is long and says little


def formatter(shell: InteractiveShell) -> Callable[[BaseException], str]:
    """Return what makes the text of a traceback in this shell's way. Any thread."""

    def show(error: BaseException) -> str:
        try:
            trace, gap = both_ends(user_traceback(error))
            text: str = shell.InteractiveTB.stb2text(_lines(shell, error, trace)) + gap
        except Exception:  # a traceback that IPython cannot show still can be shown
            text = plain_traceback(error)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n… [cut]"

    return show


def file_namer(shell: InteractiveShell) -> Callable[[str], str]:
    """Return what names a file as this shell's tracebacks do: a cell is `Cell In[3]`."""

    def name(file: str) -> str:
        known: tuple[str, str] | None = shell.compile.format_code_name(file)
        return file if known is None else " ".join(known)

    return name


def hide_magic(shell: InteractiveShell, error: BaseException) -> None:
    """Let IPython show `error`, once, without the frames of the magic that raises it.

    What a run's code raised is shown as if the cell's own code had; an error of the
    waiting itself is one line.
    """

    below = error.__traceback__
    while below is not None and is_engine_module(below.tb_frame.f_globals.get("__name__", "")):
        below = below.tb_next

    def render() -> list[str]:
        del error._render_traceback_  # type: ignore[attr-defined]
        return _lines(shell, error, below)

    try:
        error._render_traceback_ = render  # type: ignore[attr-defined]
    except Exception:  # an exception that takes no attributes is shown with the frames
        return


def _lines(shell: InteractiveShell, error: BaseException, trace: Any) -> list[str]:
    own: Any = copy(shell.InteractiveTB)  # which keeps state while it works
    if trace is None:
        lines: list[str] = own.get_exception_only(type(error), error)
    else:
        lines = own.structured_traceback(type(error), error, trace, tb_offset=0)
    return lines

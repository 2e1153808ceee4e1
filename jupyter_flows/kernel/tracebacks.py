"""The traceback of a run as IPython shows that of a cell: colours, source lines."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from jupyter_flows.engine.ports import plain_traceback, user_traceback

_LONGEST = 100_000  # characters: a recursion's traceback is long and says little


def formatter(shell: InteractiveShell) -> Callable[[BaseException], str]:
    """Return what makes the text of a traceback in this shell's way. Any thread."""

    def show(error: BaseException) -> str:
        try:
            own: Any = copy(shell.InteractiveTB)  # which keeps state while it works
            lines = own.structured_traceback(type(error), error, user_traceback(error), tb_offset=0)
            text: str = own.stb2text(lines)
        except Exception:  # a traceback that IPython cannot show still can be shown
            text = plain_traceback(error)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n… [cut]"

    return show

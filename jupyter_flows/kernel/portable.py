"""A `%%flow` cell that runs in a process: what travels there, and what comes back.

There travel: the cell's code; the names of the notebook that the code reads, and, by
cloudpickle, what functions among them use; of the words in its ``!cmd`` and ``%magic``
lines those that name something that can be pickled. Names that are only spelled in a
text (``eval("x")``, ``globals()["x"]``) do not.

Back come the result and the names that the cell bound, also when it fails. Objects
are copies: what the cell changes inside of one that it does not bind anew stays there.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

import cloudpickle
from IPython.core.interactiveshell import InteractiveShell

from jupyter_flows.engine.processes.pickling import dumps, names_used, pickled
from jupyter_flows.kernel.cells import CellBody
from jupyter_flows.kernel.in_process import Cell, run_async_cell, run_cell

_WORD = re.compile(r"[^\W\d]\w*")
_DUNDER = re.compile(r"__\w+__")


class CellCall:
    """A cell's body, to be run in another process."""

    def __init__(self, shell: InteractiveShell, body: CellBody, *, progress: bool) -> None:
        self._shell = shell
        self._body = body
        self._progress = progress
        self._result: Any = None

    @property
    def is_async(self) -> bool:
        """Whether the cell awaits at its top level."""
        return self._body.is_async

    def dump(self) -> bytes:
        """Return it pickled.

        Raises:
            NotPortable: a variable that its code uses cannot be pickled; it is named.
        """
        code = self._body.code
        names = self._names(code)
        filenames = {code.co_filename, *_filenames(names)}
        counts = getattr(self._shell.compile, "_filename_map", {})
        cell = Cell(
            code=code,
            names=names,
            certain=self._body.certain,
            progress=self._progress,
            sources={name: "".join(linecache.getlines(name)) for name in filenames},
            counts={name: counts[name] for name in filenames if name in counts},
        )
        call: tuple[Any, ...] = (run_async_cell if self.is_async else run_cell, (cell,), {})
        return dumps(call, {f"The variable {name!r}": value for name, value in names.items()})

    def hear(self, data: bytes) -> None:
        """Take the result and the names, which it sends when its code has stopped."""
        self._result, bound, deleted, home = cloudpickle.loads(data)
        self._body.take(bound, deleted, home.__globals__)

    def accept(self, value: Any) -> Any:
        """Return the result: the cell has run to its end."""
        self._body.end()
        return self._result

    def _names(self, code: CodeType) -> dict[str, Any]:
        known = self._body.namespace
        hidden = self._shell.user_ns_hidden

        def is_there(name: str) -> bool:
            ours = name in ("get_ipython", "exit", "quit", "open") and name in hidden
            return name in known and not ours and not _DUNDER.fullmatch(name)

        used = names_used(code)
        names = {name: known[name] for name in used if is_there(name)}
        if "get_ipython" in used:
            for name in set(_words(code)) - names.keys():
                if is_there(name) and pickled(known[name])[0] is not None:
                    names[name] = known[name]
        return names


def _words(code: CodeType) -> Iterator[str]:
    """Yield the words in the texts of code, such as those of a magic's line."""
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield from _WORD.findall(constant)
        elif isinstance(constant, CodeType):
            yield from _words(constant)


def _filenames(names: dict[str, Any]) -> Iterator[str]:
    """Yield the files of the notebook's functions and methods."""
    for value in names.values():
        value = getattr(value, "fn", value)
        members = vars(value).values() if isinstance(value, type) else [value]
        for each in members:
            if isinstance(each, FunctionType) and each.__module__ == "__main__":
                yield each.__code__.co_filename

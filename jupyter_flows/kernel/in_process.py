"""A notebook's side in the process of a run: an IPython of its own, and a cell run in it.

`make_ready` is called in the supervisor, so that children need not: they inherit the
shell when they are forked. It has no front end, no history and no startup files. In
a run's process its namespace is the cell's and its module is ``__main__``, so
``!cmd``, IPython's own magics, pickle and the like work as in the notebook; magics
that extensions of the notebook brought are not there, and IPython says so.
"""

from __future__ import annotations

import linecache
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any, cast

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from jupyter_flows.bars import progress_of_loop
from jupyter_flows.engine import ports
from jupyter_flows.engine.current import current
from jupyter_flows.engine.processes.child import ChildRun
from jupyter_flows.engine.processes.pickling import dumps, pickled
from jupyter_flows.kernel import figures, rich, tracebacks
from jupyter_flows.kernel.namespaces import PROGRESS, RESULT, is_published

HOME = "__flow_home__"  # a function that tells which globals the cell's functions have


class _Shell(InteractiveShell):
    def enable_gui(self, gui: Any = None) -> None:
        """There is none; ``%matplotlib inline`` asks for it all the same."""

    def ask_exit(self) -> None:
        """Outside of a run nobody calls `exit` here; in one it ends that."""


def make_ready() -> None:
    """Make the shell, and what is shown of runs its affair."""
    config = Config()
    config.HistoryManager.enabled = False
    shell: Any = _Shell.instance(config=config)
    rich.install(shell)
    figures.install()
    ports.show_error = tracebacks.formatter(shell)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell that travels."""

    code: CodeType
    names: Mapping[str, Any]
    certain: frozenset[str]  # what it binds if it runs to its end
    progress: bool  # whether its loops show bars
    sources: Mapping[str, str]  # the text of the cells whose code comes with it, by file name
    counts: Mapping[str, int]  # their execution counts


def run_cell(cell: Cell) -> None:
    """Run a cell in this process. Its result and names are told on the way."""
    __tracebackhide__ = True
    with _at_home(cell) as names:
        exec(cell.code, names)


async def run_async_cell(cell: Cell) -> None:
    """Run a cell that awaits."""
    __tracebackhide__ = True
    with _at_home(cell) as names:
        await eval(cell.code, names)


@contextmanager
def _at_home(cell: Cell) -> Iterator[dict[str, Any]]:
    """Have what a cell needs around it, and tell what came of it."""
    __tracebackhide__ = True
    before = _set_up(cell)
    ended = False
    try:
        with _shell().builtin_trap:
            yield _shell().user_ns
        ended = True
    finally:
        _tell(cell, before, ended)


def _shell() -> Any:
    return InteractiveShell.instance()


def _set_up(cell: Cell) -> dict[str, Any]:
    """Make the names known, and return them as they are before the cell begins."""
    shell = _shell()
    sys.modules["__main__"] = shell.user_module
    for filename, text in cell.sources.items():
        lines = text.splitlines(keepends=True)
        linecache.cache[filename] = (len(text), None, lines, filename)
    vars(shell.compile).setdefault("_filename_map", {}).update(cell.counts)
    names: dict[str, Any] = shell.user_ns
    names.update(cell.names)
    exec(f"def {HOME}(): pass", names)
    before = names.copy()
    if cell.progress:
        names[PROGRESS] = progress_of_loop
    return before


def _tell(cell: Cell, before: dict[str, Any], ended: bool) -> None:
    """Send the result and what the cell bound: as much of it as can be pickled."""
    figures.show_left_over()
    names = _shell().user_ns
    names.pop(PROGRESS, None)
    result = names.pop(RESULT, None)
    certain = cell.certain if ended else ()
    missing = object()
    bound = {
        name: value
        for name, value in list(names.items())
        if is_published(name)
        and name != HOME
        and (name in certain or value is not before.get(name, missing))
    }
    deleted = [name for name in cell.names if name not in names]
    owner = current.get()
    assert owner is not None, "a cell runs in a run"
    run = cast(ChildRun, owner.flow_run)
    home = before[HOME]
    data, _ = pickled((result, bound, deleted, home))
    if data is None:
        for name, value in [*bound.items(), (RESULT, result)]:
            part, why = pickled(value)
            if part is not None:
                continue
            what = "The result" if name == RESULT else f"The variable {name!r}"
            text = f"{what} stays in its process, being a {type(value).__name__}: {why}"
            run.log.add(logging.WARNING, "flow", text)
            bound.pop(name, None)
            if name == RESULT:
                result = None
        data = dumps((result, bound, deleted, home), {})
    run.tell(data)

"""A `tqdm` of a run is a progress bar of that run, not text in its log.

`install` routes a few methods of tqdm's classes for text and for notebooks, now or when
tqdm is imported. They decide where a bar is made, by whose code makes it: in a run that
captures its prints the bar draws nothing, and readers of the run ask it how far it is.
Each of its steps is a checkpoint, as those of `progress` are.

What stays as it is: bars outside of runs; in runs those that draw into a file of their
own, those of tqdm's other kinds (chat services, terminals' widgets), and disabled ones;
and where a run has too many bars, their text, as before.

A bar of tqdm's is written by the thread that iterates, and read by any other.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.current import current
from jupyter_flows.engine.late_imports import when_imported
from jupyter_flows.engine.progress import Bar, current_bar
from jupyter_flows.engine.runs import STDERR
from jupyter_flows.engine.task_runs import TaskRun

_BAR = "_jupyter_flows_bar"  # of a tqdm: its bar, and the one that it is in
_ROUTED = "_jupyter_flows_routed"
_ASIDE = 10**9  # a line that no bar of a terminal has


def install() -> None:
    """Route tqdm's bars, now or when it is imported. Harmless when they are."""
    when_imported("tqdm.std", _route_text)
    when_imported("tqdm.notebook", _route_notebook)


def _route_text(module: Any) -> None:
    text: type = module.tqdm
    if _ROUTED in vars(text):
        return
    text_init: Callable[..., None] = getattr(text, "__init__")  # noqa: B009 - as it is called
    signature = inspect.signature(text_init)

    @wraps(text_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        usual = type(self).display in (vars(text)["display"], _notebook_display())
        bound = signature.bind(self, *args, **kwargs) if usual and _captures() else None
        if bound is not None:
            bound.apply_defaults()
        if bound is None or not _begin(self, bound.arguments):
            text_init(self, *args, **kwargs)
            return
        bound.arguments.update(file=_Nowhere(), position=_ASIDE)
        try:
            text_init(*bound.args, **bound.kwargs)
        except BaseException:
            _end(self)
            raise
        _watch(self)

    @wraps(vars(text)["close"])
    def close(self: Any) -> None:
        close_text(self)
        _end(self)

    @wraps(vars(text)["update"])
    def update(self: Any, n: float = 1) -> Any:
        displayed = update_text(self, n)
        if _BAR in vars(self):
            checkpoints.pass_by()
        return displayed

    @wraps(vars(text)["__iter__"])
    def iterate(self: Any) -> Iterator[Any]:
        return _steps(iterate_text(self)) if _BAR in vars(self) else iterate_text(self)

    close_text: Callable[[Any], None] = vars(text)["close"]
    update_text: Callable[[Any, float], Any] = vars(text)["update"]
    iterate_text: Callable[[Any], Iterator[Any]] = vars(text)["__iter__"]
    setattr(text, _ROUTED, True)
    text.__init__ = init  # type: ignore[misc]
    _set(text, close=close, update=update, __iter__=iterate)
    for name in ("display", "moveto", "clear"):
        _set(text, **{name: _quiet(vars(text)[name])})


def _route_notebook(module: Any) -> None:
    notebook: type = module.tqdm_notebook
    text = notebook.__mro__[1]
    if _ROUTED in vars(notebook):
        return
    notebook_init: Callable[..., None] = getattr(notebook, "__init__")  # noqa: B009
    reset_notebook: Callable[..., None] = vars(notebook)["reset"]
    iterate_notebook: Callable[[Any], Iterator[Any]] = vars(notebook)["__iter__"]
    update_notebook: Callable[[Any, float], Any] = vars(notebook)["update"]

    @wraps(notebook_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if not _captures() or type(self).display is not vars(notebook)["display"]:
            notebook_init(self, *args, **kwargs)
            return
        self.disp = _draw_nothing
        text.__init__(self, *args, **{k: v for k, v in kwargs.items() if k != "display"})  # type: ignore[misc]
        if _BAR not in vars(self) and not self.disable:  # too many: better text than nothing
            self.display = lambda *args, **_: text.display(self)  # type: ignore[attr-defined]

    @wraps(reset_notebook)
    def reset(self: Any, total: float | None = None) -> None:
        (text.reset if _BAR in vars(self) else reset_notebook)(self, total)  # type: ignore[attr-defined]

    @wraps(iterate_notebook)
    def iterate(self: Any) -> Iterator[Any]:
        return iter(text.__iter__(self) if _BAR in vars(self) else iterate_notebook(self))  # type: ignore[attr-defined]

    @wraps(update_notebook)
    def update(self: Any, n: float = 1) -> Any:
        return (text.update if _BAR in vars(self) else update_notebook)(self, n)  # type: ignore[attr-defined]

    setattr(notebook, _ROUTED, True)
    notebook.__init__ = init  # type: ignore[misc]
    _set(notebook, reset=reset, update=update, __iter__=iterate)
    _set(notebook, display=_quiet(vars(notebook)["display"]))


def _set(kind: type, **methods: Any) -> None:
    for name, method in methods.items():
        setattr(kind, name, method)


def _quiet(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that draws nothing for a bar of a run."""

    @wraps(method)
    def routed(self: Any, *args: Any, **kwargs: Any) -> Any:
        return True if _BAR in vars(self) else method(self, *args, **kwargs)

    return routed


def _steps(iterator: Iterator[Any]) -> Iterator[Any]:
    for each in iterator:
        checkpoints.pass_by()
        yield each


def _notebook_display() -> Any:
    module = sys.modules.get("tqdm.notebook")
    return vars(module.tqdm_notebook)["display"] if module is not None else None


def _captures() -> bool:
    owner = current.get()
    return owner is not None and owner.stream(STDERR) is not None


def _begin(bar: Any, arguments: dict[str, Any]) -> bool:
    """Begin the run's bar for one of tqdm's, if it is to have one."""
    owner = current.get()
    drawn = arguments["file"] in (None, sys.stderr, sys.stdout)
    if owner is None or not drawn or arguments["disable"] is not False or arguments["gui"]:
        return False
    task = owner.listed
    of = task.name if isinstance(task, TaskRun) else ""
    shown = owner.flow_run.bars.begin(arguments["desc"] or "progress", None, of=of)
    if shown is None:
        return False
    vars(bar).update({_BAR: (shown, current_bar.get()), "status_printer": _draw_nothing})
    current_bar.set(shown)
    return True


def is_shown(bar: Any) -> bool:
    """Whether something is a tqdm that a run shows."""
    return _BAR in getattr(bar, "__dict__", ())


def _watch(bar: Any) -> None:
    """Let readers of the run's bar ask tqdm's."""
    shown, _ = vars(bar)[_BAR]
    reference = weakref.ref(bar)
    name = shown.label

    def ask(each: Bar) -> None:
        seen = reference()
        if seen is None or each.ended is not None:
            return
        each.done, each.total = seen.n, seen.total
        each.label = _label(name, seen)

    shown.begin_at(bar.n)
    shown.watch(ask)


def _label(name: str, bar: Any) -> str:
    """Return what a bar is called now: its description, and what is told beside it."""
    of, arrow, _ = name.rpartition(" › ")
    said = str(bar.desc or "progress").strip().removesuffix(":")
    beside = f" ({bar.postfix})" if bar.postfix else ""
    return f"{of}{arrow}{said}{beside}"


def _end(bar: Any) -> None:
    """End the run's bar with tqdm's."""
    shown, outer = vars(bar).get(_BAR, (None, None))
    if shown is None or shown.ended is not None:
        return
    shown.end()
    if current_bar.get() is shown:
        current_bar.set(outer)


def _draw_nothing(*_: Any, **__: Any) -> Any:
    """Stand for what draws a bar, or makes what draws it."""
    return _draw_nothing


class _Nowhere:
    """Where a bar of a run would draw."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return

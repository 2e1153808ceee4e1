"""Every run draws figures of its own.

pyplot keeps one list of open figures for the process, and "the current figure" is
its last: runs that draw at once would draw into each other's. `install` gives
that list (`Gcf.figs`) a router: in a run it is the run's own, elsewhere the one
that was there. It takes hold when matplotlib is imported, sooner or later, and
imports nothing itself.

`show_left_over` does for a run what the inline backend does after a cell: it
shows the figures that were drawn and not shown.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import ItemsView, Iterator, KeysView, MutableMapping, ValuesView
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from jupyter_flows.engine.current import current
from jupyter_flows.engine.runs import FlowRun

_HELPERS = "matplotlib._pylab_helpers"


class _RoutedFigures(MutableMapping[Any, Any]):
    """Behaves as the `OrderedDict` of the figures of whoever is asking."""

    def __init__(self, elsewhere: OrderedDict[Any, Any]) -> None:
        self._elsewhere = elsewhere
        self._of_runs: WeakKeyDictionary[FlowRun, OrderedDict[Any, Any]] = WeakKeyDictionary()

    def _figures(self) -> OrderedDict[Any, Any]:
        owner = current.get()
        run = None if owner is None else getattr(owner, "flow_run", None)
        if run is None:
            return self._elsewhere
        figures = self._of_runs.get(run)
        if figures is None:
            figures = self._of_runs.setdefault(run, OrderedDict())
        return figures

    def __getitem__(self, number: Any) -> Any:
        return self._figures()[number]

    def __setitem__(self, number: Any, manager: Any) -> None:
        self._figures()[number] = manager

    def __delitem__(self, number: Any) -> None:
        del self._figures()[number]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._figures())

    def __len__(self) -> int:
        return len(self._figures())

    def __reversed__(self) -> Iterator[Any]:
        numbers: Iterator[Any] = reversed(self._figures())
        return numbers

    def keys(self) -> KeysView[Any]:
        """Return the figures' numbers."""
        return self._figures().keys()

    def values(self) -> ValuesView[Any]:
        """Return the figures' managers."""
        return self._figures().values()

    def items(self) -> ItemsView[Any, Any]:
        """Return both."""
        return self._figures().items()

    def move_to_end(self, number: Any, last: bool = True) -> None:
        """Make a figure the current one."""
        self._figures().move_to_end(number, last)

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        """Remove and return the last figure, or the first."""
        return self._figures().popitem(last)


def install() -> None:
    """Route pyplot's figures, now or when it is imported."""
    helpers = sys.modules.get(_HELPERS)
    if helpers is not None:
        _route(helpers)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _route(helpers: ModuleType) -> None:
    if not isinstance(helpers.Gcf.figs, _RoutedFigures):
        helpers.Gcf.figs = _RoutedFigures(helpers.Gcf.figs)


class _Finder(MetaPathFinder):
    """Waits for the one module that is to be routed, and is gone when that is found."""

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _HELPERS:
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _route(module)


def show_left_over() -> None:
    """Show the figures of the run whose code is being run that it has not shown."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or not pyplot.get_fignums():
        return
    if "inline" in str(pyplot.get_backend()).lower():
        pyplot.show()
    pyplot.close("all")

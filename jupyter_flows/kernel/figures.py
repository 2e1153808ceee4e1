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
from typing import Any
from weakref import WeakKeyDictionary

from jupyter_flows.engine.current import current
from jupyter_flows.engine.late_imports import when_imported
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
    when_imported(_HELPERS, _route)


def _route(helpers: Any) -> None:
    if not isinstance(helpers.Gcf.figs, _RoutedFigures):
        helpers.Gcf.figs = _RoutedFigures(helpers.Gcf.figs)


def show_left_over() -> None:
    """Show the figures of the run whose code is being run that it has not shown."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or not pyplot.get_fignums():
        return
    if "inline" in str(pyplot.get_backend()).lower():
        pyplot.show()
    pyplot.close("all")

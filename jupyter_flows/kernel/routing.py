"""Which names IPython shows to whom while a cell runs in the background.

A `%%flow` cell works in a namespace of its own, yet IPython has one shell, and
that has one ``user_ns``. Three of its doors are therefore routed, once for a
shell, by a context variable: code of a run finds the run's names behind them,
and everybody else, at the same time, the notebook's.

==========================  ==================================================
door                        who comes through it
==========================  ==================================================
``shell.user_ns``           magics, ``!cmd {x}``, ``x?``, ``shell.run_cell``
``sys.modules["__main__"]``  pickle, `typing.get_type_hints`, dataclasses, and
                            the shell's ``user_global_ns``
the pager hook              ``x?`` and other magics that page: a run prints the
                            text, since a pager would open below another cell
==========================  ==================================================

What a cell defines says ``__module__ == "__main__"``, exactly as in a plain
cell. So ``if __name__ == "__main__":`` holds, cloudpickle, joblib and Dask send
its functions by value, and a pickle that is written while the cell runs can be
read when it has ended.

A thread that has no context of the run (one that was not started with a copy of
it) sees the notebook's ``__main__``; a function or class that is missing there
is looked for in the open routes, newest first, because pools pickle on helper
threads of their own.

Not routed, since they act on the whole process: `%cd`, `%env`; what `%%capture`
(`sys.stdout`) and `%run` (`sys.argv`, `sys.modules["__main__"]`) replace for a
while; and what `%load` and `%recall` put into "the next cell".

Threads: any thread may follow, close and look up routes. `install` and
`uninstall` are for the main thread.
"""

from __future__ import annotations

import contextvars
import sys
import types
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from IPython.core.error import TryNext
from IPython.core.interactiveshell import InteractiveShell

Names = dict[str, Any]


class Route:
    """One run's claim to the doors; once closed it leads to the notebook again."""

    def __init__(self, shell: InteractiveShell, names: Names) -> None:
        self.shell = shell
        self.module = shell.user_module
        self.names: Names | None = names  # None: closed

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Let code of this context, and what inherits it, see the run's names."""
        before = _current.get()
        _current.set(self)
        _open[id(self)] = self
        try:
            yield
        finally:
            _current.set(before)

    def close(self) -> None:
        """Lead to the notebook, also in threads and tasks that outlive the run."""
        self.names = None
        _open.pop(id(self), None)


_current: contextvars.ContextVar[Route | None] = contextvars.ContextVar(
    "jupyter_flows_route", default=None
)
_open: weakref.WeakValueDictionary[int, Route] = weakref.WeakValueDictionary()


def install(shell: InteractiveShell) -> None:
    """Route the doors of this shell; harmless when they are."""
    cls = type(shell)
    if not isinstance(vars(cls).get("user_ns"), _RoutedNames):
        cls.user_ns = _RoutedNames(cls)  # type: ignore[assignment, method-assign]
    module_type = type(shell.user_module)
    if not issubclass(module_type, _RoutedModule):
        shell.user_module.__class__ = type(
            module_type.__name__, (_RoutedModule, module_type), {"__module__": __name__}
        )
    pager = getattr(shell.hooks, "show_in_pager", ())
    if not any(getattr(hook, "__func__", None) is _page for _, hook in pager):
        shell.set_hook("show_in_pager", _page, 0)  # type: ignore[no-untyped-call]


def uninstall(shell: InteractiveShell) -> None:
    """Undo `install`; the pager hook stays and passes every call on."""
    cls = type(shell)
    routed = vars(cls).get("user_ns")
    if isinstance(routed, _RoutedNames):
        del cls.user_ns
        if routed.replaced is not None:
            cls.user_ns = routed.replaced  # type: ignore[method-assign]
    module_type = type(shell.user_module)
    if issubclass(module_type, _RoutedModule):
        shell.user_module.__class__ = module_type.__bases__[1]


class _RoutedNames:
    """``user_ns``, in front of IPython's own property or plain attribute."""

    def __init__(self, cls: type) -> None:
        self.replaced: Any = vars(cls).get("user_ns")
        self._property: Any = getattr(cls, "user_ns", None)  # None: a plain attribute

    def __get__(self, shell: Any, owner: type | None = None) -> Any:
        if shell is None:
            return self
        route = _current.get()
        if route is not None and route.shell is shell:
            names = route.names
            if names is not None:
                return names
        if self._property is not None:
            return self._property.__get__(shell, owner)
        try:
            return vars(shell)["user_ns"]
        except KeyError:
            raise AttributeError("user_ns") from None

    def __set__(self, shell: Any, names: Names) -> None:
        if self._property is not None:
            self._property.__set__(shell, names)
        else:
            vars(shell)["user_ns"] = names


class _RoutedModule(types.ModuleType):
    """The notebook's ``__main__``, which is a run's ``__main__`` within that run."""

    def __getattribute__(self, name: str) -> Any:
        names = _names_of(self)
        if names is not None:
            if name == "__dict__":
                return names
            if name in names:
                return names[name]
        try:
            return super().__getattribute__(name)
        except AttributeError:
            for route in _newest_routes(self):
                found = (route.names or {}).get(name)
                if isinstance(found, types.FunctionType | type):
                    return found
            raise

    def __setattr__(self, name: str, value: Any) -> None:
        names = _names_of(self)
        if names is None:
            super().__setattr__(name, value)
        else:
            names[name] = value

    def __delattr__(self, name: str) -> None:
        names = _names_of(self)
        if names is None:
            super().__delattr__(name)
        elif name in names:
            del names[name]
        else:
            raise AttributeError(name)


def _names_of(module: types.ModuleType) -> Names | None:
    route = _current.get()
    return route.names if route is not None and route.module is module else None


def _newest_routes(module: types.ModuleType) -> list[Route]:
    routes = [reference() for reference in reversed(_open.valuerefs())]
    return [route for route in routes if route is not None and route.module is module]


def _page(
    shell: InteractiveShell,
    data: str | dict[str, Any],
    start: int = 0,
    screen_lines: int = 0,
    pager_cmd: str | None = None,
) -> None:
    """Print what a run's magic would page."""
    route = _current.get()
    if route is None or route.shell is not shell or route.names is None:
        raise TryNext
    text = data.get("text/plain", "") if isinstance(data, dict) else data
    sys.stdout.write("".join(text.splitlines(keepends=True)[max(0, start) :]) + "\n")

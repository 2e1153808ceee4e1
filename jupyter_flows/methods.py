"""Flows and tasks as methods: of an instance, of a class, or static.

``@task`` may stand above ``@classmethod`` and ``@staticmethod`` or, before Python 3.13,
below ``@classmethod`` and in every version below ``@staticmethod``; below
``@classmethod`` they can be called in 3.13 too, and there alone not submitted or started.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

from jupyter_flows.engine.hooks import Hooked
from jupyter_flows.parameters import Parameters


def function_of(fn: Any) -> tuple[Any, type | None]:
    """Return the function that is decorated, and `classmethod` or `staticmethod` if it was one."""
    if isinstance(fn, classmethod | staticmethod):
        return fn.__func__, type(fn)
    return fn, None


def rewrapped(fn: Any, kind: type | None) -> Any:
    """Return the function as it was decorated."""
    return fn if kind is None or isinstance(fn, MethodType) else kind(fn)


class Decorated(Hooked):
    """A function that was made a flow or task: it may be a method, and can be pickled."""

    fn: Callable[..., Any]
    _method_kind: type | None

    @property
    def _parameters(self) -> Parameters:
        """What the function takes."""
        raise NotImplementedError

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind to an instance or a class, as a method does."""
        fn, kind = self.fn, self._method_kind
        first = owner if kind is classmethod else instance
        bind = getattr(fn, "__get__", None)
        if first is None or kind is staticmethod or isinstance(fn, MethodType) or bind is None:
            return self
        copy = object.__new__(type(self))
        vars(copy).update(vars(self))
        method = MethodType(fn, first) if kind is classmethod else bind(first, owner)
        vars(copy).update(fn=method, _parameters=self._parameters.bound_to(method))
        return copy

    def __reduce__(self) -> Any:
        """Travel by name where a module has it, else as its function and options."""
        from jupyter_flows.engine.processes.pickling import find

        name: str = vars(self).get("__qualname__", "")
        if find(self.__module__, name) is self:
            return name
        state = {name: value for name, value in vars(self).items() if name != "_parameters"}
        return object.__new__, (type(self),), state

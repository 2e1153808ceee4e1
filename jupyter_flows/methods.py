"""Flows and tasks as methods: of an instance, of a class, or static.

``@task`` may stand above ``@classmethod`` and ``@staticmethod`` or, before Python 3.13,
below ``@classmethod`` and in every version below ``@staticmethod``; below
``@classmethod`` they can be called in 3.13 too, and there alone not submitted or started.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, Protocol, TypeVar

from jupyter_flows.parameters import Parameters


def function_of(fn: Any) -> tuple[Any, type | None]:
    """Return the function that is decorated, and `classmethod` or `staticmethod` if it was one."""
    if isinstance(fn, classmethod | staticmethod):
        return fn.__func__, type(fn)
    return fn, None


def rewrapped(fn: Any, kind: type | None) -> Any:
    """Return the function as it was decorated."""
    return fn if kind is None or isinstance(fn, MethodType) else kind(fn)


class _Decorated(Protocol):
    @property
    def _parameters(self) -> Parameters: ...


T = TypeVar("T", bound=_Decorated)


def bound(decorated: T, fn: Callable[..., Any], kind: type | None, instance: Any, owner: Any) -> T:
    """Return a flow or task as an attribute look-up gives it: bound, if it is a method."""
    first = owner if kind is classmethod else instance
    bind = getattr(fn, "__get__", None)
    if first is None or kind is staticmethod or isinstance(fn, MethodType) or bind is None:
        return decorated
    copy = object.__new__(type(decorated))
    vars(copy).update(vars(decorated))
    method = MethodType(fn, first) if kind is classmethod else bind(first, owner)
    vars(copy).update(fn=method, _parameters=decorated._parameters.bound_to(method))
    return copy

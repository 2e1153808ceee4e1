"""How many runs at once: what the author of a flow or task says about it.

A `Concurrency` is a declaration, checked where it is written; `admission` holds it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from inspect import Parameter, signature
from types import CodeType, SimpleNamespace
from typing import Any

from jupyter_flows.engine.numbers import is_whole
from jupyter_flows.errors import ConcurrencyKeyError

_FUNCTIONS = (
    *(abs, all, any, bool, dict, float, frozenset, getattr, hash, int, isinstance),
    *(len, list, max, min, repr, round, set, sorted, str, sum, tuple, type),
)

HARMLESS = {function.__name__: function for function in _FUNCTIONS}
"""The built-in functions that a key's expression may call."""


class ConcurrencyStrategy(StrEnum):
    """What becomes of a run that finds no free slot; the names are Hatchet's."""

    ENQUEUE = "ENQUEUE"
    """It waits, and those that wait begin in the order in which they came."""

    CANCEL_IN_PROGRESS = "CANCEL_IN_PROGRESS"
    """It cancels the oldest run of its group, and begins when that has stopped."""

    CANCEL_NEWEST = "CANCEL_NEWEST"
    """It is cancelled itself, and never begins."""

    GROUP_ROUND_ROBIN = "GROUP_ROUND_ROBIN"
    """It waits, and where groups wait for slots that they share they take turns."""


@dataclass(frozen=True, slots=True)
class Concurrency:
    """A limit on how many runs of a flow, task or tag may be active at once in this kernel.

    ::

        @flow(concurrency=Concurrency(1, key="user", strategy="CANCEL_IN_PROGRESS"))
        def report(user, day): ...

    Args:
        max_runs: how many; of each group, where there is a key.
        key: what tells groups of runs apart: an expression over the parameters, such as
            ``"user"`` or ``"(input.user, day[:7])"``, or a function that is called with
            the parameters by name. By default all runs are one group.
        strategy: what becomes of a run that finds no free slot, a `ConcurrencyStrategy`
            or its name. Default: it waits.

    Raises:
        ValueError: something of it makes no sense.
    """

    max_runs: int = 1
    key: str | Callable[..., Hashable] | None = None
    strategy: ConcurrencyStrategy | str = ConcurrencyStrategy.ENQUEUE

    def __post_init__(self) -> None:
        most = self.max_runs
        if not is_whole(most) or most < 1:
            raise ValueError(f"max_runs must be 1 or more, and whole, not {most!r}.")
        try:
            object.__setattr__(self, "strategy", ConcurrencyStrategy(self.strategy))
        except ValueError:
            names = ", ".join(ConcurrencyStrategy)
            raise ValueError(
                f"There is no concurrency strategy {self.strategy!r}. Choose one of: {names}."
            ) from None
        if isinstance(self.key, str):
            try:
                _compiled(self.key)
            except (SyntaxError, ValueError) as error:
                said = getattr(error, "msg", None) or error
                raise ValueError(
                    f"The concurrency key {self.key!r} is no expression: {said}. {_KEYS}"
                ) from None
        elif self.key is not None and not callable(self.key):
            raise ValueError(
                f"key must be an expression as text, a function or None, not {self.key!r}."
            )

    def refuse_unknown(self, function: Callable[..., Any]) -> None:
        """Raise if the key names what the function of a flow or task has no parameter for.

        Raises:
            ValueError: it does, so it would fail for every run.
        """
        if self.key is None:
            return
        try:
            known = list(signature(function).parameters)
            unknown = _unknown(self.key, known)
        except (TypeError, ValueError):  # written in C, and does not tell
            return
        if unknown:
            raise ValueError(
                f"The concurrency key {_shown(self.key)} needs {', '.join(map(repr, unknown))}, "
                f"and {_name(function)} has no such parameter. Its parameters are: "
                f"{', '.join(known) or 'none'}. {_KEYS}"
            )

    def group(self, parameters: Mapping[str, Any]) -> Hashable:
        """Return the group of a run with these parameters.

        Raises:
            ConcurrencyKeyError: the key fails, or is not hashable.
        """
        if self.key is None:
            return None
        try:
            if callable(self.key):
                group = self.key(**parameters)
            else:
                names = {"input": SimpleNamespace(**parameters), **parameters}
                group = eval(_compiled(self.key), {"__builtins__": HARMLESS, **names})
            hash(group)
        except Exception as error:
            raise ConcurrencyKeyError(
                f"The concurrency key {_shown(self.key)} failed: {type(error).__name__}: {error}. "
                f"The parameters are: {', '.join(parameters) or 'none'}."
            ) from error
        return group


@lru_cache(maxsize=256)
def _compiled(key: str) -> CodeType:
    return compile(key.strip(), "<concurrency key>", "eval")


_KEYS = (
    "A key is an expression over the parameters, such as 'user' or '(input.user, day[:7])', "
    "or a function that is called with them by name."
)


def _unknown(key: str | Callable[..., Any], known: Collection[str]) -> list[str]:
    """Return the names that a key needs and that it will not find, each once."""
    if callable(key):
        variable = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        needed = [
            name
            for name, each in signature(key).parameters.items()
            if each.default is each.empty and each.kind not in variable
        ]
        return [name for name in needed if name not in known]
    needed, of_input, own = [], [], {*known, *HARMLESS}
    for node in ast.walk(ast.parse(key.strip(), mode="eval")):
        match node:
            case ast.Attribute(value=ast.Name(id="input"), attr=name):
                of_input.append(name)
            case ast.Name(id=name, ctx=ast.Load()):
                needed.append(name)
            case ast.Name(id=name) | ast.arg(arg=name):  # of its own, as in a comprehension
                own.add(name)
    if "input" not in own:
        own.add("input")
        needed += [name for name in of_input if not hasattr(SimpleNamespace, name)]
    return [name for name in dict.fromkeys(needed) if name not in own]


def _shown(key: str | Callable[..., Any]) -> str:
    return repr(key) if isinstance(key, str) else _name(key)


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def as_limits(value: Any, function: Callable[..., Any]) -> tuple[Concurrency, ...]:
    """Return what is given for the option ``concurrency``: one or several, or a number.

    Args:
        value: what is given.
        function: whose runs they limit.

    Raises:
        TypeError: it is something else.
        ValueError: a key names what the function has no parameter for.
    """
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        return tuple(limit for each in value for limit in as_limits(each, function))
    if isinstance(value, int):
        return (Concurrency(value),)
    if isinstance(value, Concurrency):
        value.refuse_unknown(function)
        return (value,)
    raise TypeError(
        f"concurrency must be a Concurrency, a list of them or a number, not {value!r}."
    )

"""The parameters of a call: bound to names, checked and converted as in Prefect."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from jupyter_flows.errors import ParameterError, ReservedArgumentError

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_MOST_SHAPES = 100  # of calls, remembered for a function


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return what a function takes; one written in C that does not tell is taken to take all."""
    try:
        return inspect.signature(function)
    except ValueError:
        return inspect.signature(lambda *args, **kwargs: None)


def _hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function's parameters that mean something here."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # one has a name that only exists for a type checker
        hints: dict[str, Any] = {}
    names = getattr(inspect.unwrap(function), "__globals__", {})
    for name, annotation in getattr(function, "__annotations__", {}).items():
        alone: Any = SimpleNamespace(__annotations__={name: annotation})
        with suppress(Exception):
            hints |= typing.get_type_hints(alone, names, include_extras=True)
    return hints


class Parameters:
    """What a function takes, made once for each flow and task."""

    def __init__(
        self, function: Callable[..., Any], name: str, *, validate: bool, kind: str = "Flow"
    ) -> None:
        self._name = name
        self._kind = kind
        self._function = function
        self._validate = validate
        self._model: Any = None
        self.shapes: set[tuple[int | str, ...]] = set()
        """Calls known to be taken: how many arguments by position, and the others' names."""
        self._shapes_bound: set[tuple[int | str, ...]] = set()  # likewise, as a method

    @cached_property
    def _signature(self) -> inspect.Signature:
        return signature_of(self._function)

    def bound_to(self, method: Callable[..., Any]) -> Parameters:
        """Return what a method takes: all but the first."""
        bound = copy(self)
        bound._function, bound._model = method, None
        vars(bound).pop("_signature", None)
        bound.shapes = self._shapes_bound
        return bound

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise unless the function takes these arguments, and remember the shape of the call.

        Raises:
            ParameterError: it does not.
        """
        __tracebackhide__ = True
        self.bind(args, kwargs)
        if len(self.shapes) < _MOST_SHAPES:
            self.shapes.add((len(args), *kwargs))

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """Bind a call's arguments, defaults filled in, each converted to its annotation.

        Raises:
            ParameterError: the function does not take them.
        """
        __tracebackhide__ = True
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ParameterError(
                f"{self._kind} {self._name!r} cannot be called like this: {error}. "
                f"It takes {self._signature}."
            ) from None
        bound.apply_defaults()
        if self._validate:
            bound.arguments.update(self._converted(bound.arguments))
        return bound

    def _converted(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        __tracebackhide__ = True
        if self._model is None:
            self._model = self._make_model()
        if self._model is False:
            return {}
        from pydantic import ValidationError

        names = self._model.model_fields
        given = {field.alias: arguments[field.alias] for field in names.values()}
        try:
            checked = self._model.model_validate(given)
        except ValidationError as error:
            complaints = "; ".join(
                f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
            )
            raise ParameterError(
                f"{self._kind} {self._name!r} was called with wrong parameters: {complaints}."
            ) from None
        return {field.alias: getattr(checked, name) for name, field in names.items()}

    def _make_model(self) -> Any:
        """Make a pydantic model of the annotated parameters, or False if there are none."""
        hints = _hints_of(self._function)
        annotated = {
            name: hints[name]
            for name, parameter in self._signature.parameters.items()
            if name in hints and parameter.kind not in _VARIABLE
        }
        if not annotated:
            return False
        from pydantic import ConfigDict, Field, create_model

        fields: dict[str, Any] = {
            f"parameter_{i}": (hint, Field(alias=name))
            for i, (name, hint) in enumerate(annotated.items())
        }
        config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())
        return create_model(self._name, __config__=config, **fields)


RESERVED = ("return_state", "wait_for")


def refuse_reserved(function: Callable[..., Any], kind: str) -> None:
    """Raise if a function has a parameter that every call of a flow or task has.

    Raises:
        ReservedArgumentError: it has.
    """
    for name in RESERVED:
        if name in signature_of(function).parameters:
            raise ReservedArgumentError(
                f"A {kind}'s function cannot have a parameter {name!r}, which every call of a "
                f"{kind} has: give it another name."
            )


def taken_out(kwargs: dict[str, Any]) -> tuple[bool, Any]:
    """Take what every call may have from its arguments: whether to return a state, `wait_for`."""
    return bool(kwargs.pop("return_state", False)), kwargs.pop("wait_for", None)


def refuse_state_of_generator(return_state: bool, kind: str, name: str) -> None:
    """Raise if the state of a generator's run is asked for, which is to come."""
    if return_state:
        raise ValueError(
            f"{kind} {name!r} is a generator, which is called for its values: return_state is "
            "for other calls."
        )


def is_async(function: Callable[..., Any]) -> bool:
    """Whether what a call of the function gives is to be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether a call of the function gives values one by one."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)

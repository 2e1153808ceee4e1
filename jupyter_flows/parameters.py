"""The parameters of a call: bound to names, checked and converted as in Prefect."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from jupyter_flows.errors import ParameterError

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Parameters:
    """What a function takes, made once for each flow."""

    def __init__(self, function: Callable[..., Any], flow_name: str, *, validate: bool) -> None:
        self._flow_name = flow_name
        self._function = function
        self._signature = inspect.signature(function)
        self._validate = validate
        self._model: Any = None

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """Bind a call's arguments, defaults filled in, each converted to its annotation.

        Raises:
            ParameterError: the function does not take them.
        """
        __tracebackhide__ = True
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ParameterError(
                f"Flow {self._flow_name!r} cannot be called like this: {error}. "
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
                f"Flow {self._flow_name!r} was called with wrong parameters: {complaints}."
            ) from None
        return {field.alias: getattr(checked, name) for name, field in names.items()}

    def _make_model(self) -> Any:
        """Make a pydantic model of the annotated parameters, or False if there are none."""
        try:
            hints = typing.get_type_hints(self._function, include_extras=True)
        except Exception:  # a name that only exists for a type checker
            hints = {}
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
        return create_model(self._flow_name, __config__=config, **fields)


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether a call of the function would run nothing yet."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)

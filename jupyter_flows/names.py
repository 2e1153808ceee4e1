"""What the runs of a flow or task are called: a template of their parameters, or a function.

A template is checked where it is written, and filled in when a call's parameters are
known. A function is called in the run that it names, so that it may ask
`jupyter_flows.runtime` about that; it takes nothing, or ``parameters``, a dict.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

from jupyter_flows.engine.texts import plain_text
from jupyter_flows.errors import RunNameError
from jupyter_flows.parameters import signature_of

RunName = str | Callable[..., str]


def check_name(name: Any) -> None:
    """Raise unless a flow or task can have this name.

    Raises:
        TypeError: it is no text.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a text, not {name!r}.")


def check_run_name(run_name: Any, option: str, function: Callable[..., Any]) -> None:
    """Raise unless runs of a function can be named like this.

    Raises:
        TypeError: it is neither text nor a function.
        ValueError: it is no template, or names what the function does not take.
    """
    if run_name is None or callable(run_name):
        return
    if not isinstance(run_name, str):
        raise TypeError(f"{option} is a template or a function, not {type(run_name).__name__}.")
    try:
        fields = [name for _, name, _, _ in Formatter().parse(run_name) if name is not None]
    except ValueError as error:
        raise ValueError(f"{option}={run_name!r} is no template: {error}.") from None
    names = signature_of(function).parameters
    for field in fields:
        name = field.split(".")[0].split("[")[0]
        if name not in names:
            raise ValueError(
                f"{option}={run_name!r} names {'{' + name + '}'}, which is no parameter. "
                f"There are: {', '.join(names) or 'none'}."
            )


def make_run_name(run_name: RunName, option: str, parameters: Mapping[str, Any]) -> str:
    """Return the name of a run with these parameters.

    Raises:
        RunNameError: the template cannot be filled in, or the function failed.
    """
    try:
        if isinstance(run_name, str):
            name: Any = run_name.format(**parameters)
        elif "parameters" in inspect.signature(run_name).parameters:
            name = run_name(parameters=dict(parameters))
        else:
            name = run_name()
    except Exception as error:
        how = repr(run_name) if isinstance(run_name, str) else _name_of(run_name)
        raise RunNameError(
            f"{option}={how} failed: {type(error).__name__}: {plain_text(error)}"
        ) from error
    if not isinstance(name, str):
        raise RunNameError(f"{option}={_name_of(run_name)} returned {name!r}, which is no text.")
    return name


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", repr(function))

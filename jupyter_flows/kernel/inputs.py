"""`input()` and `getpass()` in a kernel: a cell asks the front end, a run asks people.

While a cell runs ipykernel puts its own `raw_input` and `getpass` in the place of
Python's, and puts those back at the cell's end. Both are routed here by context: on
the kernel itself, so that a background run never opens the prompt of the cell that
happens to run; and Python's own, for the time in which no cell runs. Where this is
installed by a cell, those are in the kernel's hands.
"""

from __future__ import annotations

import builtins
import getpass
from collections.abc import Callable
from functools import wraps
from typing import Any

from jupyter_flows.engine.asking import ask_for_input
from jupyter_flows.engine.current import current
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.runs import STDOUT
from jupyter_flows.errors import NobodyToAsk

_ROUTER = "_jupyter_flows_router"


def install(kernel: Any) -> None:
    """Route what a kernel asks its front end."""
    for owner, name in _input_places(kernel):
        _route(owner, name, ask_for_input)
    for owner, name in _getpass_places(kernel):
        _route(owner, name, _refuse_password)


def uninstall(kernel: Any) -> None:
    """Put back what was there."""
    for owner, name in _input_places(kernel) + _getpass_places(kernel):
        before = getattr(getattr(owner, name), _ROUTER, None)
        if before is not None:
            setattr(owner, name, before)


def _input_places(kernel: Any) -> list[tuple[Any, str]]:
    return [(kernel, "raw_input"), (builtins, "input"), *_put_back(kernel, "_sys_raw_input")]


def _getpass_places(kernel: Any) -> list[tuple[Any, str]]:
    return [(kernel, "getpass"), (getpass, "getpass"), *_put_back(kernel, "_save_getpass")]


def _put_back(kernel: Any, name: str) -> list[tuple[Any, str]]:
    """Return where ipykernel keeps what it puts back when a cell ends, if it does."""
    return [(kernel, name)] if hasattr(kernel, name) else []


def _route(owner: Any, name: str, ask_people: Callable[[Life, str], str]) -> None:
    before = getattr(owner, name)
    if hasattr(before, _ROUTER):
        return

    @wraps(before)
    def routed(prompt: object = "", *args: Any, **details: Any) -> Any:
        asking = current.get()
        if asking is None or asking.stream(STDOUT) is None:
            return before(prompt, *args, **details)
        return ask_people(asking, str(prompt))

    setattr(routed, _ROUTER, before)
    setattr(owner, name, routed)


def _refuse_password(asking: Life, prompt: str) -> str:
    raise NobodyToAsk(
        "getpass() cannot ask in a background run, as the answer would be kept with it. "
        "Ask in a plain cell, and let the flow use the variable."
    )

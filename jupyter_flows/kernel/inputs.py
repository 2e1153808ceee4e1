"""`input()` and `getpass()` in a kernel: a cell asks the front end, a run asks people.

While a cell runs ipykernel puts its own `raw_input` and `getpass` in the place of
Python's. Both are routed here by context, on the kernel itself: a background run
never opens the prompt of the cell that happens to run. `getpass.getpass` is routed
too, for the time in which no cell runs.
"""

from __future__ import annotations

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
    _route(kernel, "raw_input", ask_for_input)
    _route(kernel, "getpass", _refuse_password)
    _route(getpass, "getpass", _refuse_password)


def uninstall(kernel: Any) -> None:
    """Put back what was there."""
    for owner, name in ((kernel, "raw_input"), (kernel, "getpass"), (getpass, "getpass")):
        router = vars(owner).get(name)
        before = getattr(router, _ROUTER, None)
        if before is None:
            continue
        if owner is kernel:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


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

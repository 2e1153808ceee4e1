"""IPython's prompt in a terminal: what runs print while it waits is in their logs too.

While a cell runs IPython has a `write` of its own in `sys.stdout`, and puts what was
there before back at the cell's end: also where a cell has loaded this extension, so
that the capture is gone then. And while the prompt waits prompt_toolkit has a stream of
its own in the place of `sys.stdout` and `sys.stderr`, a new one each time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

from jupyter_flows.engine import capture
from jupyter_flows.engine.late_imports import when_imported
from jupyter_flows.engine.runs import STDOUT

_ROUTER = "_jupyter_flows_router"


def install(shell: Any) -> None:
    """Let a terminal's shell put the capture in place before each prompt."""
    ask: Callable[[], str] | None = getattr(shell, "prompt_for_code", None)
    if ask is None or hasattr(ask, _ROUTER):
        return

    @wraps(ask)
    def routed() -> str:
        capture.install()
        return ask()

    setattr(routed, _ROUTER, True)
    shell.prompt_for_code = routed
    when_imported("prompt_toolkit.patch_stdout", _route)


def _route(module: ModuleType) -> None:
    proxy: Any = module.StdoutProxy
    begin = proxy.__init__
    if hasattr(begin, _ROUTER):
        return

    @wraps(begin)
    def routed(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        capture.route_stream(self, STDOUT)

    setattr(routed, _ROUTER, True)
    proxy.__init__ = routed

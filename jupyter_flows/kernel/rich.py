"""What a run displays: into its own output area, never into somebody else's cell.

`install` puts routers in place once, as `engine.capture` does, on the shell's
display publisher: in a run whose prints are captured, `display`, `clear_output`
and display ids act on the run's outputs; anywhere else on what they always did.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from IPython.utils.capture import capture_output

from jupyter_flows.engine.current import current
from jupyter_flows.engine.outputs import RunOutputs
from jupyter_flows.engine.runs import STDOUT
from jupyter_flows.errors import NotInARun

_ROUTER = "_jupyter_flows_router"


def install(shell: Any) -> None:
    """Route what runs display, in this shell."""
    publisher = shell.display_pub
    if getattr(publisher.publish, _ROUTER, False):
        return
    publish, clear = publisher.publish, publisher.clear_output

    @wraps(publish)
    def routed_publish(data: Any, metadata: Any = None, *args: Any, **options: Any) -> None:
        outputs = current_outputs()
        if outputs is None:
            publish(data, metadata, *args, **options)
            return
        display_id: Any = (options.get("transient") or {}).get("display_id")
        metadata = metadata or {}
        known = options.get("update") and display_id is not None
        if not (known and outputs.update(display_id, data, metadata)):
            outputs.add(data, metadata, display_id)

    @wraps(clear)
    def routed_clear(wait: bool = False) -> None:
        outputs = current_outputs()
        if outputs is None:
            clear(wait)
        else:
            outputs.clear(wait)

    setattr(routed_publish, _ROUTER, True)
    publisher.publish, publisher.clear_output = routed_publish, routed_clear
    _refuse_in_runs(capture_output, "__enter__", _NO_CAPTURE)
    if hasattr(shell, "ask_exit"):  # a shell that nobody types into has none
        shell.ask_exit = _exit_of(shell.ask_exit)


_NO_CAPTURE = (
    "%%capture and capture_output() take the output of the whole kernel, so a background run "
    "cannot use them: what it prints and displays is captured as it is."
)


def _refuse_in_runs(owner: type, name: str, why: str) -> None:
    before = getattr(owner, name)
    if getattr(before, _ROUTER, False):
        return

    @wraps(before)
    def routed(*args: Any, **options: Any) -> Any:
        if current.get() is not None:
            raise NotInARun(why)
        return before(*args, **options)

    setattr(routed, _ROUTER, True)
    setattr(owner, name, routed)


def _exit_of(ask_exit: Callable[[], None]) -> Callable[[], None]:
    """Let `exit()` in a run end that run, and not the kernel and all that runs in it."""

    @wraps(ask_exit)
    def routed() -> None:
        if current.get() is not None:
            raise SystemExit
        ask_exit()

    return routed


def uninstall(shell: Any) -> None:
    """Put back what was there."""
    for name in ("publish", "clear_output"):
        vars(shell.display_pub).pop(name, None)
    vars(shell).pop("ask_exit", None)


def current_outputs() -> RunOutputs | None:
    """Return the output area of the run whose code is being run, if it captures."""
    owner = current.get()
    if owner is None or owner.stream(STDOUT) is None:
        return None
    return getattr(owner.flow_run, "outputs", None)

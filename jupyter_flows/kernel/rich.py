"""What a run displays: into its own output area, never into somebody else's cell.

`install` puts routers in place once, as `engine.capture` does, on the shell's
display publisher: in a run whose prints are captured, `display`, `clear_output`
and display ids act on the run's outputs; anywhere else on what they always did.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from jupyter_flows.engine.current import current
from jupyter_flows.engine.outputs import RunOutputs
from jupyter_flows.engine.runs import STDOUT

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


def uninstall(shell: Any) -> None:
    """Put back what was there."""
    for name in ("publish", "clear_output"):
        vars(shell.display_pub).pop(name, None)


def current_outputs() -> RunOutputs | None:
    """Return the output area of the run whose code is being run, if it captures."""
    owner = current.get()
    if owner is None or owner.stream(STDOUT) is None:
        return None
    return getattr(owner.flow_run, "outputs", None)

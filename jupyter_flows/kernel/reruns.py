"""What happens when a cell is run while an earlier run of it is active.

`enqueue` lets the new run wait until the earlier one has ended, `replace` cancels
the earlier one first, `reject` refuses, `parallel` starts at once. Which run was a
cell's last is kept here, by the cell's id or, in a front end without cell ids, by
the flow's name and source.

Any thread may call `replace`; the rest is called by the magic on the main thread.
A waiting run is launched by the thread that ends the run before it.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary, WeakValueDictionary

from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.errors import NotActive
from jupyter_flows.records import Waiting

WAITS = "Waits for the earlier run of this cell"

_last: WeakValueDictionary[str, FlowRun] = WeakValueDictionary()
_before: WeakKeyDictionary[FlowRun, FlowRun] = WeakKeyDictionary()


def active_run_of(cell: str) -> FlowRun | None:
    """Return the last run of a cell, if it has not ended."""
    run = _last.get(cell)
    return None if run is None or run.state_is_final() else run


def refuse(earlier: FlowRun) -> NotActive:
    """Make the error for a cell that is not to run twice at once."""
    return NotActive(
        f"The run of this cell before is still {earlier.state.name} ({earlier.id[:8]}): "
        "wait for it, cancel it, or use --on-rerun enqueue, replace or parallel."
    )


def remember(cell: str, run: FlowRun) -> None:
    """Take `run` for the last one of its cell."""
    _last[cell] = run


def launch_after(earlier: FlowRun, run: FlowRun, launch: Callable[[], None]) -> None:
    """Launch `run` once `earlier` has ended, unless it was cancelled meanwhile.

    If `earlier` ends while it waits itself, `run` waits for what that waited for.
    """
    _before[run] = earlier
    run.waiting = Waiting(kind="run", text=WAITS, run=earlier.id)

    def go_on() -> None:
        _before.pop(run, None)
        if run.state_is_final():
            return
        still_before = _before.get(earlier)
        if still_before is not None:
            launch_after(still_before, run, launch)
            run.touch()
            return
        run.waiting = None
        launch()

    earlier.on_done(go_on)


def replace(run: FlowRun) -> bool:
    """Cancel the run that `run` waits for; return False if it waits for none."""
    earlier = _before.get(run)
    if earlier is None:
        return False
    replace(earlier)
    earlier.cancel(reason="concurrency")
    return True

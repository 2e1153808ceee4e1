"""The runs of this process: list and control them.

from jupyter_flows import runs
runs.list(state="RUNNING")
runs.cancel("3f2a")          # a unique beginning of an id is an id
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import Any

from jupyter_flows.engine import registry
from jupyter_flows.engine.runs import FlowRun


def list(
    *,
    state: str | Iterable[str] | None = None,
    name: str | None = None,
    tag: str | None = None,
    limit: int = 100,
) -> builtins.list[FlowRun]:
    """Return runs, newest first.

    Args:
        state: only those in this state (or one of these): a type such as
            ``"RUNNING"`` or a name such as ``"TimedOut"``.
        name: only runs, or runs of flows, of this name.
        tag: only those with this tag.
        limit: how many at the most.
    """
    states = {state} if isinstance(state, str) else None if state is None else set(state)
    found = [
        run
        for run in registry.known()
        if (states is None or {run.state.type.value, run.state.name} & states)
        and (name is None or name in (run.name, run.flow_name))
        and (tag is None or tag in run.tags)
    ]
    return found[:limit]


def get(run_id: str) -> FlowRun:
    """Return the run whose id begins like this.

    Raises:
        UnknownRun: there is none.
        AmbiguousRun: there is more than one.
    """
    return registry.get(run_id)


def cancel(run_id: str) -> FlowRun:
    """Ask a run to stop, and return it."""
    run = get(run_id)
    run.cancel()
    return run


def pause(run_id: str) -> FlowRun:
    """Ask a run to hold still, and return it."""
    run = get(run_id)
    run.pause()
    return run


def resume(run_id: str, run_input: Any = None) -> FlowRun:
    """Let a paused run go on, with the input if it waits for one, and return it."""
    run = get(run_id)
    run.resume(run_input)
    return run

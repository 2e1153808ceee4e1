"""The flow run whose code is being run: ``id``, ``name``, ``parameters`` and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupyter_flows.engine.current import current
from jupyter_flows.engine.runs import FlowRun

_FIELDS: dict[str, tuple[Callable[[FlowRun], Any], Callable[[], Any]]] = {
    "id": (lambda run: run.id, lambda: None),
    "name": (lambda run: run.name, lambda: None),
    "flow_name": (lambda run: run.flow_name, lambda: None),
    "parameters": (lambda run: dict(run.parameters), dict),
    "tags": (lambda run: sorted(run.tags), list),
    "run_count": (lambda run: run.attempt, lambda: 0),
    "parent_flow_run_id": (lambda run: run.subflow_of and run.subflow_of.id, lambda: None),
    "root_flow_run_id": (lambda run: _root(run).id, lambda: None),
}

__all__ = list(_FIELDS)


def __getattr__(name: str) -> Any:
    if name not in _FIELDS:
        raise AttributeError(f"{__name__} has no {name!r}. It has: {', '.join(_FIELDS)}.")
    owner = current.get()
    of_run, without = _FIELDS[name]
    return without() if owner is None else of_run(owner.flow_run)


def __dir__() -> list[str]:
    return sorted(_FIELDS)


def _root(run: FlowRun) -> FlowRun:
    while run.subflow_of is not None:
        run = run.subflow_of
    return run

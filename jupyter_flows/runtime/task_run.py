"""The task run whose code is being run: ``id``, ``name``, ``parameters`` and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupyter_flows.engine.current import current
from jupyter_flows.engine.task_runs import TaskRun

_FIELDS: dict[str, tuple[Callable[[TaskRun], Any], Callable[[], Any]]] = {
    "id": (lambda run: run.id, lambda: None),
    "name": (lambda run: run.name, lambda: None),
    "task_name": (lambda run: run.task_name, lambda: None),
    "parameters": (lambda run: dict(run.parameters), dict),
    "tags": (lambda run: sorted(run.tags), list),
    "run_count": (lambda run: run.attempt, lambda: 0),
}

__all__ = list(_FIELDS)


def __getattr__(name: str) -> Any:
    if name not in _FIELDS:
        raise AttributeError(f"{__name__} has no {name!r}. It has: {', '.join(_FIELDS)}.")
    owner = current.get()
    run = None if owner is None else owner.listed
    of_run, without = _FIELDS[name]
    return of_run(run) if isinstance(run, TaskRun) else without()


def __dir__() -> list[str]:
    return sorted(_FIELDS)

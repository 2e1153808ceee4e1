"""Questions to the store, answered as the control protocol answers them.

The store is opened for each question, which takes a millisecond: so a file that
was deleted, replaced or repaired meanwhile is seen as it is.
"""

import json
import math
import time as clock
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from jupyter_flows.errors import StoreUnavailable, UnknownRun
from jupyter_flows.history import Store
from jupyter_flows.messages import MAX_LINES, MAX_TASKS, cut, ok
from jupyter_flows.records import RunRecord, lines_as_json

Question = Callable[[Store], dict[str, Any]]

WAIT_SECONDS = 2.0  # for a store that is locked


def answer(path: str, question: Question) -> str:
    """Ask the store and return the answer as JSON.

    Raises:
        StoreUnavailable: the store cannot be read.
        UnknownRun: the question is about a run that is not there.
    """
    with Store(path, wait_seconds=WAIT_SECONDS) as store:
        return as_text(question(store))


def as_text(content: dict[str, Any]) -> str:
    """Return JSON that browsers read too: what is no number becomes null."""
    try:
        return json.dumps(content, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(content), allow_nan=False)


def runs(
    store: Store, limit: int, states: Sequence[str] | None, names: Sequence[str] | None
) -> dict[str, Any]:
    """The newest runs, and which of their kernels are alive."""
    _mark_crashed(store)
    found = store.runs(limit, states=states, names=names)
    return ok(
        runs=[run.as_json() for run in found],
        alive_kernels=_alive(store, found),
        now=clock.time(),
    )


def run(store: Store, id: str) -> dict[str, Any]:
    """One run, and whether its kernel is alive."""
    _mark_crashed(store)
    found = store.run(id)
    if found is None:
        raise UnknownRun(f"No run has the id {id!r}.")
    return ok(run=found.as_json(), alive_kernels=_alive(store, [found]), now=clock.time())


def lines(store: Store, id: str, start: int, stop: int) -> dict[str, Any]:
    """Some lines, each no longer than the protocol allows."""
    kept = store.lines(id, start, min(stop, start + MAX_LINES))
    shown = lines_as_json([line._replace(message=cut(line.message)) for line in kept.lines])
    return ok(lines=shown, first=kept.first, count=kept.count)


def tasks(store: Store, id: str, start: int, stop: int) -> dict[str, Any]:
    """Some tasks."""
    found = store.tasks(id, start, min(stop, start + MAX_TASKS))
    return ok(tasks=[task.as_json() for task in found])


def transitions(store: Store, id: str) -> dict[str, Any]:
    """Every move."""
    return ok(transitions=[move.as_json() for move in store.transitions(id)])


def _mark_crashed(store: Store) -> None:
    # A store that can only be read now still shows what it holds.
    with suppress(StoreUnavailable):
        store.mark_crashed()


def _alive(store: Store, found: Iterable[RunRecord]) -> list[str]:
    return sorted(kernel for kernel in {run.kernel for run in found} if store.is_alive(kernel))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value

"""All runs of this process: the active ones, and the newest of those that ended.

Guarantees:

- A run is known from before its worker starts.
- Any thread may ask; nothing here blocks.
- An active run is never forgotten. Of ended runs the newest `KEPT` are kept; older
  ones are in the store, where there is one.
- Whoever was told of the end of a run finds it among the ended ones, though several
  threads may tell those who wait at once, and it be counted as ended last.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import OrderedDict
from itertools import islice

from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.errors import AmbiguousRun, UnknownRun

KEPT = 500  # ended runs in memory: with a short log each some 2 MB
KEPT_WHOLE = 20  # of these, runs with all of their log that was in memory

_lock = allocate_lock()
_active: dict[str, FlowRun] = {}
_ended: OrderedDict[str, FlowRun] = OrderedDict()


def add(run: FlowRun) -> None:
    """Make a run known; it is counted among the ended ones when it ends."""
    with _lock:
        _active[run.id] = run
    run.on_done(lambda: _move(run))


def _move(run: FlowRun) -> None:
    with _lock:
        if _active.pop(run.id, None) is None:
            return
        _ended[run.id] = run
        whole = list(islice(reversed(_ended.values()), KEPT_WHOLE, KEPT_WHOLE + 1))
        while len(_ended) > KEPT:
            _ended.popitem(last=False)
    for older in whole:
        older.log.shrink()


def active() -> list[FlowRun]:
    """Return the runs that are not over, oldest first."""
    with _lock:
        runs = list(_active.values())
    return [run for run in runs if not run.is_over()]


def known() -> list[FlowRun]:
    """Return all runs in memory, newest first."""
    with _lock:
        runs = [*_ended.values(), *_active.values()]
    return sorted(runs, key=lambda run: run.created, reverse=True)


def find(run_id: str) -> FlowRun | None:
    """Return the run with exactly this id, if it is in memory."""
    with _lock:
        return _active.get(run_id) or _ended.get(run_id)


def get(prefix: str) -> FlowRun:
    """Return the run whose id begins like this.

    Raises:
        UnknownRun: there is none in memory.
        AmbiguousRun: there is more than one.
    """
    exact = find(prefix)
    if exact is not None:
        return exact
    found = [run for run in known() if prefix and run.id.startswith(prefix)]
    if not found:
        raise UnknownRun(f"No run of this kernel has an id that begins with {prefix!r}.")
    if len(found) > 1:
        raise AmbiguousRun(
            f"{len(found)} runs have an id that begins with {prefix!r}: give more of it."
        )
    return found[0]

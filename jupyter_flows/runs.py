"""The runs of this process: list and control them.

    from jupyter_flows import runs
    runs.list(state="RUNNING", since=3600)
    runs.cancel("3f2a")                        # a unique beginning of an id is an id
    runs.pause(ids=["3f2a", "77b0"])
    runs.replay(state="FAILED", metadata={"customer": "42"})

What acts on runs takes ids or filters: both, or neither, is an error. Of ids that are
unknown or ambiguous nothing is done at all, to no run. Filters choose among the runs to
which the action can apply: those that have not ended, the ended ones for `replay`. A
run whose calling run is chosen too is left to follow that one.

Only runs in the memory of this process can be controlled: see `jupyter_flows.engine.registry`.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypedDict, Unpack

from jupyter_flows.engine import ports, registry
from jupyter_flows.engine.moments import Moment, seconds_since_epoch
from jupyter_flows.engine.options import checked_metadata
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.errors import FlowsError, NotActive, NotReplayable, UnknownRun
from jupyter_flows.states import TERMINAL, StateType

ACTIVE = tuple(sorted(set(StateType) - TERMINAL))
"""The types of the states of runs that have not ended, to choose all of those by."""

Words: TypeAlias = str | Iterable[str]


class Filters(TypedDict, total=False):
    """What runs can be chosen by; see `list`."""

    since: Moment | None
    until: Moment | None
    states: Words | None
    names: Words | None
    tags: Words | None
    metadata: Mapping[str, str] | None
    state: Words | None
    name: Words | None
    tag: Words | None
    limit: int | None


_ALL = frozenset({"limit", "tags", "tag", "metadata"})
"""Filters that choose every run when they are empty: by those alone no run is acted on."""


class Controlled(builtins.list[FlowRun]):
    """The runs that were acted on, oldest first.

    Attributes:
        refused: those that could not be, as one had ended meanwhile: each with the
            error that says why.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused: builtins.list[tuple[FlowRun, FlowsError]] = []


def list(
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    states: Words | None = None,
    names: Words | None = None,
    tags: Words | None = None,
    metadata: Mapping[str, str] | None = None,
    state: Words | None = None,
    name: Words | None = None,
    tag: Words | None = None,
    limit: int | None = 100,
) -> builtins.list[FlowRun]:
    """Return runs of this process, newest first. Each filter may be one word or several.

    Runs of other kernels, and of earlier ones, are in the store and not listed here.

    Args:
        since: only those made then or later: a `datetime`, or how long ago, in seconds
            or as a `timedelta`.
        until: only those made then or earlier.
        states: only those in one of these states: a type such as ``"RUNNING"`` or a
            name such as ``"TimedOut"``.
        names: only runs, or runs of flows, of one of these names.
        tags: only those that have all of these tags.
        metadata: only those whose metadata has all of these values.
        state: the same as `states`.
        name: the same as `names`.
        tag: the same as `tags`.
        limit: how many at the most; None for all.

    Raises:
        TypeError: a filter is not what it should be.
        ValueError: likewise.
    """
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        raise ValueError(f"limit must be 0 or more, and whole, or None, not {limit!r}.")
    earliest, latest = seconds_since_epoch("since", since), seconds_since_epoch("until", until)
    wanted_states, wanted_names = _words(states, state), _words(names, name)
    wanted_tags, wanted_metadata = _words(tags, tag), checked_metadata(metadata)
    found = [
        run
        for run in registry.known()
        if (earliest is None or run.created >= earliest)
        and (latest is None or run.created <= latest)
        and (wanted_states is None or {run.state.type.value, run.state.name} & wanted_states)
        and (wanted_names is None or {run.name, run.flow_name} & wanted_names)
        and (wanted_tags is None or wanted_tags <= run.tags)
        and wanted_metadata.items() <= dict(run.metadata).items()
    ]
    return found[:limit]


def get(run_id: str) -> FlowRun:
    """Return the run whose id begins like this.

    Raises:
        UnknownRun: there is none.
        AmbiguousRun: there is more than one.
    """
    return registry.get(run_id)


def cancel(
    *run_ids: str | FlowRun,
    ids: Iterable[str | FlowRun] | None = None,
    grace: float | None = None,
    reason: str = "user",
    **filters: Unpack[Filters],
) -> Controlled:
    """Ask runs to stop, by ids xor filters, and return those that were asked.

    Args:
        run_ids: ids, or unique beginnings of them.
        ids: the same, as a list.
        grace: as in `FlowRun.cancel`.
        reason: likewise.
        filters: as in `list`; of runs that have not ended.

    Raises:
        UnknownRun: an id is no run's: nothing was done.
        AmbiguousRun: an id is that of several: nothing was done.
        ValueError: ids and filters are given, or neither.
    """

    def act(run: FlowRun) -> bool:
        return run.cancel(grace, reason=reason) or not run.state_is_final()

    return _control(act, run_ids, ids, filters, _is_active)


def kill(
    *run_ids: str | FlowRun,
    ids: Iterable[str | FlowRun] | None = None,
    **filters: Unpack[Filters],
) -> Controlled:
    """Stop runs by force now, by ids xor filters, and return them; see `FlowRun.kill`.

    Args and errors are those of `cancel`.
    """
    return _control(FlowRun.kill, run_ids, ids, filters, _is_active)


def pause(
    *run_ids: str | FlowRun,
    ids: Iterable[str | FlowRun] | None = None,
    **filters: Unpack[Filters],
) -> Controlled:
    """Ask runs to hold still, by ids xor filters, and return those that were asked.

    Args and errors are those of `cancel`, and:

    Raises:
        NotActive: none of the runs that `ids` names could be paused.
    """
    return _control(FlowRun.pause, run_ids, ids, filters, _is_active)


def resume(
    *run_ids: str | FlowRun,
    ids: Iterable[str | FlowRun] | None = None,
    run_input: Any = None,
    **filters: Unpack[Filters],
) -> Controlled:
    """Let paused runs go on, by ids xor filters, and return those that do.

    Args and errors are those of `cancel`, and:

    Args:
        run_input: the answer to runs that wait for input.

    Raises:
        NotPaused: none of the runs that `ids` names could be resumed.
    """
    return _control(lambda run: run.resume(run_input), run_ids, ids, filters, _is_paused)


def replay(
    *run_ids: str | FlowRun,
    ids: Iterable[str | FlowRun] | None = None,
    **filters: Unpack[Filters],
) -> Controlled:
    """Run ended runs again, by ids xor filters, and return the new runs; see `FlowRun.replay`.

    Args and errors are those of `cancel`, but that filters choose among ended runs, and:

    Raises:
        NotActive: none of the runs that `ids` names has ended.
        NotReplayable: the flow of a run is not defined in a live kernel.
    """
    try:
        return _control(FlowRun.replay, run_ids, ids, filters, FlowRun.state_is_final)
    except UnknownRun as error:
        past = next(filter(None, map(_past, _named(run_ids, ids))), None)
        if past is None:
            raise
        raise NotReplayable(
            f"The run {past!r} cannot be replayed: its flow is not defined in a live kernel, of "
            "the run only the history is left. Start the flow again with its parameters."
        ) from error


def _control(
    act: Callable[[FlowRun], object],
    run_ids: tuple[str | FlowRun, ...],
    ids: Iterable[str | FlowRun] | None,
    filters: Filters,
    applies: Callable[[FlowRun], bool],
) -> Controlled:
    """Act on the chosen runs, oldest first.

    `act` raises, or returns False where there was nothing to do. It may return
    another run, which is listed in the place of the one that it was given.
    """
    by_ids = bool(run_ids) or ids is not None
    by_filters = any(value is not None for name, value in filters.items() if name not in _ALL)
    by_filters = by_filters or bool(_words(filters.get("tags"), filters.get("tag")))
    by_filters = by_filters or bool(filters.get("metadata"))
    if by_ids and by_filters:
        raise ValueError("Give ids or filters, not both.")
    if not by_ids and not by_filters:
        raise ValueError("Say which runs: give ids, or filters such as name= or state=.")
    if by_ids:
        chosen = dict.fromkeys(map(registry.get, _named(run_ids, ids)))
    else:
        found = dict.fromkeys(filter(applies, list(**({"limit": None} | filters))))
        chosen = dict.fromkeys(run for run in found if not _callers(run) & found.keys())
    done = Controlled()
    raised: FlowsError | None = None
    for run in sorted(chosen, key=lambda run: run.created):
        try:
            outcome = act(run)
        except FlowsError as error:
            done.refused.append((run, error))
            raised = raised or error
            continue
        if outcome is False:
            late = NotActive(f"{run!r} is {run.state.name}: it has ended.")
            done.refused.append((run, late))
        else:
            done.append(outcome if isinstance(outcome, FlowRun) else run)
    if by_ids and not done and raised is not None:
        raise raised
    return done


def _named(
    run_ids: tuple[str | FlowRun, ...], ids: Iterable[str | FlowRun] | None
) -> builtins.list[str]:
    listed = [ids] if isinstance(ids, str | FlowRun) else [] if ids is None else ids
    return [each.id if isinstance(each, FlowRun) else str(each) for each in (*run_ids, *listed)]


def _is_active(run: FlowRun) -> bool:
    return not run.state_is_final()


def _is_paused(run: FlowRun) -> bool:
    return run.state.type is StateType.PAUSED or run.asked == "pause"


def _callers(run: FlowRun) -> set[FlowRun]:
    """Return the runs that called it, and those that called them."""
    found = set()
    caller = run.subflow_of
    while caller is not None:
        found.add(caller)
        caller = caller.subflow_of
    return found


def _past(prefix: str) -> str | None:
    """Return the id of a run that is not in memory but was kept, if there is one."""
    return ports.kept_run(prefix) if prefix else None


def _words(*given: Words | None) -> set[str] | None:
    """Return the words of a filter, whether one or several; None where there is no filter."""
    for each in given:
        if not isinstance(each, Iterable | None):
            raise TypeError(f"A filter is a text or a list of texts, not {each!r}.")
    words = [{each} if isinstance(each, str) else set(each) for each in given if each is not None]
    return set().union(*words) if words else None

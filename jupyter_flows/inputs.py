"""What a call is given by other runs: found in its arguments, waited for, put in their place.

Futures and states stand for results; they are looked for in lists, tuples, sets,
dicts and dataclasses too, however deep. A result itself is known as one by its
identity (`FlowRun.note_result`), so that a task that is called with what another has
returned is seen to depend on it.

What a call waits for must complete. If it does not the call is not ready: its run ends
before it begins, under the name NotReady, and says why. It is CANCELLED if something that
it waits for was, so that a flow that waits for it is too, else FAILED: Prefect has it
PENDING for ever, but a run is to end. `allow_failure` lets it run all the same, after a
failure; a cancel is none. As in Prefect no hook is called for a run that was not ready.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from copy import copy
from types import NoneType
from typing import Any, NamedTuple

from jupyter_flows.annotations import Annotation, allow_failure, quote
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.outcomes import ResultToCome
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.task_runs import TaskRun
from jupyter_flows.errors import UpstreamTaskError
from jupyter_flows.states import NOT_READY, TERMINAL, Cancelled, Failed, State, StateType

ATOMS: frozenset[type] = frozenset({int, float, complex, bool, str, bytes, NoneType})
_ROWS = (list, tuple, set, frozenset)
_TRACED = (*_ROWS, dict)
_MOST_TRACED = 1_000  # parts of a collection that are looked up as results


class Source(NamedTuple):
    """Something that a call waits for."""

    life: Life | None  # the run, if it is known
    known: State | None  # or the state that it was given
    may_fail: bool  # whether its failure keeps the call from running

    @property
    def state(self) -> State:
        """Its state as it is now."""
        if self.known is not None:
            return self.known
        assert self.life is not None
        return self.life.state

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return "a state" if self.life is None else self.life.name

    @property
    def is_usable(self) -> bool:
        """Whether a call that it is given to may run."""
        state = self.state
        if state.type is StateType.COMPLETED:
            return True
        return self.may_fail and (state.type is StateType.FAILED or state.name == NOT_READY)


class Inputs:
    """The arguments of a call that hold futures, states or marks, and what it is to wait for."""

    __slots__ = ("_args", "_kwargs", "sources")

    def __init__(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], sources: list[Source]
    ) -> None:
        self._args = args
        self._kwargs = kwargs
        self.sources = sources

    @property
    def lives(self) -> list[Life]:
        """The runs to wait for."""
        return [source.life for source in self.sources if source.life is not None]

    def not_ready(self, name: str) -> State | None:
        """Return the state to end in if one of the runs waited for does not let the call run.

        Args:
            name: the name of the run that is not to begin.
        """
        bad = [source for source in self.sources if not source.is_usable]
        if not bad:
            return None
        cancelled = [source for source in bad if source.state.type is StateType.CANCELLED]
        first = (cancelled or bad)[0]
        state = first.state
        ended = "ended as" if state.type in TERMINAL else "is"
        text = f"{name} was not run, as {first.name}, which it waits for, {ended} {state!r}"
        if cancelled:
            return Cancelled(text, name=NOT_READY)
        error = UpstreamTaskError(text)
        if isinstance(state.data, BaseException):
            error.__cause__ = state.data
        return Failed(text, name=NOT_READY, data=error)

    def resolved(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with results in the place of what stood for them."""
        args = tuple([resolve(value) for value in self._args])
        return args, {key: resolve(value) for key, value in self._kwargs.items()}


def inputs_of(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], wait_for: Any = None
) -> Inputs | None:
    """Return what is to be done about a call's arguments, or None if they are as they are."""
    found: list[Source] = []
    marked = False
    for value in (*args, *kwargs.values()):
        if type(value) not in ATOMS:
            marked = _look(value, found) or marked
    if wait_for is not None:
        found += sources_in(wait_for)
    return Inputs(args, kwargs, found) if found or marked else None


def are_plain(values: Collection[Any]) -> bool:
    """Whether values hold nothing that `inputs_of` would find: quick to tell."""
    return ATOMS.issuperset(map(type, values))


def sources_in(value: Any) -> list[Source]:
    """Return what `wait_for` names: futures, states and runs, one or many."""
    found: list[Source] = []
    _look(value, found, runs=True)
    return found


def _look(value: Any, found: list[Source], *, runs: bool = False) -> bool:
    """Add what stands for results to `found`; return whether the value holds any, or a mark.

    Each collection is looked through once, however many others hold it: the paths
    through a graph of objects are more than anybody can wait for.
    """
    holds = False
    seen: tuple[dict[int, Any], ...] = {}, {}  # holds them, so that no other gets their id
    to_do = [(value, False)]
    while to_do:
        value, may_fail = to_do.pop()
        if isinstance(value, ResultToCome):
            found.append(Source(value.life, None, may_fail))
        elif isinstance(value, State):
            found.append(Source(None, value, may_fail))
        elif runs and isinstance(value, Life):
            found.append(Source(value, None, may_fail))
        elif isinstance(value, Annotation):
            if not isinstance(value, quote) and type(value.value) not in ATOMS:
                to_do.append((value.value, may_fail or isinstance(value, allow_failure)))
        else:
            parts = _parts(value)
            if parts and id(value) not in seen[may_fail]:
                seen[may_fail][id(value)] = value
                those = [(part, may_fail) for part in parts if type(part) not in ATOMS]
                those.reverse()
                to_do += those
            continue
        holds = True
    return holds


def _parts(value: Any) -> Collection[Any]:
    """Return what a collection holds that may be more than a plain value."""
    if isinstance(value, _ROWS):
        parts: Collection[Any] = value
    elif isinstance(value, dict):
        parts = value.values()
    elif dataclasses.is_dataclass(type(value)):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    else:
        return ()
    return () if ATOMS.issuperset(map(type, parts)) else parts


def resolve(value: Any) -> Any:
    """Put results in the place of futures and states that have ended, and take marks off.

    What holds none is returned as it is.
    """
    return _resolve(value, {}) if type(value) not in ATOMS and _look(value, []) else value


def _resolve(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """Resolve a value, and what is in `done` as it was: what is held twice is held twice then."""
    if isinstance(value, ResultToCome):
        return value.life.state.result(raise_on_failure=False)
    if isinstance(value, State):
        return value.result(raise_on_failure=False)
    if isinstance(value, Annotation):
        return value.value if isinstance(value, quote) else _resolve(value.value, done)
    parts = _parts(value)
    if not parts:
        return value
    if id(value) not in done:
        done[id(value)] = value, value  # what holds itself goes on holding what it was
        done[id(value)] = value, _with_parts(value, parts, [_resolve(each, done) for each in parts])
    return done[id(value)][1]


def _with_parts(value: Any, parts: Collection[Any], new: list[Any]) -> Any:
    """Return a collection with other parts; itself if they are none."""
    if all(one is other for one, other in zip(new, parts, strict=True)):
        return value
    if isinstance(value, _ROWS):
        return _row_like(value, new)
    changed = copy(value)
    if isinstance(value, dict):
        changed.update(zip(value, new, strict=True))
        return changed
    for field, each in zip(dataclasses.fields(value), new, strict=True):
        object.__setattr__(changed, field.name, each)
    return changed


def _row_like(value: Any, new: list[Any]) -> Any:
    """Return a list, tuple or set of other parts; of a kind made by somebody, the plain kind."""
    if hasattr(value, "_make"):  # a named tuple
        return value._make(new)
    (kind,) = (kind for kind in _ROWS if isinstance(value, kind))
    return kind(new)


# -- whose results they are -------------------------------------------------------------


def upstream(
    run: FlowRun, values: Iterable[Any], sources: Iterable[Source] = ()
) -> tuple[int, ...]:
    """Return the numbers of the task runs of `run` that a call depends on, in order."""
    numbers = set()
    for source in sources:
        if source.life is not None:
            number = _number(source.life, run)
        else:
            number = run.results.get(id(source.known))
        if number is not None:
            numbers.add(number)
    if run.results:
        for value in values:
            _trace(value, run.results, numbers)
    return tuple(sorted(numbers))


def upstream_of_plain(run: FlowRun, values: Collection[Any]) -> tuple[int, ...]:
    """Do what `upstream` does with values that `are_plain`, quickly."""
    results = run.results
    numbers = {results[key] for key in map(id, values) if key in results}
    return tuple(sorted(numbers)) if numbers else ()


def upstream_of_mapped(run: FlowRun, values: Iterable[Any]) -> frozenset[int]:
    """Return the numbers of the task runs whose results are mapped over, element by element."""
    numbers: set[int] = set()
    for value in values:
        inner = value.unwrap() if isinstance(value, Annotation) else value
        if isinstance(inner, ResultToCome):
            number = _number(inner.life, run)
        else:
            number = run.results.get(id(inner))
        if number is not None:
            numbers.add(number)
    return frozenset(numbers)


def _trace(value: Any, results: Mapping[int, int], numbers: set[int]) -> None:
    """Add the numbers of the results that a value is or holds; see `_look`."""
    seen: set[int] = set()
    to_do = [value]
    while to_do:
        value = to_do.pop()
        number = results.get(id(value))
        if number is not None:
            numbers.add(number)
        elif type(value) in ATOMS:
            continue
        elif isinstance(value, Annotation):
            if not isinstance(value, quote):
                to_do.append(value.value)
        elif isinstance(value, _TRACED) and len(value) <= _MOST_TRACED and id(value) not in seen:
            seen.add(id(value))
            to_do += value.values() if isinstance(value, dict) else value


def _number(life: Life, run: FlowRun) -> int | None:
    if isinstance(life, TaskRun):
        return life.number if life.flow_run is run else None
    return life.number_in(run) if isinstance(life, FlowRun) else None

r"""Records as rows of the store, and back.

Values that are not a number or a text are JSON. What cannot be stored as UTF-8
(a lone surrogate, as undecodable file names hold) is written as its escape,
``\udc80``: seen, not lost; a number beyond 64 bits is cut to that.

An older package may read what a newer one wrote, so fields that it does not know
are passed over.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any

from jupyter_flows.records import (
    ErrorRecord,
    Frame,
    ProgressRecord,
    RunRecord,
    Stopping,
    TaskRecord,
    Transition,
    Waiting,
)

Row = tuple[Any, ...]

RUN_FIELDS = tuple(field.name for field in fields(RunRecord))
TASK_FIELDS = TaskRecord._fields

_AS_JSON = frozenset(
    {"waiting", "stopping", "metadata", "tags", "parameters", "progress", "live", "error"}
)
_text = json.encoder.encode_basestring_ascii
_run_values = attrgetter(*RUN_FIELDS)


def run_row(key: int, run: RunRecord) -> Row:
    """Return the row of table `runs`."""
    values = zip(RUN_FIELDS, _run_values(run), strict=True)
    return (key, *[_json(value) if name in _AS_JSON else value for name, value in values])


def task_row(place: int, task: TaskRecord) -> Row:
    """Return the row of table `tasks`."""
    upstream = json.dumps(task.upstream) if task.upstream else "[]"
    tags = json.dumps(task.tags) if task.tags else "[]"
    return (place, *task[1:-3], upstream, tags, _moves(task.transitions))


def _moves(moves: Sequence[Transition]) -> str:
    """Return a task's moves as JSON; tasks end by the ten thousand, and `json.dumps` is slower."""
    items = [
        f"[{time!r}, {_text(type_)}, {_text(name)}, {_text(message)}]"
        for time, type_, name, message in moves
    ]
    return f"[{', '.join(items)}]"


def transition_row(place: int, move: Transition) -> Row:
    """Return the row of table `transitions`."""
    return (place, *move)


def read_run(row: Row) -> RunRecord:
    """Return the run of a row whose columns are the record's fields."""
    values = dict(zip(RUN_FIELDS, row, strict=True))
    for name in _AS_JSON:
        values[name] = None if values[name] is None else json.loads(values[name])
    values["waiting"] = _build(Waiting, values["waiting"])
    values["stopping"] = _stopping(values["stopping"])
    values["error"] = _build(ErrorRecord, values["error"])
    values["tags"] = tuple(values["tags"])
    values["progress"] = tuple(_build(ProgressRecord, bar) for bar in values["progress"])
    values["live"] = tuple((source, text) for source, text in values["live"])
    return RunRecord(**values)


def read_task(row: Row) -> TaskRecord:
    """Return the task of a row whose columns are the record's fields."""
    values = dict(zip(TASK_FIELDS, row, strict=True))
    moves = (read_transition(tuple(move)) for move in json.loads(values["transitions"]))
    for name in ("upstream", "tags"):
        values[name] = tuple(json.loads(values[name]))
    return TaskRecord(**{**values, "transitions": tuple(moves)})


def read_transition(row: Row) -> Transition:
    """Return the move of a row."""
    return Transition._make(row[:4])


def storable(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with every text and number such that SQLite takes it."""
    return [tuple(_storable(value) for value in row) for row in rows]


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, int):
        return min(max(value, -(2**63)), 2**63 - 1)
    return value


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, default=_members)


def _members(value: Any) -> Any:
    """Say how JSON writes what it does not know: one odd value must not cost the store."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return dict(value) if isinstance(value, Mapping) else str(value)


def _stopping(values: dict[str, Any] | None) -> Stopping | None:
    if values is not None:
        values["stuck"] = _build(Frame, values.get("stuck"))
    stopping: Stopping | None = _build(Stopping, values)
    return stopping


def _build(kind: type, values: Mapping[str, Any] | None) -> Any:
    if values is None:
        return None
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in known})

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_flows.errors import StoreUnavailable, UnknownRun
from jupyter_flows.history import Store, default_path, rows, sql
from jupyter_flows.history.store import QUERIES
from jupyter_flows.records import (
    ErrorRecord,
    Frame,
    LogLine,
    ProgressRecord,
    RunRecord,
    Stopping,
    TaskRecord,
    Transition,
    Waiting,
)

from .fakes import line, mode, move, run_record, task_record

texts = st.text(max_size=20)
times = st.floats(min_value=0, max_value=1e11)
counts = st.integers(min_value=0, max_value=2**53)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


def many(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=3).map(tuple)


transitions = st.builds(Transition, time=times, type=texts, name=texts, message=texts)
waitings = st.builds(Waiting, kind=texts, text=texts, run=maybe(texts), until=maybe(times))
errors = st.builds(ErrorRecord, type=texts, message=texts, traceback=texts)
bars = st.builds(
    ProgressRecord,
    number=counts,
    parent=maybe(counts),
    label=texts,
    done=times,
    total=maybe(times),
    started=times,
    ended=maybe(times),
    rate=maybe(times),
)
frames = st.builds(Frame, file=texts, line=counts, function=texts, text=texts, own=st.booleans())
stoppings = st.builds(
    Stopping,
    since=times,
    rung=texts,
    next=maybe(texts),
    at=maybe(times),
    stuck=maybe(frames),
    hint=maybe(texts),
)
runs = st.builds(
    RunRecord,
    **dict.fromkeys(("name", "flow", "on", "kernel"), texts),
    **dict.fromkeys(("state_type", "state_name", "state_message"), texts),
    **dict.fromkeys(("parent", "asked", "reason", "replay_of", "cell", "result"), maybe(texts)),
    **dict.fromkeys(("state_time", "created", "paused_seconds"), times),
    **dict.fromkeys(("started", "ended", "paused_since"), maybe(times)),
    **dict.fromkeys(("attempt", "task_count", "log_first", "log_count"), counts),
    **dict.fromkeys(("output_count", "output_changes"), counts),
    id=st.uuids().map(str),
    waiting=maybe(waitings),
    stopping=maybe(stoppings),
    metadata=st.dictionaries(texts, texts, max_size=3),
    tags=many(texts),
    parameters=st.dictionaries(texts, texts, max_size=3),
    progress=many(bars),
    live=many(st.tuples(texts, texts)),
    error=maybe(errors),
)
tasks = st.builds(
    TaskRecord,
    **dict.fromkeys(("name", "state_type", "state_name", "state_message"), texts),
    **dict.fromkeys(("number", "attempt"), st.integers(min_value=0, max_value=2**32 - 1)),
    **dict.fromkeys(("started", "ended"), maybe(times)),
    parent=maybe(counts),
    flow_run=maybe(texts),
    created=times,
    transitions=many(transitions),
)
log_lines = st.builds(
    LogLine,
    number=st.integers(min_value=0, max_value=2**32 - 1),
    time=times,
    level=st.integers(min_value=0, max_value=2**62),
    source=texts,
    message=texts,
)
round_trip = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@round_trip
@given(run=runs)
def test_run_round_trip(store: Store, run: RunRecord) -> None:
    """A run comes back as the same record."""
    store.save(runs=[run])
    assert store.run(run.id) == run


@round_trip
@given(task=tasks, moves=many(transitions), said=log_lines)
def test_rows_round_trip(
    store: Store, task: TaskRecord, moves: tuple[Transition, ...], said: LogLine
) -> None:
    """Tasks, moves and lines come back as the same records."""
    id = f"run-{store.path.stat().st_mtime_ns}-{len(store.runs(1_000))}"
    store.save(
        runs=[run_record(id)],
        tasks=[(id, task)],
        moves=[(id, number, moved) for number, moved in enumerate(moves)],
        lines=[(id, tuple(said))],
    )
    assert store.tasks(id) == [task]
    assert store.transitions(id) == list(moves)
    kept = store.lines(id)
    assert (kept.lines, kept.first, kept.count) == ([said], said.number, said.number + 1)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\x00b", "a\x00b"),
        ("\x00", "\x00"),
        ("caf\udce9", "caf\\udce9"),
        ("\ud83d", "\\ud83d"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        ("’; DROP TABLE lines; --", "’; DROP TABLE lines; --"),
    ],
)
def test_odd_text(store: Store, text: str, kept: str) -> None:
    """Any text is kept as it is, or with what UTF-8 cannot hold as a visible escape."""
    store.save(
        lines=[("run-1", line(0, "before")), ("run-1", line(1, text)), ("run-1", line(2, "after"))],
        runs=[run_record(name=text, result=text, parameters={text: text})],
        tasks=[("run-1", task_record(name=text))],
        moves=[("run-1", 0, move("RUNNING", message=text))],
    )
    assert [said.message for said in store.lines("run-1").lines] == ["before", kept, "after"]
    run = store.run("run-1")
    assert run is not None
    assert (run.name, run.result, run.parameters) == (kept, kept, {text: text})
    assert store.tasks("run-1")[0].name == kept
    assert store.transitions("run-1")[0].message == kept


def test_odd_number(store: Store) -> None:
    """A level that SQLite cannot hold costs no line."""
    store.save(runs=[run_record()], lines=[("run-1", (0, 1.0, 10**30, "log", "loud"))])
    assert store.lines("run-1").lines[0].level == 2**63 - 1


def test_line_ranges(store: Store) -> None:
    """Lines are read by number, with the first and the count of what is kept."""
    store.save(runs=[run_record("a"), run_record("b")])
    store.save(lines=[("a", line(number, f"a{number}", 1.0)) for number in range(10_000)])
    store.save(lines=[("b", line(number, f"b{number}", 1.0)) for number in range(5, 8)])
    kept = store.lines("a", 9_998, 20_000)
    assert [said.message for said in kept.lines] == ["a9998", "a9999"]
    assert (kept.first, kept.count) == (0, 10_000)
    kept = store.lines("b", 0, 6)
    assert [said.message for said in kept.lines] == ["b5"]
    assert (kept.first, kept.count) == (5, 8)
    assert store.lines("b", 7, 3).lines == []
    assert store.lines("b", -5, 2**60).lines == store.lines("b").lines


def test_nothing_printed(store: Store) -> None:
    """A run without lines has an empty log."""
    store.save(runs=[run_record()])
    kept = store.lines("run-1")
    assert (kept.lines, kept.first, kept.count) == ([], 0, 0)


def test_unknown_run(store: Store) -> None:
    """Asking for the rows of a run that is not there says so."""
    assert store.run("nobody") is None
    for read in (store.lines, store.tasks, store.transitions):
        with pytest.raises(UnknownRun, match="No run has the id 'nobody'"):
            read("nobody")


def test_runs_newest_first(store: Store) -> None:
    """Runs are listed newest first, filtered by state and name, up to a limit."""
    store.save(
        runs=[
            run_record("a", created=1.0, name="train"),
            run_record("b", created=3.0, name="load", state_type="FAILED"),
            run_record("c", created=2.0, name="train", state_type="COMPLETED"),
        ]
    )

    def ids(limit: int = 100, **filters: Any) -> list[str]:
        return [run.id for run in store.runs(limit, **filters)]

    assert ids() == ["b", "c", "a"]
    assert ids(2) == ["b", "c"]
    assert ids(states=["COMPLETED", "RUNNING"]) == ["c", "a"]
    assert ids(names=["train"]) == ["c", "a"]
    assert ids(names=["train"], states=["RUNNING"]) == ["a"]
    assert ids(names=["' OR 1=1 --"]) == []
    assert ids(states=[]) == []


def test_find(store: Store) -> None:
    """An id is found by how it begins, and nothing in it is a wildcard."""
    store.save(runs=[run_record("abc-1"), run_record("abc-2"), run_record("abd-3")])
    assert store.find("abc") == ["abc-1", "abc-2"]
    assert store.find("abd") == ["abd-3"]
    assert store.find("abd-3") == ["abd-3"]
    assert store.find("ab", limit=2) == ["abc-1", "abc-2"]
    assert store.find("a%") == store.find("b") == store.find("*") == []


def test_replaced(store: Store) -> None:
    """A run and its tasks are kept as they were last saved."""
    store.save(runs=[run_record()], tasks=[("run-1", task_record())])
    store.save(runs=[run_record(attempt=2)], tasks=[("run-1", task_record(state_type="COMPLETED"))])
    assert [run.attempt for run in store.runs()] == [2]
    assert [task.state_type for task in store.tasks("run-1")] == ["COMPLETED"]


def test_rows_before_their_run(store: Store) -> None:
    """A line that is saved before its run belongs to it afterwards."""
    store.save(lines=[("run-1", line(0, "early"))])
    store.save(runs=[run_record()])
    assert [said.message for said in store.lines("run-1").lines] == ["early"]


def test_all_or_nothing(store: Store) -> None:
    """A save that fails leaves nothing behind, and the next one works."""
    with pytest.raises(StoreUnavailable):
        store.save(lines=[("run-1", line(0))], runs=[run_record(name=None)])
    store.save(runs=[run_record("run-2")], lines=[("run-2", line(0, "fine"))])
    assert [run.id for run in store.runs()] == ["run-2"]
    assert [said.message for said in store.lines("run-2").lines] == ["fine"]


def test_two_stores_one_file(store: Store) -> None:
    """Runs of several writers never share a place."""
    with Store(store.path) as other:
        for number in range(100):
            store.save(lines=[(f"a{number}", line(0, "a"))], runs=[run_record(f"a{number}")])
            other.save(lines=[(f"b{number}", line(0, "b"))], runs=[run_record(f"b{number}")])
        for number in range(100):
            assert [said.message for said in other.lines(f"a{number}").lines] == ["a"]
            assert [said.message for said in store.lines(f"b{number}").lines] == ["b"]


def test_private(store: Store) -> None:
    """The file and what SQLite puts beside it are the user's alone."""
    store.save(runs=[run_record()])
    assert mode(store.path.parent) == 0o700
    files = list(store.path.parent.iterdir())
    assert len(files) == 3
    assert {mode(file) for file in files} == {0o600}


def test_default_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The store lies in Jupyter's data directory, unless the environment moves it."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("JUPYTER_FLOWS_STORE", raising=False)
    assert default_path() == tmp_path / "jupyter_flows" / "flows.sqlite"
    monkeypatch.setenv("JUPYTER_FLOWS_STORE", str(tmp_path / "mine.sqlite"))
    assert default_path() == tmp_path / "mine.sqlite"
    monkeypatch.setenv("JUPYTER_FLOWS_STORE", "~/mine.sqlite")
    assert default_path() == Path.home() / "mine.sqlite"


def test_is_in_place(store: Store) -> None:
    """A store knows when its file was deleted or another put in its place."""
    assert store.is_in_place()
    store.path.unlink()
    assert not store.is_in_place()
    store.path.touch()
    assert not store.is_in_place()


def test_columns_are_the_fields(store: Store) -> None:
    """The statements list a record's fields in their order, under the record's names."""
    connection = sqlite3.connect(store.path)
    nothing = {"id": "", "start": 0, "stop": 0}
    for query, fields in (("run", rows.RUN_FIELDS), ("tasks", rows.TASK_FIELDS)):
        columns = [column[0] for column in connection.execute(QUERIES[query], nothing).description]
        renamed = {"worker": "on", "place & 4294967295": "number"}
        assert tuple(renamed.get(column, column) for column in columns) == fields
    connection.close()


def test_every_query_is_described() -> None:
    """Each statement in queries.sql says what it is for."""
    text = Path(rows.__file__).with_name("queries.sql").read_text()
    names = list(sql.load("queries.sql"))
    assert len(names) == text.count("-- name: ")
    for name in names:
        after = text.split(f"-- name: {name}\n")[1]
        assert after.startswith("-- "), name


def test_unknown_fields_of_a_newer_package(store: Store) -> None:
    """A progress bar that a newer package wrote is read without what is new in it."""
    bar = ProgressRecord(
        number=0, parent=None, label="x", done=1, total=2, started=1, ended=None, rate=None
    )
    store.save(runs=[run_record(progress=(bar,))])
    connection = sqlite3.connect(store.path)
    (text,) = connection.execute("SELECT progress FROM runs").fetchone()
    newer = [{**one, "colour": "blue"} for one in json.loads(text)]
    connection.execute("UPDATE runs SET progress = ?", (json.dumps(newer),))
    connection.commit()
    connection.close()
    run = store.run("run-1")
    assert run is not None
    assert run.progress == (bar,)

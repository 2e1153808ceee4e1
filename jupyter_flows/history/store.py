"""The store of runs: what readers ask of it, and how it is written and kept small.

Guarantees:

- Any thread may call any method; calls on one `Store` take turns. Any number of
  stores, in any number of processes, may have the same file open.
- Every method that writes does so in one transaction: all of it is kept, or
  nothing.
- Whatever is wrong with the file is a `StoreUnavailable` that says what to do;
  no SQLite or OS error comes out of here.
- An active run is never forgotten. Only where active runs alone fill the store
  does the longest of them lose its oldest lines; `StoredLines.first` shows it.
"""

import json
import os
import sqlite3
import threading
import time as clock
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from jupyter_flows.errors import UnknownRun
from jupyter_flows.history import database, rows, sql
from jupyter_flows.history.processes import is_gone
from jupyter_flows.history.rows import Row
from jupyter_flows.records import KernelRecord, LogLine, RunRecord, TaskRecord, Transition

QUERIES = sql.load("queries.sql")
NUMBERS = 2**32  # places of one run, see schema.sql
RUN_KEYS_AT_A_TIME = 64
FORGET_ROWS = 40_000  # rows that one `clean` deletes at most: a few hundredths of a second
FREE_PAGES = 2_000  # pages that one `clean` gives back to the file system at most
STATEMENT_ROWS = (1, 8, 64, 512, 4_096)  # each size is a statement that SQLite keeps prepared

# A line as the capture makes it: the run's id and the fields of a `LogLine`.
Item = tuple[str, tuple[int, float, int, str, str]]


@dataclass(frozen=True, slots=True)
class StoredLines:
    """Part of a run's log."""

    lines: list[LogLine]
    first: int  # the number of the oldest line that is kept
    count: int  # the number of the newest line, plus one; 0 where there are none


def default_path() -> Path:
    """Return the user's store: ``JUPYTER_FLOWS_STORE``, or a file in Jupyter's data directory."""
    if chosen := os.environ.get("JUPYTER_FLOWS_STORE"):
        return Path(chosen).expanduser().absolute()
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "jupyter_flows" / "flows.sqlite"


class Store:
    """One SQLite file of runs, open for reading and writing.

    Args:
        path: the file; it is made if there is none.
        wait_seconds: how long a call waits for another program's lock.

    Raises:
        StoreUnavailable: the file cannot be used; says why and what to do.
    """

    def __init__(self, path: Path | str, *, wait_seconds: float = 5.0) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._keys: dict[str, int] = {}
        self._free_keys: Iterator[int] = iter(())
        self._connection = database.connect(self.path, wait_seconds)
        self._row_limit = self._connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        self._identity = _identity(self.path)

    def close(self) -> None:
        """Close the file; the store cannot be used any more."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_in_place(self) -> bool:
        """Say whether the path still leads to the file that is open."""
        return self._identity is not None and _identity(self.path) == self._identity

    # -- reading --------------------------------------------------------------

    def run(self, id: str) -> RunRecord | None:
        """Return a run as it was last kept, or None."""
        found = self._read("run", id=id)
        return rows.read_run(found[0]) if found else None

    def runs(
        self,
        limit: int = 100,
        *,
        states: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
    ) -> list[RunRecord]:
        """Return runs, newest first: of some state types, of some names."""
        found = self._read(
            "runs",
            limit=limit,
            states=None if states is None else json.dumps(list(states)),
            names=None if names is None else json.dumps(list(names)),
        )
        return [rows.read_run(row) for row in found]

    def find(self, prefix: str, limit: int = 20) -> list[str]:
        """Return the ids that begin with a text, at most `limit` of them."""
        return [id for (id,) in self._read("find", prefix=prefix, limit=limit)]

    def lines(self, run_id: str, start: int = 0, stop: int = NUMBERS) -> StoredLines:
        """Return the lines numbered `start` to before `stop`.

        Raises:
            UnknownRun: no run has this id.
        """
        with self._snapshot():
            place = self._place(run_id)
            first, last = self._read("line_range", **_range(place))[0]
            found = self._read("lines", **_slice(place, start, stop))
        if last is None:
            return StoredLines([], 0, 0)
        return StoredLines([LogLine(*row) for row in found], first, last + 1)

    def tasks(self, run_id: str, start: int = 0, stop: int = NUMBERS) -> list[TaskRecord]:
        """Return the tasks numbered `start` to before `stop`.

        Raises:
            UnknownRun: no run has this id.
        """
        with self._snapshot():
            found = self._read("tasks", **_slice(self._place(run_id), start, stop))
        return [rows.read_task(row) for row in found]

    def transitions(self, run_id: str) -> list[Transition]:
        """Return every move of a run, in order.

        Raises:
            UnknownRun: no run has this id.
        """
        with self._snapshot():
            found = self._read("transitions", **_range(self._place(run_id)))
        return [rows.read_transition(row) for row in found]

    def kernel(self, id: str) -> KernelRecord | None:
        """Return the kernel that has this id, or None."""
        found = self._read("kernel", id=id)
        return _kernel(found[0])[0] if found else None

    def is_alive(self, kernel_id: str) -> bool:
        """Say whether a kernel's process is still there, as far as can be seen from here."""
        found = self._read("kernel", id=kernel_id)
        return bool(found) and not is_gone(*_kernel(found[0]), clock.time())

    # -- writing --------------------------------------------------------------

    def save_kernel(self, kernel: KernelRecord) -> None:
        """Keep who a kernel is, with a first heartbeat."""
        values = (kernel.id, kernel.pid, kernel.process_started, kernel.host)
        with self._transaction():
            self._execute("write_kernel", (*values, kernel.connection_file, clock.time()))

    def save(
        self,
        *,
        lines: Sequence[Item] = (),
        runs: Sequence[RunRecord] = (),
        tasks: Sequence[tuple[str, TaskRecord]] = (),
        moves: Sequence[tuple[str, int, Transition]] = (),
        beat: str | None = None,
    ) -> None:
        """Keep lines, runs, tasks and moves; what was kept under the same number is replaced.

        A line, task or move may come before its run was ever saved.

        Args:
            lines: each with its run's id.
            runs: as they are now.
            tasks: as they are now, each with its run's id.
            moves: each with its run's id and its place among the run's moves.
            beat: the id of the kernel that says hereby that it lives.
        """
        with self._transaction():
            ids = {run.id for run in runs}
            newest = {id: line[0] for id, line in lines}
            ids.update(newest, *({id for id, *_ in fed} for fed in (tasks, moves)))
            first = {id: self._key(id) * NUMBERS for id in ids}
            self._insert("write_lines", [(first[id] + line[0], *line[1:]) for id, line in lines])
            self._insert(
                "write_transitions",
                [rows.transition_row(first[id] + number, move) for id, number, move in moves],
            )
            self._insert(
                "write_tasks", [rows.task_row(first[id] + task.number, task) for id, task in tasks]
            )
            self._insert("write_runs", [rows.run_row(self._key(run.id), run) for run in runs])
            for id, number in newest.items():
                self._execute("count_lines", {"key": self._key(id), "count": number + 1})
            if beat is not None:
                self._execute("beat", {"kernel": beat, "now": clock.time()})

    def mark_crashed(self) -> list[str]:
        """End the active runs whose kernel is gone as CRASHED, and return their ids.

        Called by whoever lists or shows runs. A run ended when it, its log or its
        kernel last gave a sign.
        """
        now = clock.time()
        active = [(key, id, *_kernel(tuple(row))) for key, id, *row in self._read("active")]
        alive: dict[str, bool] = {}
        for _, _, kernel, heartbeat in active:
            if kernel.id not in alive:
                alive[kernel.id] = not is_gone(kernel, heartbeat, now)
        gone = [entry for entry in active if not alive[entry[2].id]]
        if not gone:
            return []
        crashed = []
        with self._transaction():
            for key, id, kernel, _ in gone:
                values = {"key": key, **_range(key * NUMBERS)}
                sign = self._execute("last_sign", values).fetchone()
                if sign is None:
                    continue  # it has ended meanwhile
                values["time"] = sign[0]
                values["message"] = f"Its kernel (process {kernel.pid}) ended while it ran."
                for query in ("crash_transition", "crash_tasks", "crash_run"):
                    self._execute(query, values)
                crashed.append(id)
        return crashed

    def clean(self, keep_seconds: float, keep_bytes: int) -> bool:
        """Forget a little of what is too old or too much, oldest runs first.

        Returns:
            Whether there is more to forget: then call it again.
        """
        with self._transaction():
            now = clock.time()
            pages, free, page_bytes = (
                self._connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
            too_much = (pages - free) * page_bytes > keep_bytes
            before = float("inf") if too_much else now - keep_seconds
            if ended := self._execute("oldest_ended", {"before": before}).fetchone():
                self._forget_run(ended[0])
                return True
            if too_much and (longest := self._execute("longest_active").fetchone()):
                self._forget_rows("forget_lines", longest[0])
                return True
            self._execute("forget_kernels", {"before": now - keep_seconds})
        with self._lock, self._explained():
            # It moves one page a step; executescript takes all of its steps.
            self._connection.executescript(f"PRAGMA incremental_vacuum({FREE_PAGES})")
        return bool(free > FREE_PAGES)

    # -- inside ---------------------------------------------------------------

    def _forget_run(self, key: int) -> None:
        for query in ("forget_lines", "forget_tasks"):
            if self._forget_rows(query, key) == FORGET_ROWS:
                return
        self._execute("forget_transitions", _range(key * NUMBERS))
        self._execute("forget_run", {"key": key})

    def _forget_rows(self, query: str, key: int) -> int:
        values = {**_range(key * NUMBERS), "count": FORGET_ROWS}
        return self._execute(query, values).rowcount

    def _key(self, run_id: str) -> int:
        """Return a run's key, a new one if it has none; only within a transaction."""
        key = self._keys.get(run_id)
        if key is None:
            found = self._execute("run_key", {"id": run_id}).fetchone()
            key = self._keys[run_id] = found[0] if found else self._new_key()
        return key

    def _new_key(self) -> int:
        for key in self._free_keys:
            return key
        (key,) = self._execute("next_key").fetchone()
        self._execute("take_keys", {"count": RUN_KEYS_AT_A_TIME})
        self._free_keys = iter(range(key + 1, key + RUN_KEYS_AT_A_TIME))
        return int(key)

    def _place(self, run_id: str) -> int:
        found = self._read("run_key", id=run_id)
        if not found:
            raise UnknownRun(f"No run has the id {run_id!r}.")
        return int(found[0][0]) * NUMBERS

    def _insert(self, query: str, values: Sequence[Row]) -> None:
        if not values:
            return
        width = len(values[0])
        group = f"({','.join('?' * width)})"
        most = max(size for size in STATEMENT_ROWS if size * width <= self._row_limit)
        for start in range(0, len(values), most):
            part = values[start : start + most]
            size = next(size for size in STATEMENT_ROWS if size >= len(part))
            statement = QUERIES[query].replace("{rows}", ",".join([group] * size))
            padding = [None] * (width * (size - len(part)))
            try:
                self._connection.execute(statement, [*chain.from_iterable(part), *padding])
            except (UnicodeEncodeError, OverflowError):
                part = rows.storable(part)
                self._connection.execute(statement, [*chain.from_iterable(part), *padding])

    def _execute(self, query: str, values: Any = ()) -> sqlite3.Cursor:
        return self._connection.execute(QUERIES[query], values)

    def _read(self, query: str, **values: Any) -> list[Row]:
        with self._lock, self._explained():
            return self._execute(query, values).fetchall()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise database.explain(error, self.path) from error

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Let several reads see the store as it is at one moment."""
        with self._lock, self._explained(), database.between(self._connection, "BEGIN"):
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Write everything within, or nothing."""
        with self._lock, self._explained():
            try:
                with database.between(self._connection, "BEGIN IMMEDIATE"):
                    yield
            except BaseException:
                self._keys, self._free_keys = {}, iter(())  # what it took was given back
                raise


def _range(place: int) -> dict[str, int]:
    return {"first_place": place, "last_place": place + NUMBERS - 1}


def _slice(place: int, start: int, stop: int) -> dict[str, int]:
    start, stop = (place + min(max(number, 0), NUMBERS) for number in (start, stop))
    return {"start": start, "stop": stop}


def _kernel(row: Row) -> tuple[KernelRecord, float]:
    id, pid, process_started, host, connection_file, heartbeat = row
    kernel = KernelRecord(
        id=id,
        pid=pid,
        process_started=process_started,
        host=host,
        connection_file=connection_file,
    )
    return kernel, heartbeat


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino

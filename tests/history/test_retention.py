import time

from jupyter_flows.history import Store

from .fakes import ended_record, kernel_record, line, move, run_record, task_record

DAY = 86_400.0
PLENTY = 10**12


def clean(store: Store, keep_seconds: float = 30 * DAY, keep_bytes: int = PLENTY) -> int:
    """Clean until there is no more to forget; return how often that took."""
    times = 1
    while store.clean(keep_seconds, keep_bytes):
        times += 1
    return times


def fill(store: Store, id: str, lines: int) -> None:
    """Give a run lines, tasks and moves."""
    store.save(
        lines=[(id, line(number, "x" * 50)) for number in range(lines)],
        tasks=[(id, task_record(number)) for number in range(10)],
        moves=[(id, 0, move("RUNNING"))],
    )


def rows(store: Store) -> dict[str, int]:
    """How many rows the store holds."""
    tables = ("runs", "lines", "tasks", "transitions", "kernels")
    count = "SELECT count(*) FROM "
    return {table: store._connection.execute(count + table).fetchone()[0] for table in tables}


def size(store: Store) -> int:
    """How large the file is, once all is in it."""
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return store.path.stat().st_size


def test_old_runs_go(store: Store) -> None:
    """A run that ended longer ago than is kept goes with all that belongs to it."""
    now = time.time()
    store.save(runs=[ended_record("old", now - 31 * DAY), ended_record("new", now - 29 * DAY)])
    fill(store, "old", 100)
    fill(store, "new", 100)
    clean(store)
    assert [run.id for run in store.runs()] == ["new"]
    assert rows(store) == {"runs": 1, "lines": 100, "tasks": 10, "transitions": 1, "kernels": 0}


def test_active_runs_stay(store: Store) -> None:
    """A run that has not ended is kept however old it is."""
    store.save(runs=[run_record(created=1.0)])
    fill(store, "run-1", 100)
    clean(store, keep_seconds=0)
    assert rows(store)["runs"] == 1
    assert store.lines("run-1").first == 0


def test_oldest_go_first(store: Store) -> None:
    """A store that is too large loses its oldest ended runs until it fits."""
    now = time.time()
    for number in range(10):
        store.save(runs=[ended_record(f"run-{number}", now - 100 + number)])
        fill(store, f"run-{number}", 5_000)
    store.save(runs=[run_record("active", created=1.0)])
    fill(store, "active", 100)
    full = size(store)
    clean(store, keep_bytes=2_000_000)
    kept = [run.id for run in store.runs()]
    assert 3 <= len(kept) < 10
    assert kept[-1] == "active"
    assert kept[:-1] == [f"run-{number}" for number in range(9, 9 - len(kept) + 1, -1)]
    assert size(store) < 2_500_000 < full  # and the disk got its room back


def test_longest_active_run_loses_its_oldest_lines(store: Store) -> None:
    """Where active runs alone fill the store, the longest loses its oldest lines."""
    store.save(runs=[run_record("loop"), run_record("calm")])
    fill(store, "loop", 200_000)
    fill(store, "calm", 100)
    clean(store, keep_bytes=5_000_000)
    kept = store.lines("loop", 199_999)
    assert 0 < kept.first < 199_999
    assert kept.count == 200_000
    assert len(kept.lines) == 1
    assert store.lines("calm").first == 0
    assert {run.id for run in store.runs()} == {"loop", "calm"}


def test_a_little_at_a_time(store: Store) -> None:
    """Forgetting a long run takes several short steps, not one long one."""
    store.save(runs=[ended_record("long", 1_000.0)])
    fill(store, "long", 100_000)
    assert clean(store) >= 3
    assert rows(store)["runs"] == rows(store)["lines"] == 0


def test_silent_kernels_go(store: Store) -> None:
    """A kernel goes when its last run is gone and it has long been silent."""
    store.save_kernel(kernel_record("kernel-1"))
    store.save_kernel(kernel_record("kernel-2"))
    store.save(runs=[run_record(kernel="kernel-1")])
    clean(store)
    assert rows(store)["kernels"] == 2
    clean(store, keep_seconds=-1)
    assert store.kernel("kernel-1") is not None
    assert store.kernel("kernel-2") is None

import math
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_flows.history import Store, Writer
from jupyter_flows.history import writer as writing
from jupyter_flows.records import RunRecord

from .fakes import (
    Recorded,
    ended_record,
    eventually,
    kernel_record,
    line,
    move,
    run_record,
    task_record,
)

Make = Callable[..., Writer]


@pytest.fixture
def troubles() -> list[str]:
    return []


@pytest.fixture
def make(path: Path, troubles: list[str]) -> Iterator[Make]:
    """Makes writers, and closes them."""
    made = []

    def make(at: Path = path, kernel: str = "kernel-1", **options: Any) -> Writer:
        writer = Writer(at, kernel_record(kernel), troubles.append, **options)
        made.append(writer)
        return writer

    yield make
    for writer in made:
        writer.close(10)


def print_lines(writer: Writer, count: int, run_id: str = "run-1") -> float:
    """Print as the capture does; return the longest that one print waited."""
    longest = 0.0
    for number in range(count):
        now = time.time()
        writer.line((run_id, (number, now, 20, "stdout", f"{run_id} line {number}")))
        if now > writer.due:
            writer.keep_up(now)
            longest = max(longest, time.time() - now)
    return longest


def test_all_is_kept(make: Make, path: Path) -> None:
    """What was fed before a flush is in SQLite after it."""
    writer = make()
    run, task = Recorded(run_record(log_count=1)), Recorded(task_record())
    writer.run_changed(run)
    writer.task_changed("run-1", task)
    writer.moved("run-1", move("PENDING"))
    writer.moved("run-1", move("RUNNING"))
    writer.line(("run-1", line(0, "hello")))
    assert writer.flush(10)
    with Store(path) as store:
        assert store.run("run-1") == run.current
        assert store.tasks("run-1") == [task.current]
        assert store.transitions("run-1") == [move("PENDING"), move("RUNNING")]
        assert [said.message for said in store.lines("run-1").lines] == ["hello"]
        assert store.kernel("kernel-1") == kernel_record()
        run.current = run_record(log_count=1, state_type="COMPLETED", ended=1.0)
        task.current = task_record(state_type="COMPLETED")
        writer.run_changed(run)
        writer.task_changed("run-1", task)
        writer.moved("run-1", move("COMPLETED"))
        assert writer.flush(10)
        assert store.run("run-1") == run.current
        assert store.tasks("run-1") == [task.current]
        assert [moved.type for moved in store.transitions("run-1")][-1] == "COMPLETED"


def test_kept_without_a_flush(make: Make, path: Path) -> None:
    """One line, one change or one move wakes the writer by itself."""
    writer = make()
    writer.run_changed(Recorded(run_record()))
    eventually(path.exists, "the store")
    with Store(path) as store:
        eventually(lambda: store.run("run-1"), "the run")
        print_lines(writer, 1)
        eventually(lambda: store.lines("run-1").count, "the line")
        writer.moved("run-1", move("PAUSED"))
        eventually(lambda: store.transitions("run-1"), "the move")
        writer.task_changed("run-1", Recorded(task_record()))
        eventually(lambda: store.tasks("run-1"), "the task")


def test_many_threads(make: Make, path: Path) -> None:
    """Lines of runs that print at once are all kept, each in its own run and in order."""
    writer = make()
    ids = [f"run-{number}" for number in range(6)]
    for id in ids:
        writer.run_changed(Recorded(run_record(id)))
    threads = [threading.Thread(target=print_lines, args=(writer, 20_000, id)) for id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.flush(20)
    with Store(path) as store:
        for id in ids:
            messages = [said.message for said in store.lines(id).lines]
            assert messages == [f"{id} line {number}" for number in range(20_000)]


def test_due(make: Make) -> None:
    """`due` is minus infinity while all is kept, and a moment ahead after a first line."""
    writer = make()
    assert writer.due == -math.inf
    now = time.time()
    writer.line(("run-1", line(0, at=now)))
    writer.keep_up(now)
    assert writer.due == now + writing.DUE_SECONDS or writer.due == -math.inf
    eventually(lambda: writer.due == -math.inf, "rest")


def test_changes_coalesce(make: Make, path: Path) -> None:
    """However often a run or a task changes, its record is made once a round."""
    writer = make()
    made: list[str] = []

    class Counted(Recorded):
        def record(self) -> Any:
            made.append(type(self.current).__name__)
            return self.current

    run, task = Counted(run_record()), Counted(task_record())
    with Store(path):
        pass
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")  # so that the changes fall into few rounds
    for _ in range(10_000):
        writer.run_changed(run)
        writer.task_changed("run-1", task)
    lock.execute("ROLLBACK")
    lock.close()
    assert writer.flush(10)
    assert 1 <= made.count("RunRecord") <= 3
    assert 1 <= made.count("TaskRecord") <= 3


def test_record_never_ahead_of_its_lines(make: Make, path: Path) -> None:
    """Whoever reads a run finds all lines that its record counts."""
    writer = make()
    written = 0

    class Printing:
        id = "run-1"

        def record(self) -> RunRecord:
            return run_record(log_count=written)

    run = Printing()
    writer.run_changed(run)
    assert writer.flush(10)
    with Store(path) as store:
        for _ in range(20):
            for _ in range(5_000):
                now = time.time()
                writer.line(("run-1", (written, now, 20, "stdout", "x")))
                written += 1
                if now > writer.due:
                    writer.keep_up(now)
            writer.run_changed(run)
            kept = store.run("run-1")
            assert kept is not None
            assert store.lines("run-1", 0, 0).count >= kept.log_count


def test_lines_of_a_run_that_does_not_change_are_counted(make: Make, path: Path) -> None:
    """A run that only prints, and one that prints after its end, has its lines counted."""
    writer = make()
    run = Recorded(run_record(log_count=0))
    writer.run_changed(run)
    assert writer.flush(10)
    with Store(path) as store:
        print_lines(writer, 3)
        assert writer.flush(10)
        (kept,) = store.runs()
        assert kept.log_count == 3
        run.current = run_record(log_count=3, state_type="COMPLETED", ended=1.0)
        writer.run_changed(run)
        writer.line(("run-1", line(3, "late")))
        assert writer.flush(10)
        (kept,) = store.runs()
        assert (kept.state_type, kept.log_count) == ("COMPLETED", 4)


def test_two_kernels(make: Make, path: Path) -> None:
    """Two writers on one file keep everything, and neither is in trouble."""
    writers = [make(kernel=f"kernel-{number}") for number in range(2)]
    for number, writer in enumerate(writers):
        writer.run_changed(Recorded(run_record(f"run-{number}", kernel=f"kernel-{number}")))
    threads = [
        threading.Thread(target=print_lines, args=(writer, 50_000, f"run-{number}"))
        for number, writer in enumerate(writers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(writer.flush(20) for writer in writers)
    with Store(path) as store:
        for number in range(2):
            kept = store.lines(f"run-{number}")
            assert [said.number for said in kept.lines] == list(range(50_000))


def test_nothing_to_keep(make: Make, path: Path) -> None:
    """A writer that was fed nothing makes no file."""
    writer = make()
    assert writer.flush(5)
    assert writer.close(5)
    assert not path.exists()


def test_close(make: Make, path: Path) -> None:
    """Closing keeps what was fed and ends the thread; later feeds are thrown away quietly."""
    writer = make()
    writer.run_changed(Recorded(run_record()))
    writer.line(("run-1", line(0)))
    assert writer.close(10)
    assert "flows-writer" not in {thread.name for thread in threading.enumerate()}
    print_lines(writer, 10_000)
    writer.run_changed(Recorded(run_record("late")))
    assert not writer.flush(1)
    with Store(path) as store:
        assert store.lines("run-1").count == 1
        assert store.run("late") is None


def test_heartbeat(make: Make, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel with an active run says that it lives; without one its writer sleeps."""
    monkeypatch.setattr(writing, "BEAT_SECONDS", 0.05)
    writer = make()
    writer.run_changed(Recorded(run_record()))
    assert writer.flush(10)
    with Store(path) as store:

        def heartbeat() -> float:
            found = store._read("kernel", id="kernel-1")
            return float(found[0][-1])

        first = heartbeat()
        eventually(lambda: heartbeat() > first, "another heartbeat")
    writer.run_changed(Recorded(run_record(state_type="CANCELLED")))
    assert writer.flush(10)
    assert writer._rest() is None


def test_cleans_up(make: Make, path: Path) -> None:
    """The writer forgets what is too old when it begins."""
    with Store(path) as store:
        store.save(runs=[ended_record("old", time.time() - 31 * 86_400)])
        store.save(lines=[("old", line(number)) for number in range(100_000)])
    writer = make()
    writer.run_changed(Recorded(run_record()))
    with Store(path) as store:
        eventually(lambda: store.run("old") is None, "the old run's end")
        assert store.run("run-1") == run_record()


def test_endless_printing_stays_within_bounds(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that never stops printing cannot fill the disk, and keeps its newest lines."""
    monkeypatch.setattr(writing, "CLEAN_LINES", 20_000)
    writer = make(keep_bytes=4_000_000)
    writer.run_changed(Recorded(run_record()))
    print_lines(writer, 600_000)
    assert writer.flush(20)
    with Store(path) as store:
        kept = store.lines("run-1", 599_999)
        assert kept.first > 300_000
        assert [said.number for said in kept.lines] == [599_999]
    assert path.stat().st_size < 16_000_000  # all of it would be 27 MB


# -- trouble ------------------------------------------------------------------


def in_trouble(writer: Writer, troubles: list[str], text: str) -> None:
    """The writer has said once what is wrong, and costs a run nothing any more."""
    eventually(lambda: troubles, "the trouble")
    assert print_lines(writer, 100_000) < 1.0
    for number in range(100):
        writer.run_changed(Recorded(run_record(f"run-{number}")))
        writer.task_changed("run-1", Recorded(task_record(number)))
        writer.moved("run-1", move("RUNNING"))
    assert not writer.flush(1)
    assert len(troubles) == 1
    assert text in troubles[0]
    assert "memory only" in troubles[0]
    assert "\n" not in troubles[0]
    assert sum(map(len, (writer._runs, writer._tasks, writer._moves))) == 0
    time_left = time.time() + 1
    writer.keep_up(time_left)
    assert len(writer._lines) == 0


def test_damaged(make: Make, path: Path, troubles: list[str]) -> None:
    """A damaged store is said once, and runs go on."""
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1_000)
    writer = make()
    writer.run_changed(Recorded(run_record()))
    in_trouble(writer, troubles, "damaged")


def test_unwritable(make: Make, tmp_path: Path, troubles: list[str]) -> None:
    """A store that cannot be made is said once, and runs go on."""
    (tmp_path / "file").write_text("")
    writer = make(tmp_path / "file" / "flows.sqlite")
    print_lines(writer, 1)
    in_trouble(writer, troubles, "JUPYTER_FLOWS_STORE")


def test_refused(make: Make, path: Path, troubles: list[str]) -> None:
    """A store that refuses a write is said once, and runs go on."""
    writer = make()
    writer.run_changed(Recorded(run_record()))
    assert writer.flush(10)
    change(path, "CREATE TRIGGER no BEFORE INSERT ON lines BEGIN SELECT RAISE(FAIL, 'no'); END")
    print_lines(writer, 1)
    in_trouble(writer, troubles, "cannot be used (no)")


def test_deleted(
    make: Make, path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that was deleted under the writer is said once, and runs go on."""
    monkeypatch.setattr(writing, "BEAT_SECONDS", 0.05)
    writer = make()
    writer.run_changed(Recorded(run_record()))
    assert writer.flush(10)
    shutil.rmtree(path.parent)
    in_trouble(writer, troubles, "moved or deleted")


def test_locked(
    make: Make, path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A print waits for a locked store only so long; the store is given up when it stays so."""
    monkeypatch.setattr(writing, "BUSY_SECONDS", 1.5)
    monkeypatch.setattr(writing, "PATIENCE_SECONDS", 0.5)
    writer = make()
    writer.run_changed(Recorded(run_record()))
    assert writer.flush(10)
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    begun, waits = time.time(), []
    while not troubles:
        waits.append(print_lines(writer, 100))
        assert time.time() - begun < 20
    assert 0.4 < max(waits) < 1.2
    assert sum(waits) < 1.5
    in_trouble(writer, troubles, "locked")
    lock.execute("ROLLBACK")
    lock.close()


def test_locked_for_a_moment(make: Make, path: Path, troubles: list[str]) -> None:
    """A short lock is waited for, and no line is lost."""
    writer = make()
    writer.run_changed(Recorded(run_record()))
    assert writer.flush(10)
    lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: (lock.execute("ROLLBACK"), lock.close())).start()
    assert print_lines(writer, 50_000) < 2.5
    assert writer.flush(10)
    assert troubles == []
    with Store(path) as store:
        assert store.lines("run-1", 0, 0).count == 50_000


def test_disk_full(
    make: Make, path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is said once, what is in the store stays there, and runs go on."""
    opened: list[Store] = []

    class Small(Store):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._connection.execute("PRAGMA max_page_count = 200").fetchall()
            opened.append(self)

    monkeypatch.setattr(writing, "Store", Small)
    writer = make()
    writer.run_changed(Recorded(run_record()))
    print_lines(writer, 1)
    assert writer.flush(10)
    print_lines(writer, 100_000)
    in_trouble(writer, troubles, "disk is full: make room")
    with Store(path) as store:
        kept = store.lines("run-1")
        assert store.run("run-1") == run_record(log_count=kept.count)
        assert [said.number for said in kept.lines] == list(range(kept.count))


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.getuid() != 0, reason="mounts a small disk"
)
def test_really_full_disk(make: Make, tmp_path: Path, troubles: list[str]) -> None:
    """On a disk that is full the store still opens, with what went in."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        writer = make(disk / "flows.sqlite")
        writer.run_changed(Recorded(run_record()))
        print_lines(writer, 1)
        assert writer.flush(10)
        print_lines(writer, 100_000)
        in_trouble(writer, troubles, "disk")
        writer.close(10)
        with Store(disk / "flows.sqlite") as store:
            kept = store.lines("run-1")
            assert kept.count >= 1
            assert [said.number for said in kept.lines] == list(range(kept.count))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_record_that_raises(make: Make, troubles: list[str]) -> None:
    """A fault in what is fed is said, and no run notices."""
    writer = make()

    class Faulty:
        id = "run-1"

        def record(self) -> RunRecord:
            raise ZeroDivisionError("oops")

    writer.run_changed(Faulty())
    in_trouble(writer, troubles, "ZeroDivisionError: oops")


def test_surrogates(make: Make, path: Path, troubles: list[str]) -> None:
    """A line that UTF-8 cannot hold costs neither itself nor its neighbours."""
    writer = make()
    writer.run_changed(Recorded(run_record()))
    for number, message in enumerate(["a", "\udce9\x00", "c"]):
        writer.line(("run-1", line(number, message)))
    assert writer.flush(10)
    assert troubles == []
    with Store(path) as store:
        messages = [said.message for said in store.lines("run-1").lines]
    assert messages == ["a", "\\udce9\x00", "c"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork(make: Make, path: Path) -> None:
    """A forked child neither waits for its parent's writer nor touches its store."""
    writer = make()
    writer.run_changed(Recorded(run_record()))
    print_lines(writer, 10)
    assert writer.flush(10)
    child = os.fork()
    if not child:
        waited = print_lines(writer, 100_000)
        os._exit(0 if waited < 1 and not writer.flush(1) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    writer.line(("run-1", line(10)))
    assert writer.flush(10)
    with Store(path) as store:
        assert store.lines("run-1").count == 11


def change(path: Path, statement: str) -> None:
    """Change the store behind the writer's back."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()

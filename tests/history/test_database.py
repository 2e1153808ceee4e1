import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from jupyter_flows.errors import StoreUnavailable
from jupyter_flows.history import Store, database

from .fakes import line, run_record


def pragma(path: Path, name: str) -> object:
    connection = sqlite3.connect(path)
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    connection.close()
    return value


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_new_file(path: Path) -> None:
    """A new store uses a write-ahead log, can shrink, and says whose it is."""
    with Store(path):
        assert pragma(path, "journal_mode") == "wal"
        assert pragma(path, "auto_vacuum") == 2
        assert pragma(path, "user_version") == max(database.STEPS)
        assert pragma(path, "application_id") == database.APPLICATION


def test_without_shared_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network drive the store works with a rollback journal."""
    monkeypatch.setattr(database, "_shares_memory", lambda path: False)
    with Store(path) as store, Store(path) as reader:
        assert pragma(path, "journal_mode") == "delete"
        store.save(runs=[run_record()], lines=[("run-1", line(0, "kept"))])
        assert [said.message for said in reader.lines("run-1").lines] == ["kept"]


def test_network_drives_are_recognised(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount that holds the file decides, not one above it."""
    disk = type("Disk", (), {})
    root, near = disk(), disk()
    root.mountpoint, root.fstype = "/", "nfs4"
    near.mountpoint, near.fstype = str(path.parents[1].resolve()), "ext4"
    monkeypatch.setattr(database.psutil, "disk_partitions", lambda all: [near, root])
    assert database._shares_memory(path)
    monkeypatch.setattr(database.psutil, "disk_partitions", lambda all: [root])
    assert not database._shares_memory(path)


def test_opened_by_many_at_once(path: Path) -> None:
    """Any number of programs may make the store at the same moment."""
    troubles: list[StoreUnavailable] = []
    together = threading.Barrier(8)

    def open_and_save(number: int) -> None:
        together.wait()
        try:
            with Store(path) as store:
                store.save(runs=[run_record(f"run-{number}")])
        except StoreUnavailable as error:
            troubles.append(error)

    threads = [threading.Thread(target=open_and_save, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    with Store(path) as store:
        assert len(store.runs()) == 8


def test_older_schema_is_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of an older package gets what is new, and keeps what it has."""
    with Store(path) as store:
        store.save(runs=[run_record()])
    step = "ALTER TABLE runs ADD COLUMN colour TEXT;\nCREATE INDEX by_colour ON runs (colour);"
    newest = max(database.STEPS) + 1
    monkeypatch.setitem(database.STEPS, newest, step)
    with Store(path) as store:
        assert store.run("run-1") == run_record()
    assert pragma(path, "user_version") == newest


def test_newer_schema_that_only_adds_is_shared(path: Path) -> None:
    """An older package reads and writes a store to which a newer one added something."""
    Store(path).close()
    newer = max(database.STEPS) + 1
    change(
        path,
        "ALTER TABLE runs ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'",
        "CREATE TABLE novelties (name TEXT)",
        f"PRAGMA user_version = {newer}",
    )
    with Store(path) as store:
        store.save(runs=[run_record()], lines=[("run-1", line(0))])
        assert store.run("run-1") == run_record(log_count=1)
    assert pragma(path, "user_version") == newer


def test_newer_schema_that_differs_is_refused(path: Path) -> None:
    """A store that a newer package changed is refused, and left as it is."""
    Store(path).close()
    change(path, "PRAGMA user_version = 2000")
    with pytest.raises(StoreUnavailable, match=r"newer jupyter_flows .* Upgrade jupyter_flows"):
        Store(path)
    assert pragma(path, "user_version") == 2000


def test_failed_migration_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration is done wholly or not at all."""
    Store(path).close()
    before = max(database.STEPS)
    monkeypatch.setitem(
        database.STEPS, before + 1, "CREATE TABLE novelties (name TEXT);\nDROP TABLE nothing;"
    )
    with pytest.raises(StoreUnavailable):
        Store(path)
    assert pragma(path, "user_version") == before
    change(path, "CREATE TABLE novelties (name TEXT)")


def test_another_programs_database(path: Path) -> None:
    """Another program's database is refused, and left as it is."""
    path.parent.mkdir()
    change(path, "CREATE TABLE books (title TEXT)")
    with pytest.raises(StoreUnavailable, match="another program's database"):
        Store(path)
    assert pragma(path, "user_version") == 0


def test_no_database_at_all(path: Path) -> None:
    """A file that is no database is called damaged, and left as it is."""
    path.parent.mkdir()
    path.write_bytes(b"not a database " * 1_000)
    with pytest.raises(StoreUnavailable, match=r"damaged: move it away"):
        Store(path)
    assert path.read_bytes().startswith(b"not a database")


def test_damaged_pages(path: Path) -> None:
    """Damage inside the file is a StoreUnavailable wherever it is met."""
    with Store(path) as store:
        store.save(runs=[run_record()], lines=[("run-1", line(n, "x" * 200)) for n in range(5_000)])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    with pytest.raises(StoreUnavailable, match="damaged"), Store(path) as store:
        store.runs()


def test_locked(store: Store) -> None:
    """A store that stays locked says so, after waiting as long as it was told."""
    with Store(store.path, wait_seconds=0.1) as other:
        connection = sqlite3.connect(store.path, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked: close that program"):
            other.save(runs=[run_record()])
        connection.execute("ROLLBACK")
        connection.close()
        other.save(runs=[run_record()])


def test_directory_that_is_a_file(tmp_path: Path) -> None:
    """A path that leads nowhere is a StoreUnavailable."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="set JUPYTER_FLOWS_STORE"):
        Store(tmp_path / "file" / "flows.sqlite")
    with pytest.raises(StoreUnavailable, match="set JUPYTER_FLOWS_STORE"):
        Store(tmp_path)


AS_NOBODY = """
import os, sys
from jupyter_flows.errors import StoreUnavailable
from jupyter_flows.history import Store
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    with Store(sys.argv[1]) as store:
        print([run.id for run in store.runs()])
        store.clean(0, 0)
except StoreUnavailable as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
def test_read_only() -> None:
    """A store that may only be read, or not even that, says so."""
    with tempfile.TemporaryDirectory() as directory:
        above = Path(directory)
        above.chmod(0o755)
        path = above / "data" / "flows.sqlite"
        with Store(path) as store:
            store.save(runs=[run_record()])
        path.chmod(0o444)
        path.parent.chmod(0o555)
        assert "writable" in as_nobody(path)
        path.parent.chmod(0o000)
        assert "set JUPYTER_FLOWS_STORE" in as_nobody(path)
        assert "set JUPYTER_FLOWS_STORE" in as_nobody(above / "deeper" / "flows.sqlite")
        path.parent.chmod(0o700)


def as_nobody(path: Path) -> str:
    """Open the store as a user who has only the rights that others have."""
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(path)], capture_output=True, text=True, check=True
    )
    return done.stdout

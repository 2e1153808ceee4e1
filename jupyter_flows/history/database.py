"""Opens the store's file, and says in plain words why that cannot be done.

- The file is the user's alone: mode 0600, in a directory of mode 0700.
- It uses a write-ahead log, so that readers and writers do not wait for each
  other. Where the file system cannot share memory between processes (a network
  drive) it uses a rollback journal instead.
- What was committed survives the end of the process, however it ended. A power
  cut may lose the last seconds and never the file (``synchronous = NORMAL``).
- The schema's version is checked at every opening; see schema.sql.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from jupyter_flows.errors import StoreUnavailable
from jupyter_flows.history import sql

APPLICATION = 0x4A464C57  # "JFLW": tells the store from another program's database
STEPS = {int(version): script for version, script in sql.load("schema.sql").items()}
CHECKPOINT_PAGES = 4_000  # 16 MB of log, so that the disk is waited for less often
LOG_BYTES = 64 * 2**20  # a log that grew beyond is cut back

# Where processes on two machines would not see each other's shared memory.
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afpfs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3"}
    | {"smbfs", "webdav"}
)


def connect(path: Path, wait_seconds: float) -> sqlite3.Connection:
    """Open the store, make it if there is none, and bring its schema up to date.

    Args:
        path: the file.
        wait_seconds: how long any statement waits for another's lock.

    Raises:
        StoreUnavailable: says what is wrong and what to do.
    """
    connection = None
    try:
        _make_private(path)
        connection = sqlite3.connect(
            path, timeout=wait_seconds, isolation_level=None, check_same_thread=False
        )
        _upgrade(connection, path)
        _use_log(connection, path)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        return connection
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error | OSError):
            raise explain(error, path) from error
        raise


def explain(error: sqlite3.Error | OSError, path: Path) -> StoreUnavailable:
    """Return what went wrong with the store as one line that says what to do."""
    if isinstance(error, OSError):
        code, said = None, error.strerror or type(error).__name__
    else:
        code, said = getattr(error, "sqlite_errorcode", 0) & 0xFF, str(error)
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            advice = "Another program holds it locked: close that program."
        case sqlite3.SQLITE_FULL:
            advice = "Its disk is full: make room."
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            advice = "The file is damaged: move it away, and a new one will be made."
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            advice = "Make it and its directory writable, or set JUPYTER_FLOWS_STORE."
        case None | sqlite3.SQLITE_CANTOPEN:
            advice = "Make its directory writable, or set JUPYTER_FLOWS_STORE to another file."
        case _:
            advice = "Check its disk, or set JUPYTER_FLOWS_STORE to another file."
    return StoreUnavailable(f"The store of runs {path} cannot be used ({said}). {advice}")


@contextmanager
def between(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    """Do what is within in one transaction, begun like this: all of it or nothing."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _make_private(path: Path) -> None:
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    # Only a file that is not there is opened here: closing a descriptor of an
    # existing one would drop the locks that this process holds on it elsewhere.
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    with between(connection, "BEGIN"):
        outdated = _outdated(connection, path)
    if outdated:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in a new file only
        with between(connection, "BEGIN IMMEDIATE"):
            for version in _outdated(connection, path):  # again: another may have been faster
                for statement in _statements(STEPS[version]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version}")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")


def _outdated(connection: sqlite3.Connection, path: Path) -> list[int]:
    """Return the steps that the file lacks, once sure that it may be used at all."""
    # In this order within a transaction: the first read fixes what the others see.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION and (application or version or tables):
        raise StoreUnavailable(
            f"{path} is another program's database. Set JUPYTER_FLOWS_STORE to another file."
        )
    newest = max(STEPS)
    if version // 1_000 > newest // 1_000:
        raise StoreUnavailable(
            f"The store of runs {path} was written by a newer jupyter_flows (schema {version}, "
            f"this one knows {newest}). Upgrade jupyter_flows here, "
            "or set JUPYTER_FLOWS_STORE to another file."
        )
    return [step for step in STEPS if step > version]


def _statements(script: str) -> list[str]:
    statements, begun = [], ""
    for line in script.splitlines():
        begun += line + "\n"
        if sqlite3.complete_statement(begun):
            statements.append(begun)
            begun = ""
    return statements


def _use_log(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode == "wal" or not _shares_memory(path):
        return
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.OperationalError:
        # Another is opening the file at this moment and switches it, or the file
        # system cannot: a rollback journal serves as well, only slower. What else
        # may be wrong with the file shows at its first use.
        connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()


def _shares_memory(path: Path) -> bool:
    real = path.resolve()
    holding = [
        disk
        for disk in psutil.disk_partitions(all=True)
        if disk.mountpoint and real.is_relative_to(disk.mountpoint)
    ]
    nearest = max(holding, key=lambda disk: len(disk.mountpoint), default=None)
    return nearest is None or nearest.fstype.lower() not in NETWORK_FILE_SYSTEMS

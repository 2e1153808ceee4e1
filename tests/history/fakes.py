"""Runs, tasks and kernels that are nothing but their records."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from jupyter_flows.records import KernelRecord, LogLine, RunRecord, TaskRecord, Transition

DEADLINE_SECONDS = 20.0


def kernel_record(id: str = "kernel-1", **changes: Any) -> KernelRecord:
    """This process as a kernel."""
    record = KernelRecord(
        id=id,
        pid=os.getpid(),
        process_started=psutil.Process().create_time(),
        host=socket.gethostname(),
        connection_file=None,
    )
    return replace(record, **changes)


def run_record(id: str = "run-1", **changes: Any) -> RunRecord:
    """A run that is running."""
    record = RunRecord(
        id=id,
        name="train",
        flow="train",
        on="thread",
        kernel="kernel-1",
        parent=None,
        state_type="RUNNING",
        state_name="Running",
        state_message="",
        state_time=1_000.0,
        asked=None,
        reason=None,
        waiting=None,
        stopping=None,
        created=1_000.0,
        started=1_000.0,
        ended=None,
        paused_seconds=0.0,
        paused_since=None,
        attempt=1,
        replay_of=None,
        metadata={},
        tags=(),
        parameters={},
        cell=None,
        progress=(),
        task_count=0,
        log_first=0,
        log_count=0,
        live=(),
        output_count=0,
        output_changes=0,
        result=None,
        error=None,
    )
    return replace(record, **changes)


def ended_record(id: str, ended: float, **changes: Any) -> RunRecord:
    """A run that has ended."""
    state = {"state_type": "COMPLETED", "state_name": "Completed", "state_time": ended}
    return run_record(id, **{"created": ended, "ended": ended, **state, **changes})


def task_record(number: int = 0, **changes: Any) -> TaskRecord:
    """A task that is running."""
    record = TaskRecord(
        number=number,
        parent=None,
        name=f"extract-{number}",
        flow_run=None,
        state_type="RUNNING",
        state_name="Running",
        state_message="",
        created=1_000.0,
        started=1_000.5,
        ended=None,
        attempt=1,
        upstream=(),
        tags=(),
        transitions=(move("PENDING", 1_000.0), move("RUNNING", 1_000.5)),
    )
    return record._replace(**changes)


def move(type: str, at: float = 1_000.0, message: str = "") -> Transition:
    """A move to a state."""
    return Transition(time=at, type=type, name=type.capitalize(), message=message)


def line(number: int, message: str = "a line", at: float | None = None) -> LogLine:
    """A printed line."""
    return LogLine(number, time.time() if at is None else at, 20, "stdout", message)


class Recorded:
    """What the writer is fed: something that has a record, which tests may exchange."""

    def __init__(self, record: Any) -> None:
        self.id = getattr(record, "id", None)
        self.current = record

    def record(self) -> Any:
        return self.current


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's value as soon as it is true."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.01)
    return value


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return path.stat().st_mode & 0o777

"""What the kernel shows of tasks, bars and unfinished lines that live in a child.

Each is written whole by the run's thread and may be read by any thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import time

from jupyter_flows.engine.progress import Bars
from jupyter_flows.records import ProgressRecord, TaskRecord
from jupyter_flows.states import State, StateType


class TaskImage:
    """A task run or subflow of another process."""

    __slots__ = ("_record",)

    def __init__(self, record: TaskRecord) -> None:
        self._record = record

    @classmethod
    def unknown(cls, number: int) -> TaskImage:
        """Return what stands for a task of which only the number is known."""
        kind = StateType.PENDING
        record = TaskRecord(
            number=number,
            parent=None,
            name="task",
            flow_run=None,
            state_type=kind,
            state_name=kind.capitalize(),
            state_message="",
            created=time(),
            started=None,
            ended=None,
            attempt=0,
            upstream=(),
            tags=(),
            transitions=(),
        )
        return cls(record)

    def update(self, record: TaskRecord) -> None:
        """Show it as it is now."""
        self._record = record

    def end(self, state: StateType, message: str) -> bool:
        """Show it as ended, its process being gone; return False if it had."""
        if self.state.is_final():
            return False
        name = str(state).capitalize()
        self._record = self._record._replace(
            state_type=state, state_name=name, state_message=message, ended=time()
        )
        return True

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def number(self) -> int:
        """Its place among the run's tasks."""
        return self._record.number

    @property
    def state(self) -> State:
        """Its state, without what came with it."""
        record = self._record
        return State(StateType(record.state_type), record.state_name, record.state_message)

    def record(self) -> TaskRecord:
        """Return it as it is now."""
        return self._record

    def __repr__(self) -> str:
        return f"<TaskImage {self.name!r}>"


class BarImages(Bars):
    """The bars of a run, drawn in another process."""

    def __init__(self) -> None:
        super().__init__()
        self._records: tuple[ProgressRecord, ...] = ()

    def update(self, records: tuple[ProgressRecord, ...]) -> None:
        """Show them as they are now."""
        self._records = records

    def records(self) -> tuple[ProgressRecord, ...]:
        """Return all bars as they are now."""
        return self._records

    def close(self) -> None:
        """The process is over, and so are its loops."""
        now = time()
        self._records = tuple(
            each if each.ended is not None else replace(each, ended=now) for each in self._records
        )


class LiveImage:
    """The unfinished lines of another process, in the place of a `LineWriter`."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: tuple[tuple[str, str], ...] = ()

    def update(self, lines: tuple[tuple[str, str], ...]) -> None:
        """Show them as they are now."""
        self._lines = lines

    def live(self) -> Iterator[tuple[str, str]]:
        """Yield them, as (source, text)."""
        yield from self._lines

    def end_line(self) -> None:
        """They are the other process's to end."""

    def close(self) -> None:
        """They are gone."""
        self._lines = ()

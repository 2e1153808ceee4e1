"""Task runs, and subflows as the runs that call them list them.

They are written by the thread that runs them and read by any; like all lives they
move under the lock of their flow run (see `life`). Thousands of them are made a
second, so what each holds is kept small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_flows.engine.life import Life, as_transition
from jupyter_flows.engine.logs import LineWriter
from jupyter_flows.records import TaskRecord
from jupyter_flows.states import Pending, State

if TYPE_CHECKING:
    from jupyter_flows.engine.runs import FlowRun


class Subflow:
    """A run of a flow as the run that called it lists it: among its tasks."""

    __slots__ = ("number", "parent", "run")

    def __init__(self, run: FlowRun, parent: Life) -> None:
        self.run = run
        self.parent = parent
        with parent._lock:
            self.number = parent.flow_run.list_task(self)
        self.changed()

    @property
    def name(self) -> str:
        """The name of the subflow's run."""
        return self.run.name

    @property
    def state(self) -> State:
        """The state of the subflow's run."""
        return self.run.state

    def changed(self) -> None:
        """Tell the history of the calling run."""
        calling = self.parent.flow_run
        calling._history.task_changed(calling.id, self)

    def record(self) -> TaskRecord:
        """Return it as it is now. Any thread."""
        return _task_record(self.run, self.number, self.parent, subflow=self.run.id)


class TaskRun(Life):
    """A run of a task."""

    parent: Life

    __slots__ = (
        "_out",
        "log_prints",
        "number",
        "parent",
        "task_retries",
    )

    def __init__(
        self,
        task_name: str,
        *,
        parent: Life,
        log_prints: bool | None = None,
        retries: int = 0,
    ) -> None:
        flow_run = parent.flow_run
        super().__init__(task_name, Pending(), flow_run._lock)
        self.flow_run = flow_run
        self.parent = parent
        self.log_prints = flow_run.options.log_prints if log_prints is None else log_prints
        self.task_retries = retries
        self._out: LineWriter | None = None
        with self._lock:
            self.name = f"{task_name}-{flow_run._task_numbers[task_name]}"
            flow_run._task_numbers[task_name] += 1
            self.number = flow_run.list_task(self)
            self._mark()

    @property
    def id(self) -> str:
        """Its id: the flow run's and its own number."""
        return f"{self.flow_run.id}/{self.number}"

    @property
    def caller(self) -> Life | None:
        """The run or task run that called it."""
        return self.parent

    @property
    def retries(self) -> int:
        """How many attempts may follow a failed one."""
        return self.task_retries

    @property
    def captures(self) -> bool:
        """Whether what it prints becomes log lines."""
        return self.log_prints

    def stream(self, level: int) -> LineWriter | None:
        """Return the writer of its prints, or None if they pass."""
        if not self.log_prints:
            return None
        if self._out is None:
            self._out = self.flow_run.open_stream(self.name)
        return self._out

    def _changed(self, state: State) -> None:
        self.flow_run._history.task_changed(self.flow_run.id, self)

    def close(self, state: State) -> None:
        """Make a line of what was printed without a newline."""
        if self._out is not None:
            self.flow_run.close_stream(self._out)

    def __repr__(self) -> str:
        return f"<TaskRun {self.name!r}>"

    def record(self) -> TaskRecord:
        """Return the task run as it is now. Any thread."""
        return _task_record(self, self.number, self.parent)


def _task_record(
    life: Life, number: int, parent: Life, *, subflow: str | None = None
) -> TaskRecord:
    state = life.state
    return TaskRecord(
        number,
        parent.listed.number if isinstance(parent.listed, TaskRun) else None,
        life.name,
        subflow,
        state.type,
        state.name,
        state.message,
        life.created,
        life.started,
        life.ended,
        life.attempt,
        tuple([as_transition(each) for each in life.states]),
    )

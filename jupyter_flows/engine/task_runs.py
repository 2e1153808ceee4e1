"""Task runs, and subflows as the runs that call them list them.

They are written by the thread that runs them and read by any; like all lives they
move under the lock of their flow run (see `life`). Thousands of them are made a
second, so what each holds is kept small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import ismethod, signature
from typing import TYPE_CHECKING, Any

from jupyter_flows.engine.life import Life, as_transition
from jupyter_flows.engine.logs import LineWriter
from jupyter_flows.records import TaskRecord
from jupyter_flows.states import Pending, State

if TYPE_CHECKING:
    from jupyter_flows.engine.runs import FlowRun


class Subflow:
    """A run of a flow as the run that called it lists it: among its tasks."""

    __slots__ = ("number", "parent", "run", "upstream")

    def __init__(self, run: FlowRun, parent: Life, upstream: tuple[int, ...] = ()) -> None:
        self.run = run
        self.upstream = upstream
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
        run = self.run
        return _task_record(run, self.number, self.parent, self.upstream, run.tags, subflow=run.id)


class TaskRun(Life):
    """A run of a task."""

    parent: Life

    __slots__ = (
        "_out",
        "call",
        "log_prints",
        "number",
        "parent",
        "tags",
        "task_name",
        "task_retries",
        "upstream",
    )

    def __init__(
        self,
        task_name: str,
        *,
        parent: Life,
        author: Any = None,
        log_prints: bool | None = None,
        retries: int = 0,
        tags: frozenset[str] = frozenset(),
        upstream: tuple[int, ...] = (),
    ) -> None:
        flow_run = parent.flow_run
        super().__init__(task_name, Pending(), flow_run._lock)
        self.flow_run = flow_run
        self.parent = parent
        self.author = author
        self.log_prints = flow_run.options.log_prints if log_prints is None else log_prints
        self.task_name = task_name
        self.task_retries = retries
        self.call: Callable[..., Any] | None = None  # what it is called with, until it has ended
        self.tags = tags
        self.upstream = upstream  # the numbers of the task runs that it depends on
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
    def parameters(self) -> Mapping[str, Any]:
        """What it is called with, by name, until it has ended; none after that."""
        call = self.call
        if call is None:
            return {}
        if not isinstance(call, partial):
            call = partial(call)
        fn: Any = call.func
        args = call.args
        if ismethod(fn):
            fn, args = fn.__func__, (fn.__self__, *args)
        try:
            bound = signature(fn).bind(*args, **call.keywords)
        except (TypeError, ValueError):  # written in C, and does not tell
            return {}
        bound.apply_defaults()
        return bound.arguments

    def dict(self) -> dict[str, Any]:
        """Return it as plain dicts, lists, texts and numbers."""
        return {"id": self.id, "flow_run_id": self.flow_run.id, **self.record().as_json()}

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

    def show(self) -> None:
        """Tell history of it while it waits; it is told of every move by itself."""
        with self._lock:
            self._changed(self.state)

    def close(self, state: State) -> None:
        """Make a line of what was printed without a newline."""
        self.call = None
        if self._out is not None:
            self.flow_run.close_stream(self._out)

    def __repr__(self) -> str:
        return f"<TaskRun {self.name!r}>"

    def record(self) -> TaskRecord:
        """Return the task run as it is now. Any thread."""
        return _task_record(self, self.number, self.parent, self.upstream, self.tags)


def _task_record(
    life: Life,
    number: int,
    parent: Life,
    upstream: tuple[int, ...],
    tags: frozenset[str],
    *,
    subflow: str | None = None,
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
        upstream,
        tuple(sorted(tags)) if tags else (),
        tuple([as_transition(each) for each in life.states]),
    )

"""What is kept and shown of a run: plain records that can be written as JSON.

A record is a snapshot. The engine makes it, the store keeps it, the server and
the kernel's control channel send it; the view reads it. So that all of them
agree, the fields are described here and nowhere else. Times are seconds since
the epoch (UTC), durations are seconds. Standard library only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

WITHIN = " · "
"""What stands in a line's source after the name of a task run, if that is not all of it."""


def source_within(name: str, source: str) -> str:
    """Return the source of a line that is from somewhere in a task run: its logger, a command."""
    return f"{name}{WITHIN}{source}"


class LogLine(NamedTuple):
    """One line of a run's log."""

    number: int  # its place in the run's log, from 0 and without gaps
    time: float  # when it was written
    level: int  # as in `logging`: 10, 20, 30, 40, 50
    source: str  # where from: "stdout", "stderr", a logger's name, "flow"; see `source_within`
    message: str  # the text, without its newline; may hold ANSI colours

    @property
    def timestamp(self) -> datetime:
        """When the line was written, as an aware UTC `datetime`."""
        return datetime.fromtimestamp(self.time, UTC)


class Transition(NamedTuple):
    """One move of a run from state to state."""

    time: float  # when
    type: str  # the new state's type, such as "PAUSED"
    name: str  # the new state's name, such as "TimedOut"
    message: str  # its cause, one line for people

    def as_json(self) -> dict[str, Any]:
        """Return it as plain dicts, lists, texts and numbers."""
        return self._asdict()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressRecord:
    """One progress bar of a run."""

    number: int  # its place among the run's bars, from 0
    parent: int | None  # the bar it is nested in
    label: str  # what is counted
    done: float  # how much is done
    total: float | None  # of how much, if known
    started: float  # when it began
    ended: float | None  # when it ended
    rate: float | None  # steps a second, smoothed


class TaskRecord(NamedTuple):
    """One task run (or subflow) of a run. Made 40,000 times a second, as `Transition` is."""

    number: int  # its place among the run's tasks, from 0
    parent: int | None  # the task it was called in
    name: str  # its name, such as "extract-0"
    flow_run: str | None  # for a subflow, the id of its own run
    state_type: str
    state_name: str
    state_message: str
    created: float
    started: float | None  # when its body first began
    ended: float | None
    attempt: int  # 1 for the first; 0 before it
    upstream: tuple[int, ...]  # the numbers of the tasks whose results it was given, or waited for
    tags: tuple[str, ...]
    transitions: tuple[Transition, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain dicts, lists, texts and numbers."""
        return {**self._asdict(), "transitions": [move.as_json() for move in self.transitions]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a run that goes no further waits for."""

    kind: str  # "run" (an earlier run), "slot", "retry", "approval" or "input"
    text: str  # one line for people: the run's name, the question
    run: str | None = None  # the id of the run it waits for
    until: float | None = None  # when it gives up or goes on by itself
    number: int | None = None  # of a question to a person: its place among the run's, from 1
    key: str | None = None  # what tells it from other questions of the run, as its code says
    schema: Mapping[str, Any] | None = None  # the JSON schema of the input that is asked for
    initial: Mapping[str, Any] | None = None  # of that, what is taken for what is left out
    description: str | None = None  # what its author says of the input
    held: bool = False  # whether a pause is asked beside, which is resumed by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """The exception that a run ended with."""

    type: str  # the class, such as "ValueError"
    message: str  # str(exception)
    traceback: str  # as IPython shows it, with ANSI colours


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One call of a stack."""

    file: str  # the file's name, or what stands for it, such as a notebook's cell
    line: int  # from 1; 0 where it is not known
    function: str
    text: str  # the source line, without its indentation; empty where there is no source
    own: bool  # whether it is the user's own code: neither the library's nor a package's


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Where one thread, coroutine or process of a run is."""

    name: str  # the thread's, task's or process's
    kind: str  # "thread", "coroutine" or "process"
    doing: str  # in a word or two: "running", "waiting", "paused", "suspended"
    frames: tuple[Frame, ...]  # the outermost first; the engine's own left out
    hint: str | None = None  # for well-known ways to hang: what to write instead

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.kind}, {self.doing})"]
        for frame in self.frames:
            place = f"{frame.file}, line {frame.line}, in " if frame.file else ""
            lines.append(f"  {place}{frame.function}")
            lines += [f"    {frame.text}"] if frame.text else []
        lines += [f"  {self.hint}"] if self.hint else []
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain dicts, lists, texts and numbers."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """How far the stopping of a run has come that was cancelled, or took too long."""

    since: float  # when it was asked
    rung: str  # what was done last: "asked", "interrupted" or "killed"
    next: str | None  # what is done next, if it has not stopped by `at`: "interrupt", "kill"
    at: float | None
    stuck: Frame | None = None  # the line that holds it, as seen when the last rung was taken
    hint: str | None = None  # what to write instead, where that is well known


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as it is now."""

    id: str  # a UUID in text form
    name: str  # the run's name: the flow's, unless it was given one of its own
    flow: str  # the flow's name
    on: str  # the worker: "thread", "async", "main", …
    kernel: str  # which kernel runs it, see `KernelRecord.id`
    parent: str | None  # the run that called it, for a subflow
    state_type: str
    state_name: str
    state_message: str
    state_time: float
    asked: str | None  # "cancel" or "pause", while asked and not yet so
    reason: str | None  # why it was cancelled: user, timeout, parent, concurrency, shutdown
    waiting: Waiting | None
    stopping: Stopping | None
    created: float
    started: float | None  # when its body first began
    ended: float | None
    paused_seconds: float  # how long it has been paused, up to `paused_since`
    paused_since: float | None  # since when it is paused now
    attempt: int  # 1 for the first, those of the runs that it replays counted; 0 before it
    replay_of: str | None  # the id of the run that it does anew
    metadata: Mapping[str, str]  # what its author says of it, to find it by
    tags: tuple[str, ...]
    parameters: Mapping[str, str]  # each as text, shortened
    cell: str | None  # the id of the notebook cell that started it
    progress: tuple[ProgressRecord, ...]
    task_count: int
    log_first: int  # the number of the oldest line still held
    log_count: int  # how many lines there have been: the next line's number
    live: tuple[tuple[str, str], ...]  # lines not ended yet: (source, text so far)
    output_count: int  # how many rich outputs there are
    output_changes: int  # grows whenever an output is added, changed or cleared
    result: str | None  # the result's text form, shortened
    error: ErrorRecord | None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain dicts, lists, texts and numbers."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRecord:
    """The process that runs a run, told apart from a later one with the same pid."""

    id: str  # a UUID in text form, new for each process
    pid: int
    process_started: float  # the process's own start time
    host: str
    connection_file: str | None  # how to reach it, for a Jupyter kernel


def lines_as_json(lines: Sequence[LogLine]) -> list[list[Any]]:
    """Return lines as the arrays `[number, time, level, source, message]` that travel."""
    return [list(line) for line in lines]

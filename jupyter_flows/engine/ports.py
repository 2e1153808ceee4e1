"""What the engine asks of others, and what it does without them.

`history` keeps what happens to runs; the kernel extension fills it with the
store's writer, and without one nothing is kept beyond memory. `show_error` makes
the text of a traceback, and `show_file` the name of a file as people know it, such as
a cell's; the kernel extension fills them with IPython's own.
`kept_lines` reads lines of a run's log that have left memory, and `kept_run` tells the id
of a past run that begins like this; the kernel extension fills them with the store's.
`leases` gives out the slots of limits that have a name, to all kernels of the user; the
kernel extension fills it with the store's, and without one they are this process's.
`process_preparations` are functions, as ``module:name``, that the supervisor of
processes calls before it forks the first.
`results_at` says where cached results are kept: the folder, and for how many seconds what
nobody asks for; None is the user's own, beside the store.
`listeners` hear of every change of state; they are called on the thread that
made the change and must neither block nor raise.
"""

import math
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from jupyter_flows.engine.leases import OwnLeases
from jupyter_flows.records import LogLine, Transition

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life
    from jupyter_flows.engine.processes.images import TaskImage
    from jupyter_flows.engine.runs import FlowRun
    from jupyter_flows.engine.task_runs import Subflow, TaskRun

LinePlain = tuple[int, float, int, str, str]

Wait = Callable[[Callable[[], bool], Callable[[Callable[[], None]], None], float], bool]
"""Waits until the first says so, for so many seconds at most; returns whether it did not run
out of time. The second takes the function to call when the first is to be asked again."""


_MOST_CALLS = 100  # that a traceback is shown with
_CALLS_AT_AN_END = 20  # that are shown of a longer one


class History(Protocol):
    """Keeps what happens to runs. Any thread may call it; `keep_up` may wait, as told."""

    due: float
    """When lines given so far must have been written. A line later than this calls `keep_up`."""

    @property
    def line(self) -> Callable[[tuple[str, LinePlain]], None]: ...

    def keep_up(self, now: float, wait: Wait) -> None: ...

    def moved(self, run_id: str, transition: Transition) -> None: ...

    def run_changed(self, run: "FlowRun") -> None: ...

    def task_changed(self, run_id: str, task: "TaskRun | Subflow | TaskImage") -> None: ...


class Leases(Protocol):
    """Gives out slots of limits that have a name. Any thread may call it.

    All of it may raise `StoreUnavailable`: then nobody gets a slot.
    """

    @property
    def polls(self) -> bool:
        """Whether slots may become free without a call of `leave` in this process."""

    def set_limit(self, name: str, slots: int | None) -> None:
        """Declare how many slots a limit has; None lifts it."""

    def limits(self) -> Mapping[str, int]:
        """Return the limits that are declared, with their slots."""

    def enter(self, names: Sequence[str], occupy: int) -> tuple[int, bool]:
        """Stand in line for so many slots of each; return a ticket, and whether one has them."""

    def grant(self, tickets: Collection[int]) -> Collection[int]:
        """Give slots to those whose turn it is, and return which of `tickets` have theirs."""

    def leave(self, ticket: int) -> None:
        """Give slots back, or a place in line. Harmless when that was done; never raises."""


def _ignore(*_: Any) -> None:
    return None


class NoHistory:
    """Keeps nothing."""

    due = math.inf
    line = staticmethod(_ignore)
    keep_up = staticmethod(_ignore)
    moved = staticmethod(_ignore)
    run_changed = staticmethod(_ignore)
    task_changed = staticmethod(_ignore)


def plain_traceback(error: BaseException) -> str:
    """Format a traceback as Python does, from the first frame that is not the engine's."""
    trace, gap = both_ends(user_traceback(error))
    return "".join(traceback.format_exception(type(error), error, trace)) + gap


def both_ends(trace: TracebackType | None) -> tuple[TracebackType | None, str]:
    """Return both ends of a traceback that is too long to be read, and what to say of the rest.

    To format all of a recursion's takes seconds, for each run that it passes through.
    """
    calls = []
    each = trace
    while each is not None:
        calls.append(each)
        each = each.tb_next
    left_out = len(calls) - 2 * _CALLS_AT_AN_END
    if len(calls) <= _MOST_CALLS:
        return trace, ""
    shown: TracebackType | None = None
    for call in reversed((*calls[:_CALLS_AT_AN_END], *calls[-_CALLS_AT_AN_END:])):
        shown = TracebackType(shown, call.tb_frame, call.tb_lasti, call.tb_lineno)
    return shown, f"\n… {left_out:,} calls in the middle are left out …\n"


def user_traceback(error: BaseException) -> Any:
    """Return the traceback of `error` from the first frame that is not the engine's own."""
    trace = error.__traceback__
    while trace is not None and is_engine_module(trace.tb_frame.f_globals.get("__name__", "")):
        trace = trace.tb_next
    return trace or error.__traceback__


def is_engine_module(name: Any) -> bool:
    """Whether a module is a part of jupyter_flows."""
    return isinstance(name, str) and (name == "jupyter_flows" or name.startswith("jupyter_flows."))


def no_lines(run_id: str, start: int, stop: int) -> list[LogLine]:
    """Nothing is kept beyond memory."""
    return []


def no_run(prefix: str) -> str | None:
    """Nothing is kept beyond memory."""
    return None


history: History = NoHistory()
kept_lines: Callable[[str, int, int], list[LogLine]] = no_lines
kept_run: Callable[[str], str | None] = no_run
leases: Leases = OwnLeases()
show_error: Callable[[BaseException], str] = plain_traceback
show_file: Callable[[str], str] = str
process_preparations: list[str] = []
results_at: tuple[str, float] | None = None
listeners: list[Callable[["Life"], None]] = []
kernel_id: str = ""  # the `KernelRecord.id` of this process, where one is kept
adopted: bool = False  # whether another process ends what this one leaves behind

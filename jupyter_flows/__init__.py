"""Flows and tasks in the background of a notebook: watch, pause, resume and cancel them."""

from typing import TYPE_CHECKING, Any

from jupyter_flows import runs, runtime
from jupyter_flows.annotations import allow_failure, unmapped
from jupyter_flows.bars import ProgressBar, progress
from jupyter_flows.commands import run_process
from jupyter_flows.concurrency import (
    Concurrency,
    ConcurrencyStrategy,
    concurrency,
    concurrency_limits,
    set_concurrency_limit,
    set_max_runs,
    set_tag_limit,
)
from jupyter_flows.context import (
    RunContext,
    current_run,
    get_run_context,
    get_run_logger,
    is_cancellation,
    pause_flow_run,
    resume_flow_run,
)
from jupyter_flows.engine.checkpoints import checkpoint
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.shielding import shield
from jupyter_flows.engine.task_runs import TaskRun
from jupyter_flows.errors import (
    AcquireConcurrencySlotTimeoutError,
    AmbiguousRun,
    CancelledRun,
    CommandFailed,
    ConcurrencyKeyError,
    ConcurrencySlotAcquisitionError,
    CrashedRun,
    FailedRun,
    FlowPauseTimeout,
    FlowsError,
    InvalidInput,
    MissingResult,
    NonRetryableException,
    NotPaused,
    NotReplayable,
    ParameterError,
    ReservedArgumentError,
    RunCancellation,
    UnknownRun,
    UpstreamTaskError,
)
from jupyter_flows.flow_runs import apause_flow_run, aresume_flow_run
from jupyter_flows.flows import Flow, flow
from jupyter_flows.futures import Future, as_completed, wait
from jupyter_flows.states import State, StateType
from jupyter_flows.tagging import tags
from jupyter_flows.tasks import Task, exponential_backoff, task
from jupyter_flows.timeouts import timeout, timeout_async
from jupyter_flows.worker_threads import run_sync_in_worker_thread

if TYPE_CHECKING:
    from jupyter_flows.input import RunInput

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what needs pydantic only when it is asked for."""
    if name == "RunInput":
        from jupyter_flows.input import RunInput

        return RunInput
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """Do what ``%load_ext jupyter_flows`` asks for."""
    from jupyter_flows.kernel.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Do what ``%unload_ext jupyter_flows`` asks for."""
    from jupyter_flows.kernel.extension import unload

    unload(shell)


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "jupyter-flows"}]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Tell Jupyter's server where its extension is; nothing of it is imported before."""
    return [{"module": "jupyter_flows.server.app", "name": "jupyter_flows"}]


__all__ = [
    "AcquireConcurrencySlotTimeoutError",
    "AmbiguousRun",
    "CancelledRun",
    "CommandFailed",
    "Concurrency",
    "ConcurrencyKeyError",
    "ConcurrencySlotAcquisitionError",
    "ConcurrencyStrategy",
    "CrashedRun",
    "FailedRun",
    "Flow",
    "FlowPauseTimeout",
    "FlowRun",
    "FlowsError",
    "Future",
    "InvalidInput",
    "MissingResult",
    "NonRetryableException",
    "NotPaused",
    "NotReplayable",
    "ParameterError",
    "ProgressBar",
    "ReservedArgumentError",
    "RunCancellation",
    "RunContext",
    "RunInput",
    "State",
    "StateType",
    "Task",
    "TaskRun",
    "UnknownRun",
    "UpstreamTaskError",
    "allow_failure",
    "apause_flow_run",
    "aresume_flow_run",
    "as_completed",
    "checkpoint",
    "concurrency",
    "concurrency_limits",
    "current_run",
    "exponential_backoff",
    "flow",
    "get_run_context",
    "get_run_logger",
    "is_cancellation",
    "pause_flow_run",
    "progress",
    "resume_flow_run",
    "run_process",
    "run_sync_in_worker_thread",
    "runs",
    "runtime",
    "set_concurrency_limit",
    "set_max_runs",
    "set_tag_limit",
    "shield",
    "tags",
    "task",
    "timeout",
    "timeout_async",
    "unmapped",
    "wait",
]

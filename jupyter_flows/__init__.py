"""Flows and tasks in the background of a notebook: watch, pause, resume and cancel them."""

from typing import Any

from jupyter_flows import runs
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
    pause_flow_run,
    progress,
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
    MissingResult,
    NotPaused,
    ParameterError,
    RunCancellation,
    UnknownRun,
)
from jupyter_flows.flows import Flow, flow
from jupyter_flows.futures import Future, as_completed, wait
from jupyter_flows.states import State, StateType
from jupyter_flows.tasks import Task, task, unmapped
from jupyter_flows.timeouts import timeout, timeout_async

__version__ = "0.1.0"


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
    "MissingResult",
    "NotPaused",
    "ParameterError",
    "RunCancellation",
    "RunContext",
    "State",
    "StateType",
    "Task",
    "TaskRun",
    "UnknownRun",
    "as_completed",
    "checkpoint",
    "concurrency",
    "concurrency_limits",
    "current_run",
    "flow",
    "get_run_context",
    "get_run_logger",
    "pause_flow_run",
    "progress",
    "resume_flow_run",
    "run_process",
    "runs",
    "set_concurrency_limit",
    "set_max_runs",
    "set_tag_limit",
    "shield",
    "task",
    "timeout",
    "timeout_async",
    "unmapped",
    "wait",
]

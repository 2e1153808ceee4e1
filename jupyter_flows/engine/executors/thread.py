"""A thread of its own, for sync code.

A cancel or a pause takes hold at the next checkpoint.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import ClassVar

from jupyter_flows.engine.executors.contract import Executor
from jupyter_flows.engine.runner import Plan, run_sync
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.threads import EngineThread


class ThreadExecutor(Executor):
    """Runs a sync body on a thread that is started for it."""

    kind: ClassVar[str] = "thread"
    runs_sync: ClassVar[bool] = True

    def launch(self, run: FlowRun, plan: Plan) -> None:
        EngineThread(f"flow {run.name}", _run, run, plan, context=copy_context()).start()


def _run(run: FlowRun, plan: Plan) -> None:
    run.start_worker()
    try:
        run_sync(run, plan)
    finally:
        run.end_worker()

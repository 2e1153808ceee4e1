"""The thread of whoever calls the flow: a foreground call of sync code.

A cancel or a pause, from another thread, takes hold at the next checkpoint.
"""

from __future__ import annotations

from typing import ClassVar

from jupyter_flows.engine.executors.contract import Executor
from jupyter_flows.engine.runner import Plan, run_sync
from jupyter_flows.engine.runs import FlowRun


class InlineExecutor(Executor):
    """Runs a sync body in the code that calls it."""

    kind: ClassVar[str] = "thread"
    runs_sync: ClassVar[bool] = True
    in_callers_thread: ClassVar[bool] = True

    def launch(self, run: FlowRun, plan: Plan) -> None:
        """Run the plan to its end."""
        run.start_worker()
        try:
            run_sync(run, plan)
        finally:
            run.end_worker()

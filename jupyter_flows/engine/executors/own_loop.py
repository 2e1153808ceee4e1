"""A thread with an event loop of its own, for async code.

A cancel is one `cancel()` of the root task, delivered at the next await. A pause
parks the loop: every task on it holds still, and its clock with them.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import ClassVar

from jupyter_flows.engine.executors.contract import Executor
from jupyter_flows.engine.runner import Plan, run_on_own_loop
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.threads import EngineThread


class OwnLoopExecutor(Executor):
    """Runs an async body on an event loop that is made for it."""

    kind: ClassVar[str] = "async"
    runs_async: ClassVar[bool] = True

    def launch(self, run: FlowRun, plan: Plan) -> None:
        EngineThread(f"flow {run.name}", _run, run, plan, context=copy_context()).start()


def _run(run: FlowRun, plan: Plan) -> None:
    run.start_worker()
    try:
        run_on_own_loop(run, plan)
    finally:
        run.end_worker()

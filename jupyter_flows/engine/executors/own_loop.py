"""A thread with an event loop of its own, for async code.

A cancel is one `cancel()` of the root task, delivered at the next await. A pause
parks the loop: every task on it holds still, and its clock with them.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import ClassVar

from jupyter_flows.engine.executors.contract import Executor
from jupyter_flows.engine.loops import Root, RunLoop
from jupyter_flows.engine.runner import Plan, run_async
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.threads import EngineThread


class OwnLoopExecutor(Executor):
    """Runs an async body on an event loop that is made for it."""

    kind: ClassVar[str] = "async"
    runs_async: ClassVar[bool] = True

    def __init__(self) -> None:
        self._root: Root | None = None

    def launch(self, run: FlowRun, plan: Plan) -> None:
        EngineThread(f"flow {run.name}", self._run, run, plan, context=copy_context()).start()

    def _run(self, run: FlowRun, plan: Plan) -> None:
        run.count_worker(+1)
        try:
            with asyncio.Runner(loop_factory=RunLoop) as runner:
                runner.run(run_async(run, plan))
        finally:
            run.count_worker(-1)

    def attach(self, root: Root) -> None:
        self._root = root

    def interrupt(self, run: FlowRun) -> None:
        if self._root is not None:
            self._root.interrupt()

"""A task on an event loop that others use too, for async code.

`MainExecutor` is the kernel's own loop, in the background; `AwaitedExecutor` is
the loop of whoever awaits the flow. Nothing may block such a loop: the body is
driven, and held between two awaits. A cancel is one `cancel()` of the task.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import Any, ClassVar

from jupyter_flows.engine.executors.contract import Executor
from jupyter_flows.engine.loops import driven
from jupyter_flows.engine.runner import Plan, run_async
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.errors import NoSuchWorker

main_loop: asyncio.AbstractEventLoop | None = None
"""The kernel's event loop, set by the kernel extension; elsewhere the running one serves."""

_tasks: set[asyncio.Task[None]] = set()  # asyncio itself keeps only weak references


class _CallersLoopExecutor(Executor):
    kind: ClassVar[str] = "main"
    runs_async: ClassVar[bool] = True

    def _drive(self, run: FlowRun, plan: Plan) -> Plan:
        body = plan.body

        async def hold_between_awaits() -> Any:
            return await driven(body(), run)

        return plan.with_body(hold_between_awaits)


class MainExecutor(_CallersLoopExecutor):
    """Runs an async body as a task of the kernel's event loop."""

    def prepare(self) -> None:
        """Choose the kernel's loop, or the running one.

        Raises:
            NoSuchWorker: there is none.
        """
        loop = main_loop
        if loop is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                raise NoSuchWorker(
                    "on='main' needs a running event loop, as a notebook has; use on='async'."
                ) from None
        self.loop = loop

    def launch(self, run: FlowRun, plan: Plan) -> None:
        assert self.loop is not None
        context = copy_context()
        self.loop.call_soon_threadsafe(self._start, run, plan, context=context)

    def _start(self, run: FlowRun, plan: Plan) -> None:
        task = asyncio.get_running_loop().create_task(run_async(run, self._drive(run, plan)))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


class AwaitedExecutor(_CallersLoopExecutor):
    """Runs an async body in the code that awaits it."""

    in_callers_thread: ClassVar[bool] = True

    def launch(self, run: FlowRun, plan: Plan) -> None:
        raise NotImplementedError("an awaited run is run by `run`")

    async def run(self, run: FlowRun, plan: Plan) -> None:
        """Run the plan to its end on the running loop."""
        await run_async(run, self._drive(run, plan))

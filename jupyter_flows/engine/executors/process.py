"""A process of its own, for sync and async code: it can be stopped whatever it does.

The run's thread in the kernel runs the plan as ever; what it runs for a body is one
process for each attempt (`processes.attempts`). So timeouts, retries and the ladder are
the kernel's, and work while the process is suspended or stuck in C.

    cancel     is raised in the process where that costs no cleanup
    pause      suspends it, and all that it started
    kill       SIGKILL to all that it started, then to it

The body runs on a thread of the process; what it is called with, the variables that
its code uses, and what it returns are copies, by cloudpickle. Working directory,
environment and `sys.path` are the kernel's when the attempt begins. When the run has
ended nothing of its processes is left; on Linux that includes what left its session
and its parent, elsewhere such a process may escape. There are none on Windows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ClassVar

from jupyter_flows.engine.executors.contract import Executor
from jupyter_flows.engine.ladder import climb
from jupyter_flows.engine.life import INTERRUPT, KILL
from jupyter_flows.engine.runner import Plan, run_sync
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.threads import EngineThread
from jupyter_flows.errors import NoSuchWorker, NotPortable

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life
    from jupyter_flows.engine.processes.attempts import Attempt
    from jupyter_flows.engine.processes.inquiries import Bell
    from jupyter_flows.engine.processes.pickling import Portable
    from jupyter_flows.records import Stack


class _Names(Mapping[str, Any]):
    """The names of a cell that runs in a process: live while it does, then those that came back."""

    def __init__(self, executor: ProcessExecutor, names: Mapping[str, Any]) -> None:
        self._executor = executor
        self._names = names

    def __getitem__(self, name: str) -> Any:
        try:
            return self._executor.peek(name)
        except KeyError:
            raise
        except LookupError:
            return self._names[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class ProcessExecutor(Executor):
    """Runs a body in a process that is made for it."""

    kind: ClassVar[str] = "process"
    runs_sync: ClassVar[bool] = True
    runs_async: ClassVar[bool] = True
    saying: ClassVar[Mapping[int, str]] = {
        INTERRUPT: "it is interrupted at its next safe line",
        KILL: "its processes are killed",
    }

    _bell: Bell | None = None
    _attempt: Attempt | None = None

    def launch(self, run: FlowRun, plan: Plan) -> None:
        """Start the thread that has the plan run in a process.

        Raises:
            NoSuchWorker: this system has no such processes.
            NotPortable: something that the body needs cannot be sent; nothing was started.
        """
        if not hasattr(os, "fork"):
            raise NoSuchWorker("on='process' needs a POSIX system: use on='thread' here.")
        from jupyter_flows.engine.processes import attempts, inquiries  # with psutil, cloudpickle

        if plan.portable is None:
            raise NotPortable(f"{run!r} has a body that cannot be sent to a process.")
        make = plan.portable

        def pack() -> tuple[Portable, bytes]:
            portable = make()
            return portable, portable.dump()

        packed = None if plan.prerequisites is not None else pack()
        bell = self._bell = inquiries.Bell()
        run.on_done(bell.ring)

        def body() -> Any:
            portable, job = packed or pack()  # by now what it is called with has come
            attempt = self._attempt = attempts.Attempt(run, portable, job, bell)
            return attempt.run()

        def work() -> None:
            run.start_worker()
            try:
                run_sync(run, plan.with_body(body))
            finally:
                run.end_worker()
                bell.close()

        EngineThread(f"flow {run.name}", work, context=copy_context()).start()

    def names(self, names: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the names of the process while it runs, each asked for when it is looked up."""
        return _Names(self, names)

    def peek(self, name: str) -> Any:
        """Return a copy of a variable that the process has now. Any thread but the run's.

        Raises:
            LookupError: no process runs.
            KeyError: it has none of this name.
            NotPortable: it cannot be pickled.
            TimeoutError: it does not answer.
        """
        attempt = self._attempt
        if attempt is None or attempt.is_over:
            raise LookupError("No process runs.")
        return attempt.inquiries.peek(name)

    def elsewhere(self) -> list[Stack]:
        """Return where the process is, and what it has started. Any thread but the run's."""
        attempt = self._attempt
        return [] if attempt is None or attempt.is_over else attempt.where()

    def interrupt(self, life: Life) -> None:
        """Let the run's thread look at what is asked."""
        if life.cancel_reason is not None:
            climb(life)
        self._look()

    def insist(self, life: Life) -> None:
        """Let the process interrupt its code."""
        self._look()

    def kill(self, life: Life) -> None:
        """Kill the process, and all that it started."""
        self._look()

    def _look(self) -> None:
        if self._bell is not None:
            self._bell.ring()

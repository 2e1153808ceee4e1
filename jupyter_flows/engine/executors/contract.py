"""What an executor is: the one place where workers differ.

An executor runs one run. The runner hands it a plan, asks it to look when
something is asked of the run, and never asks what kind it is. A new kind of
worker is a new file beside this one and a line in `executors/__init__`.

Who calls what:

- `prepare`: once, by the thread that starts the run, before that may have to wait.
- `launch`: once, after it, by the thread that starts the run or that ended the one which it
  waited for; returns at once for executors that run in the background.
- `interrupt`: by any thread, any number of times, also before the body begins
  and after it ended; never blocks. What is asked is read from the run: a cancel
  (`cancel_reason`), a hold or its end (`book.hold`).
- `insist` and `kill`: by the ladder, once each and in this order, for what did not
  stop when it was asked; never block.

What is here serves workers that are threads of this process.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from jupyter_flows.engine.interrupting import attend
from jupyter_flows.engine.ladder import climb
from jupyter_flows.engine.life import INTERRUPT, KILL

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life
    from jupyter_flows.engine.runner import Plan
    from jupyter_flows.engine.runs import FlowRun
    from jupyter_flows.records import Stack


class Executor(ABC):
    """Runs one run on one worker."""

    kind: ClassVar[str]
    """What `on=` and ``--on`` call it."""

    runs_sync: ClassVar[bool] = False
    """Whether it can run sync code."""

    runs_async: ClassVar[bool] = False
    """Whether it can run async code."""

    loop: asyncio.AbstractEventLoop | None = None
    """An event loop of others that must go on for the run to go on: nobody may block it."""

    in_callers_thread: ClassVar[bool] = False
    """Whether the code that starts the run waits for it on the same thread."""

    def elsewhere(self) -> list[Stack]:
        """Return where the run's code is that is not in this process; any thread.

        It may wait a second for that which does not answer.
        """
        return []

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Take what only the thread that starts the run can tell.

        Raises:
            NoSuchWorker: the run cannot be started here.
        """

    @abstractmethod
    def launch(self, run: FlowRun, plan: Plan) -> None:
        """Start the worker and let it run the plan."""

    saying: ClassVar[Mapping[int, str]] = {
        INTERRUPT: "it is interrupted at its next safe line",
        KILL: "it is interrupted by force",
    }
    """What the log says of a rung."""

    def names(self, names: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is to be seen of the names of a cell while it runs, and after."""
        return names

    def interrupt(self, life: Life) -> None:
        """Let the worker know that something is asked of the run or one of its tasks.

        Threads that wait in the engine, and event loops that run its bodies, are
        told by the run itself.
        """
        if life.cancel_reason is not None:
            climb(life)
        elif life is life.flow_run and life.flow_run.held:
            attend(life.flow_run)

    def insist(self, life: Life) -> None:
        """Stop code that did not heed the ask, where that costs no cleanup."""
        if life.root is not None:
            life.root.insist()
        attend(life.flow_run)

    def kill(self, life: Life) -> None:
        """Stop code by force, as far as its worker can."""
        attend(life.flow_run)

"""A command that a coroutine waits for, on any event loop.

Guarantees:

- The loop is never blocked, also while a command is ended.
- However often it is cancelled meanwhile, a cancel is raised only when nothing of the
  command is left.
- A coroutine that is thrown away takes its command along, at once.
"""

from __future__ import annotations

import asyncio
from contextvars import Context

from jupyter_flows.commands.holds import part_of
from jupyter_flows.commands.process import Order, Process, Result
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.threads import EngineThread
from jupyter_flows.engine.waiting import LoopWaiter


async def run_async(order: Order, owner: Life | None, check: bool) -> Result:
    """Run a command to its end, and give what came of it.

    Raises:
        CommandFailed: its exit code is not 0, and `check` is true.
    """
    if owner is not None and owner.pending:
        await asyncio.sleep(0)
    process = Process(order)
    try:
        process.start()
        with part_of(owner, process):
            waiter = LoopWaiter()
            process.on_end(waiter.wake)
            await waiter.wait()
    except GeneratorExit:  # nobody will run this coroutine any more: no more awaits
        process.hurry()
        process.stop(owner)
        raise
    except BaseException:
        await _stop_async(process, owner)
        raise
    return process.result(check)


async def _stop_async(process: Process, owner: Life | None) -> None:
    """Stop a process without blocking the event loop, whoever cancels that."""
    waiter, stopped = LoopWaiter(), False

    def stop() -> None:
        nonlocal stopped
        process.stop(owner)
        stopped = True
        waiter.wake()

    try:
        EngineThread(f"{process.name} is stopped", stop, context=Context()).start()
    except RuntimeError:  # Python ends, and starts no thread any more
        stop()
    while not stopped:
        try:
            await waiter.wait()
        except asyncio.CancelledError:
            if owner is None:  # cancelled again: by somebody who cannot wait
                process.hurry()

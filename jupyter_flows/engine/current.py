"""Whose code is this? One context variable answers for threads and tasks alike.

It holds the innermost flow run or task run whose code is being run. Everything
that must know (captured prints, checkpoints, `current_run()`) asks it; nothing
else routes. asyncio tasks inherit it by themselves; `capture` hands it to
threads and pool workers that a run starts.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life

current: ContextVar["Life | None"] = ContextVar("jupyter_flows.current", default=None)

"""Where a run runs: one file a kind of worker, one contract for all.

`for_background` chooses by name. Adding a worker is adding a file and its line in
`BACKGROUND`; nothing else in the engine changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from jupyter_flows.engine.executors.callers_loop import AwaitedExecutor, MainExecutor
from jupyter_flows.engine.executors.contract import Executor
from jupyter_flows.engine.executors.inline import InlineExecutor
from jupyter_flows.engine.executors.own_loop import OwnLoopExecutor
from jupyter_flows.engine.executors.process import ProcessExecutor
from jupyter_flows.engine.executors.thread import ThreadExecutor
from jupyter_flows.errors import NoSuchWorker

BACKGROUND: Mapping[str, type[Executor]] = {
    kind.kind: kind for kind in (ThreadExecutor, OwnLoopExecutor, ProcessExecutor, MainExecutor)
}


def for_background(on: str | None, *, is_async: bool) -> Executor:
    """Make the executor that `on` names; None chooses by the kind of code.

    Raises:
        NoSuchWorker: there is none of this name, or it cannot run such code.
    """
    fitting = [
        name
        for name, kind in BACKGROUND.items()
        if (kind.runs_async if is_async else kind.runs_sync)
    ]
    if on is None:
        on = fitting[0]
    if on not in BACKGROUND:
        raise NoSuchWorker(f"There is no worker {on!r}. Choose one of: {', '.join(BACKGROUND)}.")
    if on not in fitting:
        raise NoSuchWorker(
            f"The worker {on!r} does not run {'async' if is_async else 'sync'} code. "
            f"Choose one of: {', '.join(fitting)}."
        )
    return BACKGROUND[on]()


__all__ = [
    "BACKGROUND",
    "AwaitedExecutor",
    "Executor",
    "InlineExecutor",
    "for_background",
]

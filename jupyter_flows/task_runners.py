"""How many tasks of a flow run at once: ``@flow(task_runner=ThreadPoolTaskRunner(4))``.

Submitted tasks run on threads of their run, as many as there are tasks; a task runner
bounds that. A task that is submitted by another is not counted, since that may wait for it.
"""

from __future__ import annotations

from jupyter_flows.engine.numbers import is_whole


class ThreadPoolTaskRunner:
    """Runs the tasks that a flow submits on threads.

    Args:
        max_workers: how many run at once; None, the default, bounds nothing.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None:
            if not is_whole(max_workers):
                raise TypeError(f"max_workers must be a whole number, not {max_workers!r}.")
            if max_workers < 1:
                raise ValueError(f"max_workers must be 1 or more, not {max_workers}.")
        self.max_workers = max_workers

    def __repr__(self) -> str:
        return f"ThreadPoolTaskRunner(max_workers={self.max_workers})"


ConcurrentTaskRunner = ThreadPoolTaskRunner
"""The name that Prefect 2 had for it."""

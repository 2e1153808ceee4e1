"""The end of this process: its runs are stopped, and their cleanups are given time.

Rules:

- Whoever ends the process calls `stop_runs`, while event loops that runs need still
  run; `atexit` does, for a script. The first call says how long all of it may take.
- Runs are asked, and a moment later interrupted: there is no time for more grace.
- What must not outlive the process is ended `at_last`.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from time import monotonic

from jupyter_flows.engine import registry, timers
from jupyter_flows.engine.ladder import hurry

GRACE = 0.1  # seconds from the ask until a run is interrupted
SWITCH_SECONDS = 0.0002  # Python's own, 0.005, is for throughput
EXIT_SECONDS = 5.0  # how long a script that ends waits for cleanups, where nobody hurries it

at_last: list[Callable[[], None]] = []
"""Called when the runs have had their time; `commands` adds to it."""

_prepared_in: int | None = None  # the process: a forked child has no runs, only their images
_stop_by: float | None = None


def prepare() -> None:
    """Make sure that runs in the background are stopped when the process ends."""
    global _prepared_in
    if _prepared_in != os.getpid():
        _prepared_in = os.getpid()
        timers.start()  # some versions of Python start no thread while they end
        atexit.register(_at_exit)


def _at_exit() -> None:
    if _prepared_in == os.getpid():
        stop_runs(EXIT_SECONDS)


def is_under_way() -> bool:
    """Whether the process ends."""
    return _stop_by is not None


def stop_runs(seconds: float) -> None:
    """Cancel the active runs and wait for their cleanups, as long as there is time.

    Args:
        seconds: how much there is; of several calls the first says it for all.
    """
    global _stop_by
    if _stop_by is None:
        _stop_by = monotonic() + seconds
        sys.setswitchinterval(SWITCH_SECONDS)  # who stops runs must not wait for loops to yield
    runs = registry.active()
    for run in runs:
        run.cancel(grace=GRACE, reason="shutdown")
    for run in runs:
        if run.grace != GRACE:  # it was asked before, and given more time than there is
            hurry(run)
    for run in runs:
        run.wait(max(_stop_by - monotonic(), 0.0))
    for end in at_last:
        end()

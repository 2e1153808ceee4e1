"""Waiting for runs in a cell: for notebooks that are executed, as in CI.

The log of a run that is waited for is printed into the cell as it comes, on the
main thread, which must not be a run's own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from time import monotonic
from weakref import WeakSet

from jupyter_flows.engine.ports import user_traceback
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.whole_logs import messages
from jupyter_flows.errors import CancelledRun, NobodyToAsk
from jupyter_flows.states import StateType

_LOOK_SECONDS = 0.05  # between two looks at the log; its end is heard of at once

stopped_by_people: WeakSet[FlowRun] = WeakSet()
"""Runs that a person cancelled, by a button or from outside, and no cell did."""


def follow(run: FlowRun) -> None:
    """Wait for a run's end, print its log, and raise what it ended with.

    Raises:
        NobodyToAsk: it waits for a person, who cannot be there: it was cancelled.
        CancelledRun: it was cancelled, by a person or by a timeout.
        Exception: whatever it raised.
    """
    printed = 0
    ended = False
    while not ended:
        ended = run.wait(_LOOK_SECONDS).is_over()
        for text, reached in messages(run.log, printed):
            printed = reached
            sys.stdout.write(text)
        if not ended:
            _refuse_to_hang(run)
    fail_with(run)


def wait_for(runs: Iterable[FlowRun], timeout: float | None) -> list[FlowRun]:
    """Wait until runs have ended, or `timeout` seconds; return those that have not.

    Raises:
        NobodyToAsk: one waits for a person; it was cancelled.
    """
    left = list(runs)
    deadline = None if timeout is None else monotonic() + timeout
    while left:
        remaining = _LOOK_SECONDS
        if deadline is not None:
            remaining = min(remaining, deadline - monotonic())
            if remaining <= 0:
                break
        left[0].wait(remaining)
        left = [run for run in left if not run.is_over()]
        for run in left:
            _refuse_to_hang(run)
    return left


def _refuse_to_hang(run: FlowRun) -> None:
    waiting = run.waiting
    if waiting is None or waiting.kind not in ("approval", "input"):
        return
    run.cancel()
    run.wait(_LOOK_SECONDS)
    raise NobodyToAsk(
        f"The run {run.name!r} waits for a person ({waiting.text}), but this cell waits for the "
        "run, so nobody can answer. It was cancelled. Start it with --no-wait, and resume it "
        "in a later cell."
    )


def fail_with_first(runs: Iterable[FlowRun]) -> None:
    """Raise what the first run ended with that did not end well; none is told of again."""
    in_order = sorted(runs, key=lambda run: run.created)
    for run in in_order:
        run.waited_for = True
    for run in in_order:
        fail_with(run)


def fail_with(run: FlowRun) -> None:
    """Raise what a run ended with, unless it ended well or a cell cancelled it."""
    if run.state.type is StateType.COMPLETED:
        return
    if run.state.type is StateType.CANCELLED and run not in stopped_by_people:
        if run.cancel_reason in ("user", "concurrency"):
            return
        raise CancelledRun(run.state.message)
    error = run.state.result(raise_on_failure=False)
    raise error.with_traceback(user_traceback(error))

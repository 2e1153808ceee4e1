"""The log of a foreground run, shown where its caller looks: as lines on stderr."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

from jupyter_flows.engine.current import current
from jupyter_flows.engine.ports import LinePlain
from jupyter_flows.engine.runs import FlowRun


def echo_for(run: FlowRun) -> Callable[[LinePlain], None] | None:
    """Return what shows a line of `run`, or of the background run that it is a part of."""
    outer = run.chain[-1]
    if outer is not run:
        return outer.log.echo

    def echo(line: LinePlain) -> None:
        _, when, level, _, message = line
        clock = time.strftime("%H:%M:%S", time.localtime(when)) + f".{int(when % 1 * 1000):03d}"
        token = current.set(None)
        try:
            sys.stderr.write(
                f"{clock} | {logging.getLevelName(level):7} | Flow run {run.name!r} - {message}\n"
            )
        finally:
            current.reset(token)

    return echo

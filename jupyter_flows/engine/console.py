"""The log of a foreground run, shown where its caller looks: as lines on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable

from jupyter_flows.engine import log_lines
from jupyter_flows.engine.current import current
from jupyter_flows.engine.ports import LinePlain
from jupyter_flows.engine.runs import FlowRun


def echo_for(run: FlowRun) -> Callable[[LinePlain], None] | None:
    """Return what shows a line of `run`, or of the background run that it is a part of."""
    outer = run.chain[-1]
    if outer is not run:
        return outer.log.echo

    def echo(line: LinePlain) -> None:
        text = log_lines.formatted(line, run.name, log_lines.line_format)
        token = current.set(None)
        try:
            sys.stderr.write(f"{text}\n")
        finally:
            current.reset(token)

    return echo

"""Runs as a table of text: a line each, and nothing in it that a terminal would obey."""

from __future__ import annotations

import time
from collections.abc import Sequence

from jupyter_flows.engine.runs import FlowRun

_NAME_WIDTH = 40
_COLUMNS = ("id", "name", "state", "elapsed", "worker", "lines")


def table(runs: Sequence[FlowRun]) -> str:
    """Return a table of runs, one a line."""
    if not runs:
        return "No runs."
    rows = [_COLUMNS, *(_row(run) for run in runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(run: FlowRun) -> tuple[str, ...]:
    record = run.record()
    elapsed = "-"
    if record.started is not None:
        until = record.ended or record.paused_since or time.time()
        seconds = max(until - record.started - record.paused_seconds, 0.0)
        elapsed = f"{seconds:.1f} s"
    name = "".join(each if each.isprintable() else "�" for each in record.name)
    name = name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 1] + "…"
    return record.id[:8], name, record.state_name, elapsed, record.on, f"{record.log_count:,}"

"""A run's whole log, in order: what has left memory from the store, the rest from memory.

Any thread may read; it may wait for the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jupyter_flows.engine import ports
from jupyter_flows.records import LogLine

if TYPE_CHECKING:
    from jupyter_flows.engine.logs import RunLog

PAGE = 10_000  # lines at once: some 2 MB


def pages(log: RunLog, start: int = 0) -> Iterator[list[LogLine]]:
    """Yield the lines from number `start` to the newest, page by page.

    Where lines are missing, as the store does not have them either, the next page
    begins later.
    """
    while True:
        first = log.first
        page: list[LogLine] = []
        if start < first:
            page = ports.kept_lines(log.run_id, start, min(start + PAGE, first))
            start = page[0].number if page else first
        if start >= first:
            page = log.read(start, start + PAGE)
            if page and page[0].number > start:
                continue  # they have just left memory
        if not page:
            return
        yield page
        start = page[-1].number + 1


def not_kept(lines: int) -> str:
    """Say that lines are missing."""
    return f"[{lines:,} lines were not kept]"


def messages(log: RunLog, start: int = 0) -> Iterator[tuple[str, int]]:
    """Yield what a log says from number `start`, each part with the number it leads to."""
    for page in pages(log, start):
        missing = page[0].number - start
        said = f"{not_kept(missing)}\n" if missing > 0 else ""
        start = page[-1].number + 1
        yield said + "".join(f"{line.message}\n" for line in page), start

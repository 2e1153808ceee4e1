"""A run's whole log, in order: what has left memory from the store, the rest from memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.records import LogLine

PAGE = 10_000  # lines at once: some 2 MB

ReadKept = Callable[[str, int, int], list[LogLine]]


class WholeLogs:
    """Reads logs. Any thread.

    `read_kept` reads lines of a run from the store, by number, from a start to
    before a stop; it waits until what left memory is there.
    """

    def __init__(self, read_kept: ReadKept) -> None:
        self._read_kept = read_kept

    def read(self, run: FlowRun, start: int = 0) -> Iterator[list[LogLine]]:
        """Yield the lines from number `start` to the newest, page by page.

        Where lines are missing, as the store does not have them either, the next
        page begins later.
        """
        while True:
            first = run.log.first
            if start < first:
                page = self._read_kept(run.id, start, min(start + PAGE, first))
                start = page[0].number if page else first
            if start >= first:
                page = run.log.read(start, start + PAGE)
                if page and page[0].number > start:
                    continue  # they have just left memory
            if not page:
                return
            yield page
            start = page[-1].number + 1

    def text(self, run: FlowRun, start: int = 0) -> Iterator[tuple[str, int]]:
        """Yield the log from number `start` as text, each part with the number it leads to."""
        for page in self.read(run, start):
            missing = page[0].number - start
            said = f"[{missing:,} lines were not kept]\n" if missing > 0 else ""
            start = page[-1].number + 1
            yield said + "".join(f"{line.message}\n" for line in page), start

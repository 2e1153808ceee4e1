"""Past runs, as the control channel reads them: from the store, opened when first asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from jupyter_flows.errors import StoreUnavailable, UnknownRun
from jupyter_flows.history.store import Store
from jupyter_flows.records import LogLine, RunRecord, TaskRecord, Transition

T = TypeVar("T")


class StoreArchive:
    """Reads a store that may not be there: then there are no past runs. Any thread."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._opened: Store | None = None

    def _ask(self, question: Callable[[Store], T], otherwise: T) -> T:
        try:
            if self._opened is None:
                self._opened = self._open_store()
            return question(self._opened)
        except (StoreUnavailable, UnknownRun):
            return otherwise

    def run(self, run_id: str) -> RunRecord | None:
        """Return a past run."""
        return self._ask(lambda store: store.run(run_id), None)

    def find(self, prefix: str) -> str | None:
        """Return the id of the past run that begins like this, if just one does."""

        def only(store: Store) -> str | None:
            found = store.find(prefix, 2)
            return found[0] if len(found) == 1 else None

        return self._ask(only, None)

    def lines(self, run_id: str, start: int, stop: int) -> list[LogLine]:
        """Return lines of its log that have left memory."""
        return self._ask(lambda store: store.lines(run_id, start, stop).lines, [])

    def first_line(self, run_id: str) -> int | None:
        """Return the number of the oldest line that is kept, if any is."""

        def first(store: Store) -> int | None:
            kept = store.lines(run_id, 0, 0)
            return kept.first if kept.count else None

        return self._ask(first, None)

    def tasks(self, run_id: str, start: int, stop: int) -> list[TaskRecord]:
        """Return its tasks."""
        return self._ask(lambda store: store.tasks(run_id, start, stop), [])

    def transitions(self, run_id: str) -> list[Transition]:
        """Return its moves."""
        return self._ask(lambda store: store.transitions(run_id), [])

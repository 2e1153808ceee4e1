"""Past runs, as the control channel reads them: from the store, opened when first asked."""

from __future__ import annotations

from collections.abc import Callable

from jupyter_flows.errors import StoreUnavailable, UnknownRun
from jupyter_flows.history.store import Store
from jupyter_flows.records import LogLine, RunRecord, TaskRecord, Transition


class StoreArchive:
    """Reads a store that may not be there: then there are no past runs. Any thread."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._opened: Store | None = None

    def _store(self) -> Store | None:
        if self._opened is None:
            try:
                self._opened = self._open_store()
            except StoreUnavailable:
                return None
        return self._opened

    def run(self, run_id: str) -> RunRecord | None:
        """Return a past run."""
        store = self._store()
        try:
            return None if store is None else store.run(run_id)
        except StoreUnavailable:
            return None

    def lines(self, run_id: str, start: int, stop: int) -> list[LogLine]:
        """Return lines of its log that have left memory."""
        store = self._store()
        try:
            return [] if store is None else store.lines(run_id, start, stop).lines
        except (StoreUnavailable, UnknownRun):
            return []

    def tasks(self, run_id: str, start: int, stop: int) -> list[TaskRecord]:
        """Return its tasks."""
        store = self._store()
        try:
            return [] if store is None else store.tasks(run_id, start, stop)
        except (StoreUnavailable, UnknownRun):
            return []

    def transitions(self, run_id: str) -> list[Transition]:
        """Return its moves."""
        store = self._store()
        try:
            return [] if store is None else store.transitions(run_id)
        except (StoreUnavailable, UnknownRun):
            return []

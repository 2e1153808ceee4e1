"""The rich outputs of a run: figures, data frames, anything that was displayed.

Guarantees:

- Any thread may add, update, clear or read, under one lock; a reader gets each
  output once: it asks for what changed after the change that it saw last.
- What is held is bounded (`HELD_BYTES`): the oldest outputs give way to a line
  that says so.

An output is a MIME bundle, as Jupyter's messages hold it; nothing here knows how
one is shown.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HELD_BYTES = 50_000_000  # of the outputs of a run: some 500 figures

Bundle = Mapping[str, Any]


@dataclass(slots=True)
class Output:
    """One output of a run."""

    number: int  # its place, from 0
    change: int  # the count of changes when it was last changed
    data: Bundle
    metadata: Bundle
    display_id: str | None

    def as_json(self) -> dict[str, Any]:
        """Return it as it travels."""
        return {
            "number": self.number,
            "change": self.change,
            "data": dict(self.data),
            "metadata": dict(self.metadata),
        }


class RunOutputs:
    """The output area of one run."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._outputs: dict[int, Output] = {}
        self._next = 0
        self._bytes = 0
        self._clear_pending = False
        self.closed = False  # what is displayed from now on is dropped
        self.changes = 0

    def __len__(self) -> int:
        return len(self._outputs)

    def add(self, data: Bundle, metadata: Bundle, display_id: str | None = None) -> None:
        """Append an output."""
        with self._lock:
            if self.closed:
                return
            self._clear_if_pending()
            self.changes += 1
            self._outputs[self._next] = Output(self._next, self.changes, data, metadata, display_id)
            self._next += 1
            self._bytes += _size(data)
            self._make_room()

    def update(self, display_id: str, data: Bundle, metadata: Bundle) -> bool:
        """Change the outputs that have this display id; return whether there are any."""
        with self._lock:
            found = [each for each in self._outputs.values() if each.display_id == display_id]
            if not found or self.closed:
                return bool(found)
            self.changes += 1
            for output in found:
                self._bytes += _size(data) - _size(output.data)
                output.data, output.metadata, output.change = data, metadata, self.changes
            self._make_room()
            return True

    def clear(self, wait: bool = False) -> None:
        """Remove all outputs, now or when the next one comes."""
        with self._lock:
            if self.closed:
                return
            self._clear_pending = True
            if not wait:
                self._clear_if_pending()

    def since(self, change: int, most: int) -> tuple[list[Output], list[int]]:
        """Return what changed after `change`, oldest first, and the numbers of all there are."""
        with self._lock:
            changed = sorted(
                (each for each in self._outputs.values() if each.change > change),
                key=lambda each: each.change,
            )
            return changed[:most], list(self._outputs)

    def _clear_if_pending(self) -> None:
        if self._clear_pending:
            self._clear_pending = False
            self._outputs.clear()
            self._bytes = 0
            self.changes += 1

    def _make_room(self) -> None:
        for output in list(self._outputs.values())[:-1]:
            if self._bytes <= HELD_BYTES:
                return
            self._bytes -= _size(output.data)
            text = "[an earlier output was dropped: a run holds 50 MB of outputs]"
            output.data, output.metadata = {"text/plain": text}, {}
            self.changes += 1
            output.change = self.changes


def _size(data: Bundle) -> int:
    return sum(len(part) for part in data.values() if isinstance(part, str | bytes))

"""Slots of limits that have a name, for the code of this process alone.

It stands in for a store that several kernels share (`ports.leases`), and keeps the
same promises: those that stand in line get their slots in order (`turns`). Any thread
may call it.
"""

import math
from _thread import allocate_lock
from collections.abc import Collection, Mapping, Sequence
from itertools import count

from jupyter_flows.turns import whose_turn


class OwnLeases:
    """Limits and leases in memory."""

    polls = False

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._numbers = count(1)
        self._limits: dict[str, int] = {}
        self._waiting: dict[int, dict[str, int]] = {}  # in the order in which they came
        self._held: dict[int, dict[str, int]] = {}

    def set_limit(self, name: str, slots: int | None) -> None:
        """Declare how many slots a limit has; None lifts it."""
        with self._lock:
            if slots is None:
                self._limits.pop(name, None)
            else:
                self._limits[name] = slots

    def limits(self) -> Mapping[str, int]:
        """Return the limits that are declared, with their slots."""
        with self._lock:
            return dict(self._limits)

    def enter(self, names: Sequence[str], occupy: int) -> tuple[int, bool]:
        """Stand in line for slots; return a ticket, and whether one has them already."""
        with self._lock:
            ticket = next(self._numbers)
            self._waiting[ticket] = dict.fromkeys(names, occupy)
            self._grant()
            return ticket, ticket in self._held

    def grant(self, tickets: Collection[int]) -> Collection[int]:
        """Give slots to those whose turn it is, and return which of `tickets` have theirs."""
        with self._lock:
            self._grant()
            return [ticket for ticket in tickets if ticket in self._held]

    def leave(self, ticket: int) -> None:
        """Give slots back, or a place in line. Harmless when that was done."""
        with self._lock:
            self._waiting.pop(ticket, None)
            self._held.pop(ticket, None)

    def _grant(self) -> None:
        wanted = {name for wants in self._waiting.values() for name in wants}
        free = {name: self._limits.get(name, math.inf) for name in wanted}
        for wants in self._held.values():
            for name in wants.keys() & wanted:
                free[name] -= wants[name]
        for ticket in list(whose_turn(self._waiting.items(), free)):
            self._held[ticket] = self._waiting.pop(ticket)

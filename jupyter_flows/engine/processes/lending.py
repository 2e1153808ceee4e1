"""Slots of limits that have a name, for code that runs in a process: the kernel's.

The process asks, by `Borrowing`, and the thread that minds it answers, by `Lending`.
What a process has when it ends, however that was, is given back by the kernel.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any, cast

from jupyter_flows.engine import ports
from jupyter_flows.engine.processes.wire import Channel
from jupyter_flows.engine.waiting import Waiter
from jupyter_flows.errors import StoreUnavailable


class Borrowing:
    """`ports.leases` of a process. Any thread but the main one, which hears the answers."""

    polls = True

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = allocate_lock()
        self._numbers = count()
        self._asked: dict[int, Waiter] = {}
        self._answers: dict[int, tuple[bool, Any]] = {}

    def set_limit(self, name: str, slots: int | None) -> None:
        """Declare how many slots a limit has; None lifts it."""
        self._ask("set_limit", name, slots)

    def limits(self) -> Mapping[str, int]:
        """Return the limits that are declared, with their slots."""
        return cast("Mapping[str, int]", self._ask("limits"))

    def enter(self, names: Sequence[str], occupy: int) -> tuple[int, bool]:
        """Stand in line for slots; return a ticket, and whether it has them already."""
        return cast("tuple[int, bool]", self._ask("enter", list(names), occupy))

    def grant(self, tickets: Collection[int]) -> Collection[int]:
        """Return which of `tickets` have got their slots."""
        return cast("Collection[int]", self._ask("grant", list(tickets)))

    def leave(self, ticket: int) -> None:
        """Give slots back, or a place in line."""
        self._channel.send("lend", None, "leave", ticket)

    def answered(self, number: int, done: bool, value: Any) -> None:
        """Take an answer of the kernel: a value, or what went wrong."""
        self._answers[number] = done, value
        self._asked.pop(number).wake()

    def _ask(self, method: str, *arguments: Any) -> Any:
        waiter = Waiter()
        with self._lock:
            number = next(self._numbers)
            self._asked[number] = waiter
        self._channel.send("lend", number, method, *arguments)
        waiter.wait()
        done, value = self._answers.pop(number)
        if not done:
            raise StoreUnavailable(value)
        return value


class Lending:
    """What one process has borrowed; for the thread that minds it."""

    def __init__(self) -> None:
        self._leases = ports.leases
        self._lent: set[int] = set()

    def answer(self, method: str, *arguments: Any) -> tuple[bool, Any]:
        """Do what the process asks for; return whether that was done, and what came of it."""
        try:
            value: Any = None
            match method:
                case "set_limit":
                    self._leases.set_limit(*arguments)
                case "limits":
                    value = dict(self._leases.limits())
                case "enter":
                    value = self._leases.enter(*arguments)
                    self._lent.add(value[0])
                case "grant":
                    value = list(self._leases.grant(*arguments))
                case "leave":
                    self._lent.discard(*arguments)
                    self._leases.leave(*arguments)
        except StoreUnavailable as error:
            return False, str(error)
        return True, value

    def end(self) -> None:
        """Give back what the process still has, or waits for."""
        for ticket in self._lent:
            self._leases.leave(ticket)
        self._lent.clear()

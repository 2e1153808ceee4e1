"""Slots of limits that have a name, shared by the kernels of one user.

Theory. A row of table `leases` is a place in line, and then the slots themselves. The
rows are looked at, and changed, in one transaction, by the rule of `turns`; so whatever
kernels do at the same time, never more slots are held than there are, and of those that
wait the first gets them first.

Guarantees:

- The slots of a kernel whose process has ended are taken from it by whoever wants them
  and looks next. Where that process cannot be seen, as on another host, they are when
  it has not said for `processes.SILENT_SECONDS` that it lives: that is the lease.
- A kernel that lives keeps its slots, however long it does not answer. Its place in
  line is passed over when it has been silent for `processes.FRESH_SECONDS`.
- What cannot be looked up or written down is `StoreUnavailable`: nobody gets a slot.
  Only giving one back never fails: what cannot be written is, with the next that can.
- Any thread may call any method; each may wait for another program's lock, at most
  `WAIT_SECONDS`.
- In a forked child all of it is refused: the store is its parent's.
"""

import json
import logging
import math
import os
import threading
import time as clock
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from jupyter_flows.errors import StoreUnavailable
from jupyter_flows.history.processes import FRESH_SECONDS, is_gone
from jupyter_flows.history.store import Store
from jupyter_flows.records import KernelRecord
from jupyter_flows.turns import whose_turn

WAIT_SECONDS = 2.0
BEAT_SECONDS = 5.0  # how often a kernel that holds slots or waits says that it lives
GONE_SECONDS = 0.1  # how often one that waits looks whether others have ended, at most

_logger = logging.getLogger("jupyter_flows.leases")

Row = tuple[int, Mapping[str, int], str, bool, float | None]
"""A lease: its ticket, the slots, the kernel, whether it is held, the kernel's heartbeat."""


class LeaseStore(Store):
    """The limits and leases of a store."""

    def set_limit(self, name: str, slots: int | None) -> None:
        """Declare how many slots a limit has; None lifts it."""
        with self._transaction():
            query = "forget_limit" if slots is None else "write_limit"
            self._execute(query, {"name": name, "slots": slots})

    def limits(self) -> dict[str, int]:
        """Return the limits that are declared."""
        return dict(self._read("limits"))

    def enter(self, kernel: KernelRecord, names: Sequence[str], occupy: int) -> tuple[int, bool]:
        """Stand in line; return the ticket, and whether it has its slots already."""
        values = {"names": json.dumps(list(names)), "occupy": occupy, "kernel": kernel.id}
        now = clock.time()
        with self._transaction():
            if not self._execute("beat", {"kernel": kernel.id, "now": now}).rowcount:
                known = (kernel.id, kernel.pid, kernel.process_started, kernel.host)
                self._execute("write_kernel", (*known, kernel.connection_file, now))
            ticket = int(self._execute("write_lease", values).lastrowid or 0)
            return ticket, ticket in self._give(kernel.id)

    def grant(self, kernel: str) -> tuple[set[int], set[int]]:
        """Give a kernel the slots that it is its turn to get.

        Returns:
            The tickets of the kernel that have their slots, and those that wait.
        """
        with self._snapshot():
            due = self._due(kernel)
        if due:
            with self._transaction():
                self._give(kernel)
        held: set[int] = set()
        waiting: set[int] = set()
        for ticket, _, whose, is_held, _ in self._leases():
            if whose == kernel:
                (held if is_held else waiting).add(ticket)
        return held, waiting

    def leave(self, kernel: str, tickets: Collection[int]) -> None:
        """Give slots back, or places in line."""
        with self._transaction():
            for ticket in tickets:
                self._execute("forget_lease", {"ticket": ticket, "kernel": kernel})

    def beat(self, kernel: str) -> set[int]:
        """Say that a kernel lives, and return the tickets that it still has."""
        with self._transaction():
            self._execute("beat", {"kernel": kernel, "now": clock.time()})
            return {ticket for ticket, _, whose, _, _ in self._leases() if whose == kernel}

    def clear_gone(self) -> None:
        """Take from kernels that are gone what they held."""
        now = clock.time()
        gone = [
            whose
            for whose, id, pid, started, host, file, heartbeat in self._read("lessees")
            if id is None or is_gone(_kernel(id, pid, started, host, file), heartbeat, now)
        ]
        if gone:
            with self._transaction():
                for whose in gone:
                    self._execute("forget_leases", {"kernel": whose})

    def _give(self, kernel: str) -> set[int]:
        """Let a kernel hold what it is its turn to get; only within a transaction."""
        due = self._due(kernel)
        for ticket in due:
            self._execute("hold_lease", {"ticket": ticket})
        return due

    def _due(self, kernel: str) -> set[int]:
        leases = self._leases()
        limits = dict(self._execute("limits").fetchall())
        silent = clock.time() - FRESH_SECONDS
        line = {
            ticket: wants
            for ticket, wants, whose, held, heartbeat in leases
            if not held and (whose == kernel or (heartbeat or -math.inf) > silent)
        }
        free = {name: limits.get(name, math.inf) for wants in line.values() for name in wants}
        for _, wants, _, held, _ in leases:
            for name in wants.keys() & free.keys() if held else ():
                free[name] -= wants[name]
        mine = {ticket for ticket, _, whose, _, _ in leases if whose == kernel}
        return mine.intersection(whose_turn(line.items(), free))

    def _leases(self) -> list[Row]:
        with self._lock, self._explained():
            found = self._execute("leases").fetchall()
        return [
            (ticket, dict.fromkeys(json.loads(names), occupy), kernel, bool(held), heartbeat)
            for ticket, names, occupy, kernel, held, heartbeat in found
        ]


def _kernel(
    id: str, pid: int, started: float, host: str, connection_file: str | None
) -> KernelRecord:
    return KernelRecord(
        id=id, pid=pid, process_started=started, host=host, connection_file=connection_file
    )


class Leases:
    """What one kernel holds and waits for. Nothing is opened before it is needed.

    Args:
        path: the store's file.
        kernel: whose leases they are.
    """

    polls = True

    def __init__(self, path: Path | str, kernel: KernelRecord) -> None:
        self._path = Path(path)
        self._kernel = kernel
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._store: LeaseStore | None = None
        self._mine: set[int] = set()
        self._left: set[int] = set()  # given back, and not yet written down
        self._lost: set[int] = set()  # taken by other kernels, and not yet given back
        self._looked = -math.inf  # when last for kernels that are gone
        self._beating: threading.Thread | None = None
        self._end = threading.Event()

    def set_limit(self, name: str, slots: int | None) -> None:
        """Declare how many slots a limit has; None lifts it."""
        self._opened().set_limit(name, slots)

    def limits(self) -> Mapping[str, int]:
        """Return the limits that are declared, with their slots."""
        return self._opened().limits()

    def enter(self, names: Sequence[str], occupy: int) -> tuple[int, bool]:
        """Stand in line for slots; return a ticket, and whether it has them already."""
        store = self._opened()
        self._write_left(store)
        ticket, held = store.enter(self._kernel, names, occupy)
        with self._lock:
            self._mine.add(ticket)
            self._begin_to_beat()
        return ticket, held

    def grant(self, tickets: Collection[int]) -> Collection[int]:
        """Give slots to those whose turn it is, and return which of `tickets` have theirs."""
        store = self._opened()
        self._write_left(store)
        if clock.monotonic() - self._looked >= GONE_SECONDS:
            self._looked = clock.monotonic()
            store.clear_gone()
        held, waiting = store.grant(self._kernel.id)
        with self._lock:  # of what was given back meanwhile nothing is lost
            lost = (self._mine | self._lost).intersection(tickets) - held - waiting
        if lost:
            raise StoreUnavailable(
                f"The store of runs {self._path} has lost a place in line for a slot, as this "
                "kernel seemed to be gone. Try again."
            )
        return held & set(tickets)

    def leave(self, ticket: int) -> None:
        """Give slots back, or a place in line; what cannot be written now is later."""
        with self._lock:
            self._lost.discard(ticket)
            if ticket not in self._mine or self._pid != os.getpid():
                return
            self._mine.discard(ticket)
            self._left.add(ticket)
        try:
            self._write_left(self._opened())
        except StoreUnavailable as error:
            _logger.warning("A slot is given back later: %s", error)

    def close(self) -> None:
        """Give everything back: the kernel ends."""
        self._end.set()
        for ticket in list(self._mine):
            self.leave(ticket)
        with self._lock:
            store, self._store = self._store, None
        if store is not None and self._pid == os.getpid():
            store.close()

    def _opened(self) -> LeaseStore:
        if self._pid != os.getpid():
            raise StoreUnavailable(
                "A process that was forked from a kernel cannot share its slots. Use "
                "concurrency() in the kernel, or in a run with on='process'."
            )
        try:
            with self._lock:
                if self._store is None:
                    self._store = LeaseStore(self._path, wait_seconds=WAIT_SECONDS)
            if not self._store.is_in_place():
                raise StoreUnavailable(
                    f"The store of runs {self._path} was moved or deleted. "
                    "Restart the kernel to begin a new one."
                )
        except StoreUnavailable as error:
            raise StoreUnavailable(
                f"Nobody can tell which slots are taken, so none is given: {error}"
            ) from error
        return self._store

    def _write_left(self, store: LeaseStore) -> None:
        left = set(self._left)
        if left:
            store.leave(self._kernel.id, left)
            self._left -= left

    def _begin_to_beat(self) -> None:
        if self._beating is None or not self._beating.is_alive():
            self._beating = threading.Thread(target=self._beat, name="flows-leases", daemon=True)
            self._beating.start()

    def _beat(self) -> None:
        """Say that this kernel lives, as long as it holds slots or waits for some."""
        while not self._end.wait(BEAT_SECONDS):
            with self._lock:
                if not self._mine and not self._left:
                    self._beating = None
                    return
                mine = set(self._mine)
            try:
                store = self._opened()
                self._write_left(store)
                self._tell_lost(mine - store.beat(self._kernel.id))
            except StoreUnavailable:  # which is told to who asks for a slot
                continue

    def _tell_lost(self, tickets: set[int]) -> None:
        with self._lock:
            lost = tickets & self._mine
            self._mine -= lost
            self._lost |= lost
        if lost:
            _logger.warning(
                "Other kernels took this one for gone, as it was silent for too long, and have "
                "taken %d of its slots.",
                len(lost),
            )

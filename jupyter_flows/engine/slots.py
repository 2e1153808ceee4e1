"""Code that waits for slots of limits that have a name, and holds them.

Rules:

- Waiting on a thread of a run is a checkpoint, and counts as parked; on an event loop
  it is an await. A cancel ends it, and the place in line is given up.
- Slots are given back when the block that took them is left, and at the latest when
  the run or task run has ended that they were taken in: also when it was stopped by
  force, or given up.
- One thread looks whether it is somebody's turn, for all that wait in this process,
  and only while somebody does (`_Line`). Where other processes take part it looks again
  after `FIRST` to `MOST` seconds.
- To wait for slots that one holds oneself is `WouldDeadlock`, and so is it where code
  holds them that waits for one's end; one that asks for more than there are is told so.
"""

from __future__ import annotations

import asyncio
from _thread import allocate_lock, get_ident
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from types import FrameType
from typing import TYPE_CHECKING, Any

from jupyter_flows.engine import checkpoints, ports
from jupyter_flows.engine.admission import blocked_with
from jupyter_flows.engine.current import current, here
from jupyter_flows.engine.pausing import wait_in_run
from jupyter_flows.engine.threads import EngineThread
from jupyter_flows.engine.waiting import LoopWaiter, Waiter
from jupyter_flows.errors import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    WouldDeadlock,
)
from jupyter_flows.records import Waiting

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life

FIRST = 0.01  # seconds until it is looked again whether another process has given a slot back
MOST = 0.05  # the same when that has been done for a while


class Slots:
    """Slots that some code holds or waits for."""

    def __init__(self, names: Sequence[str], occupy: int, whose: Any, text: str) -> None:
        self.names = names
        self.occupy = occupy
        self.whose = whose  # the thread or asyncio task
        self.text = text  # what it waits for
        self.leases = ports.leases
        self.owner = current.get()
        self.error: Exception | None = None  # why there will be none
        self.wake: Callable[[], None] = _nobody
        self.holds_up = False  # its owner does not end before there are slots
        self.ticket, self.granted = self.leases.enter(names, occupy)

    def is_settled(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.granted or self.error is not None

    def hold(self) -> None:
        """Take note that the code goes on with them."""
        if self.error is not None:
            raise self.error from None
        with _lock:
            _held.setdefault(self.whose, []).append(self)
        if self.owner is not None and not self.owner.state_is_final():
            self.owner.on_done(self.leave)

    def leave(self) -> None:
        """Give them back. Harmless when that was done, or half done."""
        self.leases.leave(self.ticket)
        with _lock:
            held = _held.get(self.whose, [])
            if self in held:
                held.remove(self)
            if not held:
                _held.pop(self.whose, None)
        if self.owner is not None:
            self.owner.forget(self.leave)
        _line.look()


def _nobody() -> None:
    """Nobody waits yet."""


_lock = allocate_lock()
_held: dict[Any, list[Slots]] = {}


# -- the line -------------------------------------------------------------------------


class _Line:
    """Those of this process that wait for slots."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._waiting: dict[Slots, None] = {}
        self._thread: EngineThread | None = None
        self._changed = Waiter()

    def look(self) -> None:
        """Look now whether it is somebody's turn."""
        self._changed.wake()

    def add(self, slots: Slots) -> None:
        with self._lock:
            self._waiting[slots] = None
            if self._thread is None or not self._thread.is_alive():
                self._thread = EngineThread("slots", self._work, context=Context())
                self._thread.start()
        self._changed.wake()

    def waiting(self) -> list[Slots]:
        """Return them."""
        with self._lock:
            return list(self._waiting)

    def drop(self, slots: Slots) -> None:
        with self._lock:
            self._waiting.pop(slots, None)
        self._changed.wake()

    def _work(self) -> None:
        pause = FIRST
        while True:
            with self._lock:
                waiting = list(self._waiting)
                if not waiting:
                    self._thread = None
                    return
            settled = False
            for leases in {slots.leases for slots in waiting}:
                settled |= self._serve(leases, [each for each in waiting if each.leases is leases])
            polls = any(slots.leases.polls for slots in waiting)
            woken = self._changed.wait(pause if polls else None)
            pause = FIRST if woken or settled else min(2 * pause, MOST)

    def _serve(self, leases: ports.Leases, waiting: Collection[Slots]) -> bool:
        error: Exception | None = None
        granted: Collection[int] = ()
        try:
            granted = leases.grant([slots.ticket for slots in waiting])
        except Exception as raised:
            error = raised
        settled = [slots for slots in waiting if error or slots.ticket in granted]
        for slots in settled:
            slots.granted, slots.error = error is None, error
            with self._lock:
                self._waiting.pop(slots, None)
            slots.wake()
        return bool(settled)


_line = _Line()


def look() -> None:
    """Look now whether it is somebody's turn: a limit has changed."""
    _line.look()


# -- taking slots ---------------------------------------------------------------------


def take(
    names: Sequence[str], occupy: int, seconds: float | None, *, strict: bool, frame: FrameType
) -> Slots | None:
    """Take slots, after waiting on this thread if need be; None if no limit is declared.

    Raises:
        AcquireConcurrencySlotTimeoutError: there were none in so many seconds.
        ConcurrencySlotAcquisitionError: `strict`, and a limit is not declared.
        RunCancellation: the run is to stop.
        StoreUnavailable: it cannot be told how many are taken.
        ValueError: there are not so many.
        WouldDeadlock: this thread has them itself, or code that waits for its run's end.
    """
    slots = _enter(names, occupy, strict)
    if slots is None or slots.granted:
        return slots
    owner = slots.owner
    with _waiting(slots, seconds):
        if owner is not None and seconds is None and _is_body(owner):
            slots.holds_up = True
            _line.add(slots)  # before it is looked: who waits for its end does the same
            _refuse_deadlock(slots)
        if owner is None:
            waiter = Waiter()
            _subscribe(slots, waiter.wake)
            waiter.wait(seconds)
        else:
            wait_in_run(
                owner.flow_run,
                slots.is_settled,
                lambda wake: _subscribe(slots, wake),
                seconds,
                heed=lambda: checkpoints.raise_if_due(owner, frame, forced=True),
            )
    return slots


async def take_async(
    names: Sequence[str], occupy: int, seconds: float | None, *, strict: bool
) -> Slots | None:
    """Take slots, after waiting on the event loop if need be; see `take`."""
    slots = _enter(names, occupy, strict)
    if slots is None or slots.granted:
        return slots
    with _waiting(slots, seconds):
        waiter = LoopWaiter()
        _subscribe(slots, waiter.wake)
        try:
            async with asyncio.timeout(seconds):
                while not slots.is_settled():
                    await waiter.wait()
        except TimeoutError:
            pass
    return slots


def _is_body(owner: Life) -> bool:
    """Whether this thread runs the body of `owner`, and nothing ends what it does there in time."""
    return owner is owner.listed and owner.root is None and owner.thread == get_ident()


def are_held() -> bool:
    """Whether any code has slots."""
    return bool(_held)


def refuse_deadlock() -> None:
    """Refuse that this code waits for what waits for its slots, now that this has been said.

    Raises:
        WouldDeadlock: it does, in whatever way.
    """
    if here() in _held:
        for slots in _line.waiting():
            if slots.holds_up:
                _refuse_deadlock(slots)


def _refuse_deadlock(slots: Slots) -> None:
    """Refuse that a run waits for slots that only code has which waits for its end."""
    assert slots.owner is not None
    blocked = {slots.whose, *blocked_with(slots.owner)}
    with _lock:
        theirs = [each for whose in blocked for each in _held.get(whose, ())]
    for name in slots.names:
        taken = sum(each.occupy for each in theirs if name in each.names)
        most = slots.leases.limits().get(name) if taken else None
        if most is not None and taken + slots.occupy > most:
            raise WouldDeadlock(
                f"{slots.owner!r} would wait for ever for a slot of {name!r} (at most {most} at "
                "once): code that waits for its end has it. Leave that block before the wait."
            )


def _subscribe(slots: Slots, wake: Callable[[], None]) -> None:
    slots.wake = wake
    _line.add(slots)


def _enter(names: Sequence[str], occupy: int, strict: bool) -> Slots | None:
    """Stand in line, and take the slots if it is one's turn; None if nothing is limited."""
    whose = here()
    limits = ports.leases.limits()
    missing = [name for name in names if name not in limits]
    if strict and missing:
        raise ConcurrencySlotAcquisitionError(
            f"There is no limit {_listed(missing)}: set it by "
            f"set_concurrency_limit({missing[0]!r}, …)."
        )
    limited = [name for name in names if name in limits]
    if not limited:
        return None
    for name in limited:
        if occupy > limits[name]:
            raise ValueError(
                f"occupy={occupy} slots of the limit {name!r} can never be had: "
                f"it has {limits[name]}."
            )
        mine = sum(held.occupy for held in _held.get(whose, ()) if name in held.names)
        if mine + occupy > limits[name]:
            raise WouldDeadlock(
                f"This code holds {mine} of the {limits[name]} slots of {name!r} already: it "
                f"would wait for itself for {occupy} more. Leave the outer block first."
            )
    of = ", ".join(f"{name!r} (at most {limits[name]} at once)" for name in limited)
    slots = Slots(limited, occupy, whose, f"Waits for a slot of {of}")
    if slots.granted:
        slots.hold()
    return slots


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


@contextmanager
def _waiting(slots: Slots, seconds: float | None) -> Iterator[None]:
    """Say what the run waits for, and give the place in line up if it gets no slots."""
    run = None if slots.owner is None else slots.owner.flow_run
    waiting = Waiting(kind="slot", text=slots.text)
    if run is not None and run.waiting is None:
        run.waiting = waiting
        run.changed()
    try:
        yield
        if not slots.is_settled():
            raise AcquireConcurrencySlotTimeoutError(
                f"No slot of {_listed(slots.names)} has become free in {seconds:g} s."
            )
        slots.hold()
    except BaseException:
        slots.leave()
        raise
    finally:
        _line.drop(slots)
        if run is not None and run.waiting is waiting:
            run.waiting = None
            run.changed()

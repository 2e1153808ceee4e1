"""Who may begin: runs wait here for a slot, or are turned away.

A run needs a slot of each limit that holds for it: of its flow's or task's
`Concurrency`, of its tags, and, for what is started in the background by no other
run, of the kernel (`set_max_runs`). It has them from before its first attempt until
it has ended, retries included.

Rules:

- A run gets all of its slots at once, or waits with none (`turns`).
- A run that waits is SCHEDULED, AwaitingConcurrencySlot, says what it waits for, and
  never begins if it is cancelled meanwhile.
- What runs in the background waits without a thread: whoever frees its slot starts it
  (`admit`). What is called waits where it is called, which counts as parked
  (`wait_for_turn`, `wait_for_turn_async`).
- A run that another one calls or starts needs no slot of the kernel: it works under
  that one's. So parents and children never wait for each other there.
- The tasks of a process run are limited within their process.
- Waiting for a slot that is free only when one has ended oneself is `WouldDeadlock`.

Any thread may call anything here. What is written down stays right if the thread that
writes is stopped by force half-way: it is written in an order, and again, so that no slot
is given twice or lost. The lock is never held while a start, a cancel or a
listener is called; a life's own lock may be taken within it, never the other way round.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from itertools import count
from logging import INFO
from typing import Any

from jupyter_flows.engine.current import here
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.limits import Concurrency, ConcurrencyStrategy
from jupyter_flows.engine.pausing import wait_in_run
from jupyter_flows.engine.shielding import in_shield
from jupyter_flows.engine.waiting import LoopWaiter
from jupyter_flows.errors import RunCancellation, WouldDeadlock
from jupyter_flows.records import Waiting
from jupyter_flows.states import AwaitingConcurrencySlot, Pending, StateType, is_wait
from jupyter_flows.turns import whose_turn

_S = ConcurrencyStrategy
_NO_LIMIT = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Need:
    """A slot that a run needs."""

    limit: Hashable  # which limit: whose, and which of its several
    group: Hashable  # of that limit
    max_runs: int
    strategy: ConcurrencyStrategy
    whose: str  # for people: "flow 'train'"


class _Group:
    """The slots of one group of a limit; known while somebody has one or waits for one."""

    __slots__ = ("holders", "max_runs", "place", "served", "tickets", "whose")

    def __init__(self, place: tuple[Hashable, Hashable]) -> None:
        self.place = place
        self.max_runs = 0
        self.whose = ""
        self.holders: set[Ticket] = set()
        self.served = 0  # when it last got a slot, counted in slots given
        self.tickets: dict[Ticket, None] = {}  # of those that hold or wait, oldest first

    @property
    def held(self) -> int:
        """How many of its slots are taken; of whoever waits none is, whatever went wrong."""
        return sum(ticket not in _line for ticket in self.holders)


class Ticket:
    """The place of one run in line, and then its slots."""

    __slots__ = ("granted", "life", "needs", "on_granted", "wants")

    def __init__(self, life: Life, needs: Sequence[Need], on_granted: Callable[[], None]) -> None:
        self.life = life
        self.needs = needs
        self.on_granted = on_granted  # called once, when it has had to wait
        self.granted = False
        self.wants: dict[_Group, None] = {}  # in the order of the needs

    def is_settled(self) -> bool:
        """Whether there is nothing to wait for: it may begin, or never will."""
        return self.granted or self.life.state_is_final()


_lock = allocate_lock()
_groups: dict[tuple[Hashable, Hashable], _Group] = {}
_line: dict[Ticket, None] = {}  # who waits, the first first
_tickets: dict[Life, Ticket] = {}  # of all that hold or wait
_waiters: dict[Life, list[tuple[Life, Any]]] = {}
"""By a task run, whose code waits for its end, and on which thread or in which asyncio task."""
_due: deque[Ticket] = deque()  # whose turn it is, and who have not been told
_served = count(1)
_tag_limits: dict[str, Concurrency] = {}
_max_runs: int | None = None


# -- what a run needs -----------------------------------------------------------------


def needs_of(
    kind: str,
    name: str,
    limits: Sequence[Concurrency],
    tags: Collection[str],
    parameters: Callable[[], dict[str, object]],
) -> list[Need]:
    """Return the slots that a run needs by its flow or task and its tags.

    Args:
        kind: "flow" or "task".
        name: the flow's or task's: one that is defined anew has the limits of the old one.
        limits: what its author declared.
        tags: the run's.
        parameters: returns its parameters by name; asked if there is a key.

    Raises:
        ConcurrencyKeyError: a key failed.
    """
    owned = [(i, f"{kind} {name!r}", name, limit) for i, limit in enumerate(limits)]
    tagged = [
        (-1, f"tag {tag!r} ({kind}s)", tag, _tag_limits[tag])
        for tag in sorted(tags)
        if tag in _tag_limits
    ]
    needs = []
    for number, whose, of, limit in [*owned, *tagged]:
        group = None if limit.key is None else limit.group(parameters())
        text = whose if limit.key is None else f"{whose}, group {group!r}"
        strategy = ConcurrencyStrategy(limit.strategy)
        needs.append(Need((kind, number, of), group, limit.max_runs, strategy, text))
    return needs


def need_of_kernel() -> list[Need]:
    """Return the slot that a run in the background needs of the kernel, if that is limited."""
    most = _max_runs
    return [] if most is None else [Need("kernel", None, most, _S.ENQUEUE, "this kernel")]


def limits_tags() -> bool:
    """Whether there is a limit on any tag."""
    return bool(_tag_limits)


def set_tag_limit(tag: str, limit: Concurrency | None) -> None:
    """Limit how many runs with a tag are active at once; None lifts the limit."""
    if limit is None:
        _tag_limits.pop(tag, None)
    else:
        _tag_limits[tag] = limit
    most = None if limit is None else limit.max_runs
    _change({(kind, -1, tag) for kind in ("flow", "task")}, most)


def set_max_runs(max_runs: int | None) -> None:
    """Limit how many runs are active at once in the background; None lifts the limit."""
    global _max_runs
    _max_runs = max_runs
    _change({"kernel"}, max_runs)


def _change(limits: Collection[Hashable], max_runs: int | None) -> None:
    """Let those that wait already know of another number of slots."""
    with _lock:
        for (limit, _), group in _groups.items():
            if limit in limits:
                group.max_runs = _NO_LIMIT if max_runs is None else max_runs
        _grant()
    _tell()


# -- getting in -----------------------------------------------------------------------


def admit(life: Life, needs: Sequence[Need], start: Callable[[], None]) -> None:
    """Let what runs in the background begin: now, or when its turn comes, by `start`.

    Args:
        life: what is to begin.
        needs: the slots that it needs.
        start: starts its worker. What it raises is raised here if it begins now; later
            there is nobody to raise it to, and the run has ended with it.
    """
    context = copy_context()

    def start_later() -> None:
        if life is life.flow_run:
            life.flow_run.waiting = None
        if not life.move(Pending()):
            return
        life.announce()
        try:
            context.run(start)
        except Exception:  # which the run has ended with
            return

    if not needs or _enter(Ticket(life, needs, start_later)):
        start()


def wait_for_turn(life: Life, needs: Sequence[Need]) -> None:
    """Let what is called wait here, on a thread of its run, until it may begin or never will.

    Raises:
        WouldDeadlock: that would never end.
    """
    if not needs:
        return
    ticket = Ticket(life, needs, _pass)
    if _enter(ticket):
        return

    def subscribe(wake: Callable[[], None]) -> None:
        ticket.on_granted = wake
        life.on_done(wake)

    _say_where_it_is_called(life)
    _be_cancelled_with_caller(life)
    wait_in_run(life.flow_run, ticket.is_settled, subscribe)
    _go_on(life)


async def wait_for_turn_async(life: Life, needs: Sequence[Need]) -> None:
    """Let what is awaited wait on the event loop until it may begin or never will.

    Raises:
        WouldDeadlock: that would never end.
    """
    if not needs:
        return
    waiter = LoopWaiter()
    ticket = Ticket(life, needs, waiter.wake)
    if _enter(ticket):
        return
    _say_where_it_is_called(life)
    _be_cancelled_with_caller(life)
    life.on_done(waiter.wake)
    try:
        while not ticket.is_settled():
            await waiter.wait()
    finally:
        life.forget(waiter.wake)
    _go_on(life)


def _say_where_it_is_called(life: Life) -> None:
    """Write into its log what a called flow waits for: a foreground call has no view."""
    state = life.state
    if life is life.flow_run and is_wait(state):
        life.flow_run.log.add(INFO, "flow", state.message)


def _be_cancelled_with_caller(life: Life) -> None:
    if life.parent is not None and not in_shield():
        life.parent.adopt(life)


def _go_on(life: Life) -> None:
    if life is life.flow_run:
        life.flow_run.waiting = None


def _pass() -> None:
    """Whoever waits is told by what it has subscribed to."""


def _enter(ticket: Ticket) -> bool:
    """Stand in line; return whether it is its turn already."""
    try:
        return _stand_in_line(ticket)
    except BaseException:
        _give_back(ticket)
        raise


def _stand_in_line(ticket: Ticket) -> bool:
    life = ticket.life
    victims: list[Life] = []
    with _lock:
        for need in ticket.needs:
            place = (need.limit, need.group)
            group = _groups.get(place)
            if group is None:
                group = _groups[place] = _Group(place)
            group.max_runs, group.whose = need.max_runs, need.whose
            ticket.wants[group] = None
        _refuse_deadlock(ticket.wants, {*_held_up_by(life)}, life)
        full = _full_for_newest(ticket)
        if full is None:
            victims = _victims(ticket)
            _tickets[life] = ticket
            _line[ticket] = None
            for group in ticket.wants:
                group.tickets[ticket] = None
            _grant(newcomer=ticket)
            if not ticket.granted:
                _say_waiting(ticket)
        at_once = ticket.granted
        _forget_unused(ticket.wants)
    if full is not None:
        life.turn_away(f"There was no free slot of {_described(full)}")
        return False
    life.on_done(lambda: _leave(ticket))
    _tell()
    if not at_once:
        life.announce()
    for victim in victims:
        victim.ask_cancel("concurrency")
    return at_once


def _leave(ticket: Ticket) -> None:
    """Give back what a run has that has ended, also if this thread is to be stopped by force."""
    try:
        _give_back(ticket)
    except RunCancellation:
        _give_back(ticket)
        raise


def _give_back(ticket: Ticket) -> None:
    """Give the slots back, or the place in line. Harmless when that was done, or half done."""
    with _lock:
        _line.pop(ticket, None)
        _tickets.pop(ticket.life, None)
        for group in ticket.wants:
            group.holders.discard(ticket)
            group.tickets.pop(ticket, None)
        _grant()
        _forget_unused(ticket.wants)
    if ticket.life.parent is not None:
        ticket.life.parent.active.discard(ticket.life)
    _tell()


def _grant(newcomer: Ticket | None = None) -> None:
    """Give what is free to those whose turn it is, under the lock; a newcomer is not told."""
    if not _line:
        return
    wanted = {group for ticket in _line for group in ticket.wants}
    free = {group: float(group.max_runs - group.held) for group in wanted}
    line = ((ticket, dict.fromkeys(ticket.wants, 1)) for ticket in _in_turn())
    for ticket in list(whose_turn(line, free)):
        for group in ticket.wants:
            group.holders.add(ticket)
            group.served = next(_served)
        ticket.granted = True
        if ticket is not newcomer:
            _due.append(ticket)
        del _line[ticket]


def _in_turn() -> list[Ticket]:
    """Return who waits, in order; groups that take turns share the places of their limit."""
    line = list(_line)
    taking_turns: dict[Hashable, list[tuple[int, int, Ticket]]] = {}
    seen: dict[_Group, int] = {}
    for ticket in line:
        limit, group = _turn_taken(ticket)
        if group is not None:
            nth = seen[group] = seen.get(group, 0) + 1
            taking_turns.setdefault(limit, []).append((nth, group.served, ticket))
    if not taking_turns:
        return line
    order = {
        limit: iter([each for _, _, each in sorted(found, key=lambda it: it[:2])])
        for limit, found in taking_turns.items()
    }
    return [next(order.get(_turn_taken(ticket)[0], iter(())), ticket) for ticket in line]


def _turn_taken(ticket: Ticket) -> tuple[Hashable, _Group | None]:
    """Return the limit, and the group of it, by which a ticket takes turns with others."""
    for need, group in zip(ticket.needs, ticket.wants, strict=True):
        if need.strategy is _S.GROUP_ROUND_ROBIN:
            return need.limit, group
    return None, None


def _forget_unused(groups: Collection[_Group]) -> None:
    for group in groups:
        if not group.tickets:
            _groups.pop(group.place, None)


# -- who gives way --------------------------------------------------------------------


def _full_for_newest(ticket: Ticket) -> _Group | None:
    """Return the group that has no room for one that gives way itself."""
    for need, group in zip(ticket.needs, ticket.wants, strict=True):
        if need.strategy is _S.CANCEL_NEWEST and len(_staying(group)) >= group.max_runs:
            return group
    return None


def _victims(ticket: Ticket) -> list[Life]:
    """Return the runs that are to give way to a new one, the oldest first."""
    victims: list[Life] = []
    for need, group in zip(ticket.needs, ticket.wants, strict=True):
        if need.strategy is _S.CANCEL_IN_PROGRESS:
            staying = _staying(group)
            victims += staying[: max(len(staying) - group.max_runs + 1, 0)]
    return victims


def _staying(group: _Group) -> list[Life]:
    """Return the runs of a group, waiting ones too, that are not about to end."""
    return [each.life for each in group.tickets if each.life.cancel_reason in (None, "timeout")]


# -- what can never come --------------------------------------------------------------


def _held_up_by(life: Life) -> Iterator[Life]:
    """Yield the runs that cannot end before `life` has."""
    found: dict[Life, None] = {}
    todo = [life]
    while todo:
        life = todo.pop()
        caller = life.caller
        if caller is not None and _is_submitted(life, caller):
            caller = caller.flow_run  # which waits for it at its end
        for each in (caller, *(waiter for waiter, _ in _waiters.get(life, ()))):
            if each is not None and each not in found:
                found[each] = None
                todo.append(each)
    return iter(found)


def _is_submitted(life: Life, caller: Life) -> bool:
    """Whether `life` is on a thread of its own, and its caller need not wait for it."""
    if not life.attempt:
        return life in caller.active  # of what is called it is a part when it has begun
    return life.thread != caller.thread


def _refuse_deadlock(groups: Collection[_Group], waiting: set[Life], life: Life) -> None:
    for group in groups:
        theirs = sum(each.granted and each.life in waiting for each in group.tickets)
        if theirs >= group.max_runs:
            raise WouldDeadlock(
                f"{life!r} would wait for ever for a slot of {_described(group)}: the run that "
                "waits for it has it. Raise max_runs, or do not nest these runs."
            )


def is_limited() -> bool:
    """Whether any run has slots, or waits for some."""
    return bool(_tickets)


@contextmanager
def awaited(targets: Sequence[Life], waiter: Life) -> Iterator[None]:
    """Say, for a block, that code of `waiter` waits for the end of each of `targets`.

    A run that would wait for slots which only this frees is refused meanwhile.

    Raises:
        WouldDeadlock: one waits for them already.
    """
    wait = (waiter, here())
    try:
        with _lock:
            for target in targets:
                _waiters.setdefault(target, []).append(wait)
            holders = (_tickets.get(each) for each in (waiter, *_held_up_by(waiter)))
            held = {
                group for ticket in holders if ticket and ticket.granted for group in ticket.wants
            }
            for ticket in _line:
                if not held.isdisjoint(ticket.wants):
                    _refuse_deadlock(ticket.wants, {*_held_up_by(ticket.life)}, ticket.life)
        yield
    finally:
        with _lock:
            for target in targets:
                waits = _waiters.get(target, [])
                if wait in waits:
                    waits.remove(wait)
                if not waits:
                    _waiters.pop(target, None)


def has_block_timeout(life: Life) -> bool:
    """Whether its code is in a block that is stopped in time, and then goes on."""
    while life is not life.listed and life.parent is not None:
        if life.timeout is not None:
            return True
        life = life.parent
    return False


def blocked_with(life: Life) -> list[Any]:
    """Return the threads and asyncio tasks that wait until `life` has ended, come what may."""
    with _lock:
        return [whose for each in (life, *_held_up_by(life)) for _, whose in _waiters.get(each, ())]


def check_wait(waiter: Life, target: Life) -> None:
    """Refuse that code of `waiter` waits for a run that waits for the slots of `waiter`.

    Raises:
        WouldDeadlock: it does, and no other holds any.
    """
    with _lock:
        ticket = _tickets.get(target)
        if ticket is not None and not ticket.granted:
            _refuse_deadlock(ticket.wants, {waiter, *_held_up_by(waiter)}, target)


# -- telling --------------------------------------------------------------------------


def _described(group: _Group) -> str:
    return f"{group.whose} (at most {group.max_runs} at once)"


def _say_waiting(ticket: Ticket) -> None:
    """Say what a run waits for, under the lock: before anybody can give it a slot."""
    life = ticket.life
    full = [group for group in ticket.wants if group.held >= group.max_runs]
    group = (full or list(ticket.wants))[0]
    text = f"Waits for a slot of {_described(group)}"
    if life.state.type is StateType.SCHEDULED:  # it has waited for something else
        life.move(Pending())
    if life is life.flow_run:
        life.flow_run.waiting = Waiting(kind="slot", text=text)
    life.move(AwaitingConcurrencySlot(text))


_busy = threading.local()


def _tell() -> None:
    """Let those begin whose turn it is; one that ends at once lets the next one begin here too."""
    if getattr(_busy, "telling", False):
        return
    _busy.telling = True
    try:
        while _due:
            try:
                ticket = _due.popleft()
            except IndexError:  # another thread was faster
                return
            ticket.on_granted()
    finally:
        _busy.telling = False

"""Who is parked: the book-keeping behind an honest PAUSED.

A *hold* is asked of a run; its workers park where they can. Workers are the
threads that run the run's code: its body and its tasks. Helper threads that the
code starts park at their own checkpoints, and are not waited for.

Guarantees:

- While a hold is asked, a run is said to be PAUSED only when each of its workers is
  parked. A worker that waits inside the engine (for a task's result, say) counts
  as parked, for as long as it does not return to user code. (While none is asked, a
  run is PAUSED that waits for a person, see `asking`: its tasks go on.)
- A worker returns to user code only when no hold is on, which it finds out and
  says under the run's lock, or to take a cancel there, and then PAUSED is no longer
  said: so nothing moves while it is.
- One thread may work for several runs at once (a subflow called in a flow's own
  thread); it is entered in the book of each.

`Book` is guarded by the run's lock; `wait_in_run` is called by the worker itself,
everything else from any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from jupyter_flows.engine.current import running_loop
from jupyter_flows.engine.shielding import in_shield
from jupyter_flows.engine.waiting import Waiter

if TYPE_CHECKING:
    from jupyter_flows.engine.runs import FlowRun


class Wakeable(Protocol):
    """A thread or coroutine that waits, and looks again when woken."""

    def wake(self) -> None: ...


class Book:
    """Which threads work for a run, and which of them are parked."""

    __slots__ = ("commands", "driver", "executing", "hold", "parked", "waiters", "workers")

    def __init__(self) -> None:
        self.hold = False  # a pause is asked
        self.workers: dict[int, int] = {}  # threads that run its code, and how deep
        self.parked: dict[int, int] = {}  # threads that wait in the engine, and how deep
        self.driver = 0  # the thread whose loop drives its coroutines, if one does
        self.executing = 0  # how many of them run now, one in another; written by that thread
        self.commands = 0  # of its commands, those that are not suspended
        self.waiters: set[Wakeable] = set()  # what an ask must wake

    @property
    def still(self) -> bool:
        """Whether everything that was asked to hold still does."""
        if self.commands or (self.executing and self.driver not in self.parked):
            return False
        return self.hold and self.workers.keys() <= self.parked.keys()

    def is_worker(self, thread: int) -> bool:
        """Whether a thread runs the run's code now."""
        return thread in self.workers or (self.executing > 0 and thread == self.driver)

    def wake(self) -> None:
        """Let every thread that waits look again at what is asked."""
        for waiter in list(self.waiters):
            waiter.wake()


def nobody_tells(wake: Callable[[], None]) -> None:
    """Subscribe to nothing: an ask, or the time, ends the wait."""


def wait_on() -> None:
    """Heed nothing: whoever waits looks by himself at what is asked, or it ends the wait."""


def wait_in_run(
    run: FlowRun,
    done: Callable[[], bool],
    subscribe: Callable[[Callable[[], None]], None],
    seconds: float | None = None,
    *,
    heed: Callable[[], None] = wait_on,
) -> bool:
    """Block a worker until `done()`, counted as parked; return whether it is done.

    Within a shield it is not held. It counts as parked there if only others can end the
    wait: what it waits for may be held.

    Args:
        run: the innermost flow run whose code the thread runs.
        done: whether what is waited for has come.
        subscribe: is given the function to call when `done` may have changed.
        seconds: give up after as long, not counting how long the run was held.
        heed: called after every wake: raises to deliver a cancel, returns to wait on,
            as it does by default.
    """
    waiter = Waiter()
    subscribe(waiter.wake)
    chain = run.chain
    may_be_held = not in_shield()
    parked = may_be_held or seconds is None
    now = monotonic()
    deadline = inf if seconds is None else now + seconds
    held_since: float | None = None
    lost = 0.0  # how long the run was held
    for each in chain:
        each.book.waiters.add(waiter)
        if parked:
            each.park_worker()
    try:
        while True:
            heed()
            now = monotonic()
            if held_since is not None:
                lost += now - held_since
                deadline += now - held_since
                held_since = None
            if may_be_held and any(each.held for each in chain):
                held_since = now
                waiter.wait()
                continue
            finished = done()
            if finished or now >= deadline:
                if not may_be_held:
                    return finished
                if _leave(chain):
                    parked = False
                    return finished
            waiter.wait(None if deadline == inf else deadline - now)
    finally:
        for each in chain:
            each.book.waiters.discard(waiter)
            if parked:
                each.unpark_worker()
        if held_since is not None:
            lost += monotonic() - held_since
        if lost:
            skip = getattr(running_loop(), "skip", None)
            if skip is not None:
                skip(lost)


def _leave(chain: tuple[FlowRun, ...]) -> bool:
    """Count this thread as going on, in the books of all runs or, if one is held, of none."""
    for i, run in enumerate(chain):
        if not run.unpark_worker(unless_held=True):
            for left in chain[:i]:
                left.park_worker()
            return False
    return True

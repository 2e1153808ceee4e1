"""Who is parked: the book-keeping behind an honest PAUSED.

A *hold* is asked of a run; its workers park where they can. Workers are the
threads and loops that run the run's code: its body and its task threads.

Guarantees:

- A run is said to be PAUSED only when a hold is asked and each of its workers is
  parked. A worker that waits inside the engine (for a task's result, say) counts
  as parked, for as long as it does not return to user code.
- A worker leaves such a wait, or its park, only when no hold is asked or a cancel
  is to be delivered: so nothing moves while PAUSED is said.
- One thread may work for several runs at once (a subflow called in a flow's own
  thread); it is entered in the book of each.

`Book` is guarded by the run's lock; `park` and `waiting` are called by the
worker itself, everything else from any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from jupyter_flows.engine.waiting import Waiter

if TYPE_CHECKING:
    from jupyter_flows.engine.runs import FlowRun


class Book:
    """How many workers of a run there are, and how many of them are parked."""

    __slots__ = ("executing", "hold", "parked", "waiters", "workers")

    def __init__(self) -> None:
        self.hold = False  # a pause is asked
        self.workers = 0
        self.parked = 0
        self.executing = 0  # driven coroutines that run now; written by their loop's thread only
        self.waiters: set[Waiter] = set()  # of threads that an ask must wake

    @property
    def still(self) -> bool:
        """Whether everything that was asked to hold still does."""
        return self.hold and self.parked >= self.workers + self.executing

    def wake(self) -> None:
        """Let every thread that waits look again at what is asked."""
        for waiter in list(self.waiters):
            waiter.wake()


def wait_in_run(
    run: FlowRun,
    done: Callable[[], bool],
    subscribe: Callable[[Callable[[], None]], None],
    seconds: float | None = None,
    *,
    heed: Callable[[], None],
    clock: Callable[[], float] | None = None,
) -> bool:
    """Block a worker until `done()`, counted as parked; return whether it is done.

    Args:
        run: the innermost flow run whose code the thread runs.
        done: whether what is waited for has come.
        subscribe: is given the function to call when `done` may have changed.
        seconds: give up after as long.
        heed: called after every wake: raises to deliver a cancel, returns to wait on.
        clock: what `seconds` are measured by. The default, the run's own, stands
            still while the run is paused.
    """
    waiter = Waiter()
    subscribe(waiter.wake)
    chain = run.chain
    clock = clock or run.clock
    deadline = None if seconds is None else clock() + seconds
    for each in chain:
        each.book.waiters.add(waiter)
        each.count_parked(+1)
    try:
        while True:
            heed()
            held = any(each.book.hold for each in chain)
            if not held and done():
                return True
            left = None
            if deadline is not None and not held:
                left = deadline - clock()
                if left <= 0:
                    return False
            waiter.wait(left)
    finally:
        for each in chain:
            each.book.waiters.discard(waiter)
            each.count_parked(-1)

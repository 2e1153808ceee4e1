"""What a run waits for before its body begins: runs whose results it is given, and more.

Until they have ended, the run is PENDING, and a cancel of it ends it then and there.
Both forms return whether it is to begin; where not, it has ended. They are called by
the runner, on the worker, before the first attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jupyter_flows.engine.current import current
from jupyter_flows.engine.pausing import wait_in_run
from jupyter_flows.engine.waiting import LoopWaiter
from jupyter_flows.errors import WouldDeadlock

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life
    from jupyter_flows.states import State


class Prerequisites:
    """Runs to wait for, and what is to be done when all of them have ended."""

    __slots__ = ("lives", "prepare")

    def __init__(self, lives: Sequence[Life], prepare: Callable[[], State | None]) -> None:
        self.lives = lives
        self.prepare = prepare  # returns the state to end in, if the body is not to begin

    def wait(self, life: Life) -> State | None:
        """Wait on this thread, and prepare; return the state that it ends in instead.

        Raises:
            WouldDeadlock: it would wait for a run that waits for it.
        """
        self._refuse_callers(life)
        _adopt(life)
        for each in self.lives:
            if not each.state_is_final():
                _wait_for_either(each, life)
        return self._prepared(life)

    async def wait_async(self, life: Life) -> State | None:
        """Do what `wait` does, without blocking the event loop."""
        self._refuse_callers(life)
        _adopt(life)
        for each in self.lives:
            if each.state_is_final():
                continue
            waiter = LoopWaiter()
            for either in (each, life):
                either.on_done(waiter.wake)
            try:
                await waiter.wait()
            finally:
                for either in (each, life):
                    either.forget(waiter.wake)
        return self._prepared(life)

    def _refuse_callers(self, life: Life) -> None:
        caller = life.parent
        while caller is not None:
            if caller in self.lives:
                raise WouldDeadlock(
                    f"{life.name} cannot wait for {caller.name}, which ends after it."
                )
            caller = caller.parent

    def _prepared(self, life: Life) -> State | None:
        if life.state_is_final():
            return life.state
        token = current.set(life)
        try:
            return self.prepare()
        finally:
            current.reset(token)


def _adopt(life: Life) -> None:
    """See to it that a cancel of its caller reaches it while it waits."""
    if life.parent is not None and life not in life.parent.active:
        life.parent.adopt(life)


def _wait_for_either(awaited: Life, life: Life) -> None:
    wakes: list[Callable[[], None]] = []

    def over() -> bool:
        return awaited.state_is_final() or life.state_is_final()

    def subscribe(wake: Callable[[], None]) -> None:
        wakes.append(wake)
        for each in (awaited, life):
            each.on_done(wake)

    try:
        wait_in_run(life.flow_run, over, subscribe)  # a cancel ends the run, and so the wait
    finally:
        for wake in wakes:
            for each in (awaited, life):
                each.forget(wake)

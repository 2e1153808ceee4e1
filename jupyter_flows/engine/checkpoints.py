"""Where a cancel or a pause takes hold in running code, without force.

Rules:

- `pass_by` is the implicit checkpoint (prints, log calls, progress steps, task
  boundaries, sleeps). It costs an attribute look-up while nothing is asked. It
  raises only where that costs no cleanup (`safe_lines`); elsewhere it passes.
- `checkpoint` is the explicit one: the author says that stopping here is fine.
- A cancel is raised once. It is raised again only at a safe place, reached
  because the code swallowed it, never into a cleanup. Code that has looked at its
  `exit_flag` is told of it instead, and has its grace to end by itself.
- In sync code a cancel is `RunCancellation`; on an event loop it is
  `asyncio.CancelledError`, and counts as the loop's own delivery (`loops`), so
  that the task is not cancelled twice. A sync body on a thread that also runs a
  loop (a foreground call in a notebook) is sync code.
- A helper thread of a run is stopped at its own checkpoints. The run's body is
  not told by that: it is still to be, if it goes on.

All functions here are called by the thread whose code is to be stopped.
"""

from __future__ import annotations

import asyncio
import sys
import time
from _thread import get_ident
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, TypeGuard

from jupyter_flows.engine.current import current, loop_of, running_loop
from jupyter_flows.engine.pausing import nobody_tells, wait_in_run
from jupyter_flows.engine.safe_lines import is_safe
from jupyter_flows.engine.shielding import in_shield
from jupyter_flows.engine.stacks import bottoms, entries
from jupyter_flows.engine.waiting import Waiter
from jupyter_flows.errors import RunCancellation

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life

real_sleep = time.sleep


def checkpoint() -> None:
    """Let a cancel or a pause take hold here.

    Call it in long computations of a sync flow or task. It does nothing outside
    of runs, and while nothing is asked it costs about 0.1 µs.

    Raises:
        RunCancellation: the run is to stop.
        asyncio.CancelledError: likewise, in async code.
    """
    owner = current.get()
    if owner is not None and owner.pending:
        heed(owner, forced=True)


def pass_by() -> None:
    """Let a cancel or a pause take hold here if that costs no cleanup."""
    owner = current.get()
    if owner is not None and owner.pending:
        heed(owner, forced=False)


def heed(owner: Life, *, forced: bool, frame: FrameType | None = None) -> None:
    """Do what is asked of `owner`, whose code called: raise, park, or pass.

    Args:
        owner: whose code is being run.
        forced: whether the code says that stopping here is fine.
        frame: the top of the stack to be judged; the caller's by default.
    """
    frame = frame or sys._getframe(1)
    owner = _whose(owner, frame)
    while owner.pending and not in_shield():
        raise_if_due(owner, frame, forced=forced)
        if owner.cancel_reason is not None or not any(run.held for run in owner.flow_run.chain):
            return
        loop = loop_of(owner)
        if loop is not None and not getattr(loop, "held", False):
            return  # not ours to block: the coroutine is held between its awaits
        if not (forced or _is_safe(owner, frame, lives=1)):
            return
        park(owner)


def park(owner: Life) -> None:
    """Block this thread until its run goes on, or is to be cancelled."""

    def stop_for_cancel() -> None:
        if owner.cancel_reason is not None:
            raise _Asked

    try:
        # `wait_in_run` looks at the holds itself: there is nothing else to wait for
        wait_in_run(owner.flow_run, lambda: True, nobody_tells, heed=stop_for_cancel)
    except _Asked:
        pass


class _Asked(Exception):
    """A cancel was asked of a parked worker."""


def raise_if_due(owner: Life, frame: FrameType | None, *, forced: bool) -> None:
    """Raise the cancel that is asked of `owner`, if this is a place for it.

    Every place is one when `owner` is to be stopped by force.
    """
    owner = _whose(owner, frame)
    if owner.cancel_reason is None or in_shield():
        return
    if owner.told and not (forced or owner.insisted):
        return  # it knows, and has its grace to end by itself
    anywhere = owner.killed or (forced and not owner.delivered)
    if not anywhere and not is_place_to_stop(owner, frame):
        return
    if owner.root is not None and owner.root.loop is running_loop():
        if owner.root.task is asyncio.current_task():
            owner.root.note_delivery()
        elif owner.delivered:
            return  # it passes from task to task by itself, and may have got here already
        raise asyncio.CancelledError(owner.cancel_reason)
    if owner.flow_run.book.is_worker(get_ident()):
        owner.note_delivery()
    else:
        owner.note_helper_stopped()
    raise RunCancellation(owner.id, owner.cancel_reason or "user")


def _whose(owner: Life, frame: FrameType | None) -> Life:
    """Return whose code this stack is: not a block's that it is not within.

    A generator that is suspended in a block leaves that behind as the current one.
    """
    while owner.frame is not None and owner.parent is not None:
        each = frame
        while each is not None and each is not owner.frame:
            each = each.f_back
        if each is not None:
            break
        owner = owner.parent
    return owner


def _reach(owner: Life) -> tuple[int, FrameType | None]:
    """Return how far a cancel will pass, from `owner` outwards.

    Returns:
        The number of bodies entered that are to be stopped, and the frame in which
        the last begins, if none was entered for that.
    """
    depth = 0
    reach: tuple[int, FrameType | None] = 0, None
    life: Life | None = owner
    while life is not None:
        if life.frame is None:
            depth += 1
        if life.cancel_reason is not None:
            reach = (depth, None) if life.frame is None else (depth + 1, life.frame)
        life = life.caller
    return reach


def is_place_to_stop(owner: Life, frame: FrameType | None) -> bool:
    """Whether the cancel that is asked of `owner` would cost no cleanup in this stack."""
    lives, until = _reach(owner)
    return _is_safe(owner, frame, lives=lives, until=until)


def _is_safe(
    owner: Life, frame: FrameType | None, *, lives: int, until: FrameType | None = None
) -> bool:
    return is_safe(frame, entries, lives, bottoms=bottoms, packages=owner.past_grace, until=until)


def sleep(seconds: float) -> None:
    """Sleep like `time.sleep`; in a run a cancel or a pause takes hold meanwhile."""
    owner = current.get()
    if not may_park(owner) or not isinstance(seconds, int | float) or not seconds > 0:
        real_sleep(seconds)
        return
    frame = sys._getframe(1)
    wait_in_run(
        owner.flow_run,
        lambda: False,
        nobody_tells,
        seconds,
        heed=lambda: raise_if_due(owner, frame, forced=False),
    )


def wait_for_history(
    done: Callable[[], bool], subscribe: Callable[[Callable[[], None]], None], seconds: float
) -> bool:
    """Let a thread that writes into a log wait until history has caught up: a `ports.Wait`.

    A run that is to be held is held meanwhile, and one that is to stop waits no longer.
    """
    owner = current.get()
    if not may_park(owner):
        waiter = Waiter()
        subscribe(waiter.wake)
        return done() or waiter.wait(seconds)

    def stop_for_cancel() -> None:
        if owner.cancel_reason is not None and not owner.delivered:
            raise _Asked

    try:
        return wait_in_run(owner.flow_run, done, subscribe, seconds, heed=stop_for_cancel)
    except _Asked:
        return True


def may_park(owner: Life | None) -> TypeGuard[Life]:
    """Whether this thread runs code of a run, and not on an event loop of others."""
    loop = None if owner is None else loop_of(owner)
    return owner is not None and (loop is None or hasattr(loop, "held"))


def wait_as_worker(targets: Sequence[Life], seconds: float | None) -> bool:
    """Wait until any of `targets` is over; return whether one is.

    Called in a run's code, the wait is a checkpoint, and counts as parked.
    """

    def done() -> bool:
        return any(target.is_over() for target in targets)

    def subscribe(wake: Callable[[], None]) -> None:
        wakes.append(wake)
        for target in targets:
            target.on_done(wake)

    wakes: list[Callable[[], None]] = []
    try:
        return wait_until(done, subscribe, seconds, frame=sys._getframe(1))
    finally:
        for wake in wakes:
            for target in targets:
                target.forget(wake)


def wait_until(
    done: Callable[[], bool],
    subscribe: Callable[[Callable[[], None]], None],
    seconds: float | None,
    *,
    frame: FrameType | None = None,
) -> bool:
    """Wait until something is so; return whether it is.

    Called in a run's code, the wait is a checkpoint, and counts as parked.

    Args:
        done: whether it is.
        subscribe: is given the function to call when that may have changed.
        seconds: give up after as long.
        frame: the top of the stack to be judged; the caller's by default.
    """
    owner = current.get()
    frame = frame or sys._getframe(1)
    if done() and (owner is None or not owner.pending):
        return True
    if owner is None:
        waiter = Waiter()
        subscribe(waiter.wake)
        return done() or waiter.wait(seconds) or done()
    return wait_in_run(
        owner.flow_run,
        done,
        subscribe,
        seconds,
        heed=lambda: raise_if_due(owner, frame, forced=False),
    )

"""Event loops that hold still, and coroutines that do.

Theory. An async run on a loop of its own is paused by parking that loop: every
task of it stops between two awaits, and the loop's clock, shifted by as long,
freezes its timeouts. On a loop that is not the run's own (the kernel's, or the
caller's) nothing may block, so there the coroutine itself is driven: `driven`
forwards what it awaits, and between two awaits holds it back.

A cancel is one `cancel()` of an asyncio task. It passes through everything that
the task awaits, other tasks included, and a second one would cancel the awaits
of a cleanup. So what is asked of several bodies on one loop is delivered in one
step of the loop, in which asyncio makes one of it (`_look`).

Guarantees:

- A `Root` may be interrupted from any thread; all else happens on the loop's own.
- A body gets one `CancelledError`, at its next await, and a cleanup may await: one
  that is under way when the cancel comes is left to end, until the run is killed.
"""

from __future__ import annotations

import asyncio
import threading
import types
from _thread import get_ident
from collections.abc import Awaitable, Callable, Generator
from time import monotonic
from typing import TYPE_CHECKING, Any

from jupyter_flows.engine import checkpoints, shielding
from jupyter_flows.engine.safe_lines import group_of, is_cleanup
from jupyter_flows.engine.shielding import any_shielded_task, is_shielded_task
from jupyter_flows.engine.stacks import driver, suspended_frames
from jupyter_flows.engine.waiting import LoopWaiter

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life
    from jupyter_flows.engine.runs import FlowRun


class RunLoop(asyncio.SelectorEventLoop):
    """An event loop for the body of one life: it can be parked, and its clock then stands still."""

    def __init__(self, life: Life) -> None:
        super().__init__()
        self.life = life
        self._lost = 0.0

    @property
    def held(self) -> bool:
        """Whether its run is to hold still: then it may be blocked."""
        return self.life.flow_run.held

    def time(self) -> float:
        """Return the loop's time, which leaves out how long its run was held."""
        return monotonic() - self._lost

    def skip(self, seconds: float) -> None:
        """Take note of how long the loop has just been parked."""
        self._lost += seconds


class _Here(threading.local):
    """The bodies that this thread's event loops run."""

    def __init__(self) -> None:
        self.roots: set[Root] = set()


_here = _Here()


class Root:
    """The asyncio task that runs the body of a life, and how an ask reaches it.

    Within ``with root:`` the body runs, and a cancel is delivered; outside it the
    task is the engine's own.
    """

    __slots__ = ("_cancelled", "_life", "loop", "task")

    def __init__(self, life: Life) -> None:
        """Take the task that is running now for the one that runs the body of `life`."""
        task = asyncio.current_task()
        assert task is not None, "a root is made inside of its task"
        self._cancelled = 0  # how often
        self._life = life
        self.task = task
        self.loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        _here.roots.add(self)

    def __exit__(self, *_: object) -> None:
        _here.roots.discard(self)

    async def begin(self) -> None:
        """Heed what was asked before the body begins: it may be not to begin."""
        self.interrupt()
        await asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:
        """Wait for the next attempt; a cancel ends the wait, and is then seen to.

        The wait is longer by as long as the run is held.
        """
        with self:
            try:
                await _sleep(self._life.flow_run, seconds)
            except asyncio.CancelledError:
                if self._life.cancel_reason is None:
                    raise

    def interrupt(self) -> None:
        """Let the loop look at what is asked. Any thread."""
        try:
            self.loop.call_soon_threadsafe(_look)
        except RuntimeError:  # the loop is closed: the body has ended
            pass

    def note_delivery(self) -> None:
        """Take note that a `CancelledError` is raised in this task, for all whose body it runs."""
        for root in _here.roots:
            if root.task is self.task:
                root._life.note_delivery()

    def settle(self) -> None:
        """Take back the `cancel()` that was delivered, unless the caller's body gets it next."""
        caller = self._life.caller
        passes_on = caller is not None and caller.delivered and is_same_task(caller, self._life)
        while self._cancelled and not passes_on and self.task.cancelling():
            self.task.uncancel()
            self._cancelled -= 1
        self._cancelled = 0

    @property
    def patient(self) -> bool:
        """Whether a cleanup that is under way is left to end before the cancel comes."""
        return not self._life.killed

    @property
    def shielded(self) -> bool:
        """Whether the body was started in a shield that has not ended."""
        return self._life.shielded

    @property
    def due(self) -> bool:
        """Whether a cancel is asked and not delivered."""
        return self._life.cancel_reason is not None and not self._life.delivered

    @property
    def swallowed(self) -> bool:
        """Whether a cancel was delivered and is to be delivered again, as the body went on."""
        life = self._life
        return life.delivered and life.insisted and not life.decided

    def insist(self) -> None:
        """Cancel the task once more if its body swallowed the cancel. Any thread."""
        try:
            self.loop.call_soon_threadsafe(_insist, self)
        except RuntimeError:  # the loop is closed: the body has ended
            pass

    def deliver(self) -> None:
        """Take note that the task is cancelled."""
        self._life.note_delivery()
        self._cancelled += 1


async def _sleep(run: FlowRun, seconds: float) -> None:
    """Sleep, not counting how long a run is held; within a shield nothing is."""
    loop = asyncio.get_running_loop()
    waiter = LoopWaiter()
    may_be_held = not shielding.in_shield()
    run.book.waiters.add(waiter)
    try:
        while (held := may_be_held and run.held) or seconds > 0:
            alarm = None if held else loop.call_later(seconds, waiter.wake)
            begun = loop.time()
            try:
                await waiter.wait()
            finally:
                if alarm is not None:
                    alarm.cancel()
                    seconds -= loop.time() - begun
        await asyncio.sleep(0)
    finally:
        run.book.waiters.discard(waiter)


def is_same_task(one: Life, other: Life) -> bool:
    """Whether one asyncio task runs the bodies of both."""
    return one.root is not None and other.root is not None and one.root.task is other.root.task


def _look() -> None:
    """Heed what is asked of all that the running loop runs."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, RunLoop) and loop.held:
        if loop.life.shielded:  # the shield that it was started in ends elsewhere: nobody tells
            loop.call_later(_LOOK_AGAIN, _look)
        elif not any_shielded_task(loop):
            checkpoints.park(loop.life)
    here = [root for root in _here.roots if root.loop is loop]
    for root in here:
        if root.due:  # whoever asked may not have reached its children yet
            for child in list(root._life.active):
                child.ask_cancel("parent")
    under_way = {root.task for root in here if root._life.delivered}
    due = [root for root in here if root.due]
    busy = {root.task for root in due if _is_to_be_left_alone(root)} - under_way
    for root in due:
        if root.task not in busy:
            root.deliver()
    for task in {root.task for root in due} - under_way - busy:
        task.cancel()
    if busy:
        loop.call_later(_LOOK_AGAIN, _look)


_LOOK_AGAIN = 0.005  # seconds, while a cleanup awaits that was under way when the cancel came,
# or a shield is on


def _look_again(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(_look)


shielding.look_again = _look_again


def _insist(root: Root) -> None:
    """Cancel a body again that swallowed a cancel, unless it is cleaning up."""
    if root in _here.roots and root.swallowed and not _is_to_be_left_alone(root):
        _ask_all_below(root._life)
        root.deliver()
        root.task.cancel()


def _ask_all_below(life: Life) -> None:
    """Ask what was begun since a cancel was swallowed, not in a cleanup then, to stop too."""
    for child in list(life.active):
        child.ask_cancel("parent")
        _ask_all_below(child)  # which it may have called after it was asked itself


def _is_to_be_left_alone(root: Root) -> bool:
    """Whether a cancel would come into a shield, or into a cleanup that is not to be killed."""
    if root.shielded or _waits_for(root.task, is_shielded_task):
        return True
    return root.patient and _is_cleaning_up(root.task)


def _is_cleaning_up(task: asyncio.Task[Any]) -> bool:
    """Whether a cancel of `task` would come into a cleanup, of it or of a task that it awaits."""
    return _waits_for(task, lambda each: is_cleanup(suspended_frames(each.get_coro())))


def _waits_for(task: asyncio.Task[Any], condition: Callable[[asyncio.Task[Any]], bool]) -> bool:
    """Whether a task, or one that it awaits, is as `condition` says."""
    todo: list[Any] = [task]
    for each in todo:
        todo += getattr(each, "_children", ())  # of `gather`
        if isinstance(each, asyncio.Task):
            groups = filter(None, map(group_of, suspended_frames(each.get_coro())))
            todo += [child for group in groups for child in group._tasks if child not in todo]
            waiter = getattr(each, "_fut_waiter", None)
            if waiter is not None and waiter not in todo:
                todo.append(waiter)
            if condition(each):
                return True
    return False


@driver
@types.coroutine
def driven(awaitable: Awaitable[Any], run: FlowRun) -> Generator[Any, Any, Any]:
    """Run a coroutine so that it can be held between two awaits.

    It counts as a worker of `run` only while it executes: whenever it awaits, it
    is parked as far as the run is concerned, since it will not be let go on.
    """
    coroutine: Any = awaitable if asyncio.iscoroutine(awaitable) else awaitable.__await__()
    book = run.book
    book.driver = get_ident()
    value: Any = None
    error: BaseException | None = None
    counted = False
    while True:
        if not counted:
            book.executing += 1
        # counted first, then looked at: whoever asks for a hold looks the other way round
        while book.hold and run.held and not shielding.in_shield():
            _await(run)
            try:
                yield from _held(run)
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as thrown:
                error, value = thrown, None
            book.executing += 1
        try:
            awaited = coroutine.send(value) if error is None else coroutine.throw(error)
        except BaseException as end:
            _await(run)
            if isinstance(end, StopIteration):
                return end.value
            raise
        counted = shielding.in_shield()  # then it goes on after the await, whatever is asked
        if not counted:
            _await(run)
        value = error = None
        try:
            value = yield awaited
        except BaseException as thrown:
            error = thrown


def _await(run: FlowRun) -> None:
    """Count a driven coroutine as no longer executing."""
    run.book.executing -= 1
    if run.book.hold:
        run.settle_pause()


def hold_between_awaits(
    body: Callable[[], Awaitable[Any]], run: FlowRun
) -> Callable[[], Awaitable[Any]]:
    """Make sure that a body on the running loop holds still when its run is paused."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, RunLoop) and loop.life.flow_run is run:
        return body  # the loop does
    if run.root is not None and run.root.task is asyncio.current_task():
        return body  # the run's own body is held, and this within it

    async def held_body() -> Any:
        return await driven(body(), run)

    return held_body


async def with_its_tasks(body: Callable[[], Awaitable[Any]]) -> Any:
    """Run a body on a loop of its own, and end the tasks that it leaves behind."""
    try:
        return await body()
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            if not task.cancelling():  # else it is cleaning up
                task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _held(run: FlowRun) -> Generator[Any, Any, None]:
    """Await the moment when the run may have been let go on."""
    waiter = LoopWaiter()
    run.book.waiters.add(waiter)
    try:
        if run.held:
            yield from waiter.wait().__await__()
    finally:
        run.book.waiters.discard(waiter)

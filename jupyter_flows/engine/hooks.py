"""Hooks: functions of the author's that are called when a run begins and when it ends.

    on_running        an attempt has begun, the body of it not yet: once for each attempt
    on_completion     it is COMPLETED, a cached task run too
    on_failure        it is FAILED, after the last attempt
    on_cancellation   it is CANCELLED: when its code has stopped, has never begun, or is given up
    on_crashed        it is CRASHED

Guarantees:

- Of a run's last state each hook is called exactly once, whatever led there. A run
  whose process dies, or that another kernel declares dead, has none called; nor has one
  that is NotReady, as the run that it waits for has its own.
- The hooks of a run are called one after another, in the order in which they were
  given, on a thread of their own and with no lock held. No event loop waits for them.
- While they are called the run is in the state that they are called for. A body
  begins when the hooks of its attempt have ended. Whoever waits for a run, or has
  called it, waits for its hooks too.
- A hook that takes longer than `SECONDS` is left behind: it goes on by itself, and
  nobody waits for it. What a hook raises is told in the run's log. Neither keeps
  another hook from being called.
- What is asked of a run does not reach its hooks: they are shielded. A cancel that
  comes while hooks are called for an attempt keeps the body from beginning, and does
  not wait for them.
- What they print is in the run's log. That of a run that was given up is closed: there
  it goes where prints go.

The hooks of a flow are called in the kernel, of a run in a process too; those of a
task are called where the task runs.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from _thread import allocate_lock
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context, Token
from typing import Any, TypeVar

from jupyter_flows.engine.current import current
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.logs import LineWriter
from jupyter_flows.engine.ports import user_traceback
from jupyter_flows.engine.sections import Section
from jupyter_flows.engine.shielding import shield
from jupyter_flows.engine.threads import EngineThread
from jupyter_flows.engine.timers import ring
from jupyter_flows.engine.waiting import LoopWaiter
from jupyter_flows.states import State, StateType

SECONDS = 30.0  # until nobody waits for a hook any more: as long as until a run is killed

Hook = Callable[[Any, Any, State], Any]
"""Is given the flow or task, its run, and the state; sync or async."""

H = TypeVar("H", bound=Callable[..., Any])

_MOMENTS = {
    "on_running": StateType.RUNNING,
    "on_completion": StateType.COMPLETED,
    "on_failure": StateType.FAILED,
    "on_cancellation": StateType.CANCELLED,
    "on_crashed": StateType.CRASHED,
}

_logger = logging.getLogger("jupyter_flows.hooks")


class Hooks(dict[StateType, list[Hook]]):
    """What an author wants called, by the state that it is called for."""

    def __init__(self, **given: Iterable[Hook] | None) -> None:
        """Take the hooks of each moment, named as in `@flow`.

        Raises:
            TypeError: what is given is no list of functions.
        """
        super().__init__()
        for moment, hooks in given.items():
            if callable(hooks) or not isinstance(hooks, Iterable | None):
                raise TypeError(f"{moment} must be a list of functions, not {hooks!r}.")
            for hook in hooks or ():
                self.add(moment, hook)

    def add(self, moment: str, hook: H) -> H:
        """Have a function called at a moment, and return it."""
        if not callable(hook):
            raise TypeError(f"{moment} takes functions, not {hook!r}.")
        self.setdefault(_MOMENTS[moment], []).append(hook)
        return hook

    def chosen(self) -> dict[str, list[Hook]]:
        """Return the hooks of each moment that has any."""
        return {name: list(self[kind]) for name, kind in _MOMENTS.items() if kind in self}

    def calls(self, life: Life) -> HookCalls:
        """Make the queue of what is called for one run."""
        return HookCalls(life)


class Hooked:
    """A flow or task: what hooks are added to by decorators."""

    hooks: Hooks

    def on_running(self, hook: H) -> H:
        """Call a function when an attempt of a run begins. A decorator."""
        return self.hooks.add("on_running", hook)

    def on_completion(self, hook: H) -> H:
        """Call a function when a run is COMPLETED. A decorator."""
        return self.hooks.add("on_completion", hook)

    def on_failure(self, hook: H) -> H:
        """Call a function when a run is FAILED, after its last attempt. A decorator."""
        return self.hooks.add("on_failure", hook)

    def on_cancellation(self, hook: H) -> H:
        """Call a function when a run is CANCELLED. A decorator."""
        return self.hooks.add("on_cancellation", hook)


class HookCalls:
    """The calls of hooks that are due for one run, one after another."""

    __slots__ = ("_calls", "_life", "_lock", "_on_idle", "_under_way", "_working")

    def __init__(self, life: Life) -> None:
        self._life = life
        self._lock = allocate_lock()
        self._calls: deque[tuple[Hook, State]] = deque()
        self._under_way: _Call | None = None
        self._working = False  # a thread makes the calls
        self._on_idle: list[Callable[[], None]] = []

    @property
    def idle(self) -> bool:
        """Whether all that was due has been called, and has ended or was left behind."""
        return not self._calls and not self._working

    def add(self, hooks: Iterable[Hook], state: State) -> None:
        """Let hooks be due. Any thread, also under the life's lock."""
        self._calls.extend([(hook, state) for hook in hooks])

    def start(self) -> None:
        """Call what is due, on a thread of its own. Harmless when told again. No lock held."""
        with self._lock:
            if self._working or not self._calls:
                return
            self._working = True
        self._go_on(None)

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when it is idle: at once, if it is."""
        with self._lock:
            idle = self.idle
            if not idle:
                self._on_idle.append(callback)
        if idle:
            callback()

    async def wait(self) -> None:
        """Wait until it has been idle, whatever is due by then, without blocking the event loop."""
        waiter = LoopWaiter()
        self.when_idle(waiter.wake)
        await waiter.wait()

    def _go_on(self, left: _Call | None) -> None:
        try:
            name = f"hooks of {self._life.name}"
            EngineThread(name, self._work, left, context=Context()).start()
        except RuntimeError:  # Python ends, and some versions then start no thread
            self._work(left)

    def _work(self, left: _Call | None) -> None:
        if left is not None:
            left.warn()
        while call := self._next():
            alarm = ring(SECONDS, lambda call=call: self._leave_behind(call))  # type: ignore[misc]
            call.make()
            alarm.cancel()
            with self._lock:
                if self._under_way is not call:
                    return  # it was left behind, and another thread has gone on
                self._under_way = None
        self._life.changed()

    def _next(self) -> _Call | None:
        with self._lock:
            if self._calls:
                self._under_way = _Call(self._life, *self._calls.popleft())
                return self._under_way
            self._working = False
            callbacks, self._on_idle = self._on_idle, []
        for callback in callbacks:
            callback()
        return None

    def _leave_behind(self, call: _Call) -> None:
        with self._lock:
            if self._under_way is not call:
                return
            self._under_way = None
        self._go_on(call)


class _Call(Section):
    """One call of a hook: code of a run that nothing asked of it reaches."""

    is_hook = True

    __slots__ = ("_hook", "_out", "_state", "_what")

    def __init__(self, life: Life, hook: Hook, state: State) -> None:
        super().__init__(life, None)
        self._hook = hook
        self._state = state
        self._what = getattr(getattr(hook, "func", hook), "__name__", type(hook).__name__)
        self._out: LineWriter | None = None

    def stream(self, level: int) -> LineWriter | None:
        """Return the writer of its prints, or None if those of the run pass."""
        if not self.captures:
            return None
        if self._out is None:
            self._out = self.flow_run.open_stream(f"hook {self._what}")
        return self._out

    def make(self) -> None:
        """Call the hook."""
        token = self._enter()
        try:
            with shield():
                result = self._hook(self.parent.author, self.parent, self._state)
                error = asyncio.run(_error_of(result)) if inspect.isawaitable(result) else None
        except BaseException as raised:
            error = raised
        if error is not None:
            error = error.with_traceback(user_traceback(error))
            _logger.error("The hook %r failed.", self._what, exc_info=error)
        if self._out is not None:
            self.flow_run.close_stream(self._out)
        current.reset(token)

    def warn(self) -> None:
        """Say that it was left behind."""
        token = self._enter()
        _logger.warning("The hook %r is left behind, as %g s are over.", self._what, SECONDS)
        current.reset(token)

    def _enter(self) -> Token[Life | None]:
        return current.set(None if self.flow_run.abandoned else self)


async def _error_of(awaitable: Awaitable[Any]) -> BaseException | None:
    try:
        await awaitable
    except BaseException as error:  # caught here, where its traceback has no loop in it
        return error
    return None

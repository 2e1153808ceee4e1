"""Cached task runs: a result that is kept is taken in the place of a run of the body.

Rules, Prefect's where it has one:

- Nothing is kept of a task that says nothing about caching, unless its flow says
  ``persist_result=True``. A task that does is cached by its policy, else by `DEFAULT`.
- A task run whose key has a result is COMPLETED under the name Cached; its body is not
  run. Each attempt looks anew.
- What is kept is what a body returned: neither what it raised, nor the futures and states
  of other runs, nor what came from code that was told to stop.
- Caching never makes a task fail: what cannot be hashed, read or written is told in the
  log, and the body is run.

What async code takes from there is read and unpickled on a thread, while its event loop goes
on. Keys and what is kept are made where the code runs, which nobody changes meanwhile.

The results lie where `ports.results_at` says, else beside the user's own store; they are
written by whoever runs the body, in the kernel or in a process.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any

from jupyter_flows.cache_policies import (
    DEFAULT,
    NO_CACHE,
    CachePolicy,
    TaskRunContext,
    bound_instance,
    key_of,
)
from jupyter_flows.context import get_run_logger
from jupyter_flows.engine import ports
from jupyter_flows.engine.current import current
from jupyter_flows.engine.helping import helping
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.outcomes import lives_in
from jupyter_flows.engine.texts import plain_text
from jupyter_flows.engine.threads import EngineThread
from jupyter_flows.engine.waiting import LoopWaiter
from jupyter_flows.parameters import is_generator
from jupyter_flows.states import Completed, State

if TYPE_CHECKING:
    from jupyter_flows.history.results import ResultFiles

CacheKeyFn = Callable[[TaskRunContext, dict[str, Any]], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caching:
    """What the author of a task decided about keeping its results."""

    cache_policy: CachePolicy | None = None
    cache_key_fn: CacheKeyFn | None = None
    cache_expiration: timedelta | None = None
    refresh_cache: bool | None = None
    persist_result: bool | None = None

    def __post_init__(self) -> None:
        policy, key_fn = self.cache_policy, self.cache_key_fn
        if not isinstance(policy, CachePolicy | None):
            raise TypeError(
                f"cache_policy must be one of jupyter_flows.cache_policies, not {policy!r}."
            )
        if key_fn is not None and not callable(key_fn):
            raise TypeError(f"cache_key_fn must be a function, not {key_fn!r}.")
        if key_fn is not None and policy is not None:
            warnings.warn("cache_policy does nothing beside a cache_key_fn.", stacklevel=4)
        if self.persist_result is False and (key_fn or policy) not in (None, NO_CACHE):
            warnings.warn("A cache_policy does nothing with persist_result=False.", stacklevel=4)
        if not isinstance(self.cache_expiration, timedelta | None):
            raise TypeError(f"cache_expiration must be a timedelta, not {self.cache_expiration!r}.")

    def chosen(self) -> dict[str, Any]:
        """Return all of it by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def policy(self, *, persists: bool | None) -> CachePolicy:
        """Return the policy that is in force.

        Args:
            persists: whether the flow has the results of its tasks kept.
        """
        if self.persist_result is False:
            return NO_CACHE
        if self.cache_key_fn is not None:
            return CachePolicy.from_cache_key_fn(self.cache_key_fn)
        if self.cache_policy is not None:
            return self.cache_policy
        return DEFAULT if self.persist_result or persists else NO_CACHE


def cached(task: Any, policy: CachePolicy) -> Callable[..., Any]:
    """Return the function of a task as one that returns a kept result where there is one."""
    fn = task.fn
    if is_generator(fn):  # whose values are made one by one
        return fn  # type: ignore[no-any-return]

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        entry = _entry(task, policy, args, kwargs)
        found = entry.load() if entry is not None else None
        if found is not None:
            return found
        value = fn(*args, **kwargs)
        if entry is not None:
            entry.keep(value)
        return value

    @wraps(fn)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        entry = _entry(task, policy, args, kwargs)
        found = await entry.load_async() if entry is not None else None
        if found is not None:
            return found
        value = await fn(*args, **kwargs)
        if entry is not None:
            entry.keep(value)
        return value

    return call_async if task.isasync else call


class _Entry:
    """Where the result of one task run is kept."""

    def __init__(self, caching: Caching, life: Life, key: str) -> None:
        self._caching = caching
        self._life = life
        self._key = key
        self._results = _results()

    def load(self) -> State | None:
        """Return the state of a task run that has its result from here, if there is one."""
        if self._caching.refresh_cache:
            return None
        try:
            data = self._results.load(self._key)
            if data is None:
                return None
            import cloudpickle

            value = cloudpickle.loads(data)
        except Exception as error:
            _warn("What is kept of an earlier run cannot be read, so it is run", error)
            return None
        get_run_logger().info("Its result is kept from an earlier run: the body is not run.")
        return Completed("Kept from an earlier run.", name="Cached", data=value)

    async def load_async(self) -> State | None:
        """Do the same on a thread of its own, for which a cancel does not wait."""
        waiter = LoopWaiter()
        found: State | None = None

        def load() -> None:
            nonlocal found
            try:
                found = helping(self._life, self.load)
            finally:  # what is unpickled may come to a checkpoint
                waiter.wake()

        try:
            EngineThread(f"result for {self._life.name}", load, context=copy_context()).start()
        except RuntimeError:  # Python ends, and starts no thread any more
            return self.load()
        await waiter.wait()
        return found

    def keep(self, value: Any) -> None:
        """Keep what the body returned."""
        if self._life.reached or isinstance(value, State) or lives_in(value):
            return
        expiration = self._caching.cache_expiration
        try:
            import cloudpickle

            data = cloudpickle.dumps(value)
            seconds = None if expiration is None else expiration.total_seconds()
            self._results.keep(self._key, data, seconds)
        except Exception as error:
            _warn("Its result cannot be kept", error)


def _entry(
    task: Any, policy: CachePolicy, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> _Entry | None:
    """Return where the result of this call is kept; None if it is not to be."""
    life = current.get()
    if life is None:
        return None
    try:
        bound = inspect.signature(task.fn).bind(*args, **kwargs)
        bound.apply_defaults()
        parameters = {**bound_instance(task.fn), **bound.arguments}
        key = key_of(policy, TaskRunContext(task, life.listed, parameters))
    except Exception as error:
        _warn("It has no cache key, so its result is neither looked for nor kept", error)
        return None
    return None if key is None else _Entry(task.caching, life, key)


def _warn(what: str, error: Exception) -> None:
    get_run_logger().warning("%s: %s: %s", what, type(error).__name__, plain_text(error))


_opened: dict[tuple[str, float], ResultFiles] = {}


def _results() -> ResultFiles:
    from jupyter_flows.history import results

    at = ports.results_at or (str(results.default_folder()), results.KEEP_SECONDS)
    if at not in _opened:
        _opened[at] = results.ResultFiles(at[0], keep_seconds=at[1])
    return _opened[at]

"""`@task`: a step of a flow, with a state, logs and retries of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from jupyter_flows.cache_policies import NO_CACHE, CachePolicy
from jupyter_flows.cache_policies import task_input_hash as task_input_hash
from jupyter_flows.caching import CacheKeyFn, Caching, cached
from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.current import current
from jupyter_flows.engine.hooks import Hook, Hooked, Hooks
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.loops import hold_between_awaits
from jupyter_flows.engine.options import Options, RetryCondition, RetryDelay
from jupyter_flows.engine.options import exponential_backoff as exponential_backoff
from jupyter_flows.engine.runner import Plan, reraise, run_async, run_sync
from jupyter_flows.engine.task_runs import TaskRun
from jupyter_flows.errors import NotInARun
from jupyter_flows.futures import Future, resolve, submit
from jupyter_flows.parameters import is_generator
from jupyter_flows.states import State, StateType

P = ParamSpec("P")
R = TypeVar("R")


class Unmapped(Generic[R]):
    """An argument of `Task.map` that is the same for every task."""

    __slots__ = ("value",)

    def __init__(self, value: R) -> None:
        self.value = value


def unmapped(value: R) -> Unmapped[R]:
    """Mark an argument of `Task.map` that every task gets whole."""
    return Unmapped(value)


class Task(Hooked, Generic[P, R]):
    """A function whose calls in a flow are task runs. Made by `@task`."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None = None,
        tags: Iterable[str] = (),
        retries: int = 0,
        retry_delay_seconds: RetryDelay = 0.0,
        retry_jitter_factor: float | None = None,
        retry_condition_fn: RetryCondition | None = None,
        timeout_seconds: float | None = None,
        cache_policy: CachePolicy | None = None,
        cache_key_fn: CacheKeyFn | None = None,
        cache_expiration: timedelta | None = None,
        refresh_cache: bool | None = None,
        persist_result: bool | None = None,
        log_prints: bool | None = None,
        on_running: Iterable[Hook] | None = None,
        on_completion: Iterable[Hook] | None = None,
        on_failure: Iterable[Hook] | None = None,
        on_cancellation: Iterable[Hook] | None = None,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"@task decorates a function, not {type(fn).__name__}.")
        if is_generator(fn):
            raise TypeError(f"@task does not take generators such as {fn!r}: return a list.")
        update_wrapper(cast(Any, self), fn)
        self.fn = fn
        self.name = name or str(getattr(fn, "__name__", type(fn).__name__))
        self.tags = frozenset(tags)
        self.isasync = inspect.iscoroutinefunction(fn)
        self.log_prints = log_prints
        self.options = Options(
            retries=retries,
            retry_delay_seconds=retry_delay_seconds,
            retry_jitter_factor=retry_jitter_factor,
            retry_condition_fn=retry_condition_fn,
            timeout_seconds=timeout_seconds,
        )
        self.caching = Caching(
            cache_policy=cache_policy,
            cache_key_fn=cache_key_fn,
            cache_expiration=cache_expiration,
            refresh_cache=refresh_cache,
            persist_result=persist_result,
        )
        self._policy = self.caching.policy(persists=False)
        self.hooks = Hooks(
            on_running=on_running,
            on_completion=on_completion,
            on_failure=on_failure,
            on_cancellation=on_cancellation,
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task here and now; in a run, as a task run of it."""
        __tracebackhide__ = True
        caller = current.get()
        if caller is None:
            return cast(R, self._call_alone(args, kwargs))
        if self.isasync:
            return cast(R, self._call_async(caller, args, kwargs))
        return_state = bool(kwargs.pop("return_state", False))
        if caller.pending:
            checkpoints.pass_by()
        task_run = self._make_run(caller)
        run_sync(task_run, self._plan(task_run, args, kwargs))
        state = task_run.state
        if return_state:
            return cast(R, state)
        if state.type is StateType.COMPLETED:
            return cast(R, state.data)
        return cast(R, reraise(task_run))

    async def _call_async(self, caller: Life, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True
        return_state = bool(kwargs.pop("return_state", False))
        task_run = self._make_run(caller)
        plan = self._plan(task_run, args, kwargs)
        await run_async(task_run, plan.with_body(hold_between_awaits(plan.body, caller.flow_run)))
        return task_run.state if return_state else reraise(task_run)

    def _call_alone(self, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True
        from jupyter_flows.flows import Flow

        alone = Flow(
            self._function(persists=None),
            name=self.name,
            retries=self.options.retries,
            retry_delay_seconds=self.options.retry_delay_seconds,
            retry_jitter_factor=self.options.retry_jitter_factor,
            retry_condition_fn=self.options.retry_condition_fn,
            timeout_seconds=self.options.timeout_seconds,
            log_prints=self.log_prints,
            validate_parameters=False,
        )
        alone.author, alone.hooks = self, self.hooks
        return alone(*args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Future[R]:
        """Run the task on a thread of its own and return its result to come.

        Raises:
            NotInARun: there is no run whose task it could be.
        """
        caller = current.get()
        if caller is None:
            raise NotInARun(
                f"Task {self.name!r} can be submitted only inside a flow; call it directly instead."
            )
        if caller.pending:
            checkpoints.pass_by()
        task_run = self._make_run(caller)
        return submit(task_run, self._plan(task_run, args, kwargs), is_async=self.isasync)

    def map(self, *args: Any, **kwargs: Any) -> list[Future[R]]:
        """Submit the task once for each element of its arguments.

        Arguments that are iterable are taken element by element, side by side;
        texts, and what is marked `unmapped`, are given whole to every task.

        Raises:
            ValueError: the arguments are of different lengths, or none is iterable.
        """
        columns = [_column(value) for value in (*args, *kwargs.values())]
        lengths = {len(column) for column in columns if column is not None}
        if len(lengths) != 1:
            found = ", ".join(map(str, sorted(lengths))) or "nothing to map over"
            raise ValueError(f"Task {self.name!r} maps over arguments of one length, not {found}.")
        futures = []
        for i in range(lengths.pop()):
            values = [
                _whole(value) if column is None else column[i]
                for value, column in zip((*args, *kwargs.values()), columns, strict=True)
            ]
            named = dict(zip(kwargs, values[len(args) :], strict=True))
            futures.append(self.submit(*values[: len(args)], **named))
        return futures

    def with_options(self, **options: Any) -> Task[P, R]:
        """Return the same task with other options, named as in `@task`."""
        kept: dict[str, Any] = {
            "name": self.name,
            "tags": self.tags,
            "retries": self.options.retries,
            "retry_delay_seconds": self.options.retry_delay_seconds,
            "retry_jitter_factor": self.options.retry_jitter_factor,
            "retry_condition_fn": self.options.retry_condition_fn,
            "timeout_seconds": self.options.timeout_seconds,
            "log_prints": self.log_prints,
            **self.caching.chosen(),
            **self.hooks.chosen(),
        }
        return Task(self.fn, **(kept | options))

    def __reduce__(self) -> Any:
        """Travel by name where a module has it, else as its function and options."""
        from jupyter_flows.engine.processes.pickling import find

        name: str = vars(self).get("__qualname__", "")
        if find(self.__module__, name) is self:
            return name
        return object.__new__, (type(self),), vars(self)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind to an instance, as a method does."""
        if instance is None:
            return self
        bound = self.with_options()
        bound.fn = self.fn.__get__(instance, owner)
        return bound

    def _make_run(self, caller: Life) -> TaskRun:
        return TaskRun(
            self.name,
            parent=caller,
            author=self,
            log_prints=self.log_prints,
            retries=self.options.retries,
        )

    def _function(self, *, persists: bool | None) -> Callable[..., Any]:
        """Return what its runs call, given whether their flow has results kept."""
        policy = self.caching.policy(persists=persists)
        return self.fn if policy is NO_CACHE else cached(self, policy)

    def _plan(self, task_run: TaskRun, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
        fn: Any = self.fn
        persists = task_run.flow_run.options.persist_result
        if persists or self._policy is not NO_CACHE:
            fn = self._function(persists=persists)

        def body() -> Any:
            __tracebackhide__ = True
            return fn(*map(resolve, args), **{key: resolve(kwargs[key]) for key in kwargs})

        return Plan(
            body if args or kwargs else fn,
            delay=self.options.retry_delay,
            condition=self.options.retry_condition_fn,
            timeout_seconds=self.options.timeout_seconds,
        )


def _column(value: Any) -> Sequence[Any] | None:
    if isinstance(value, Unmapped | str | bytes | Future | State) or not hasattr(value, "__iter__"):
        return None
    return value if isinstance(value, Sequence) else list(value)


def _whole(value: Any) -> Any:
    return value.value if isinstance(value, Unmapped) else value


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a task: a step of a flow with a state, logs and retries of its own.

    Args:
        fn: the function, sync or async.
        name: the task's name; the function's by default.
        tags: words to find its runs by.
        retries: how many attempts may follow a failed one. Default 0, as in Prefect.
        retry_delay_seconds: how long to wait before each: one number, one for each
            attempt, or a function that is given `retries` and returns them, such as
            ``exponential_backoff(backoff_factor=1)`` makes.
        retry_jitter_factor: how much a delay is left to chance, so that what failed
            together is not tried again together: it is up to 1 + this times as long,
            and on average as long as without.
        retry_condition_fn: is given the task, its run and the FAILED state, and says
            whether to try again; sync or async. If it fails there is no other attempt.
        timeout_seconds: when an attempt has failed for taking too long.
        cache_policy: what makes two runs of it the same, one or more of
            `jupyter_flows.cache_policies`: then the result of the first is kept, and is
            the result of the second, which is COMPLETED under the name Cached.
        cache_key_fn: the same as a function: it is given the context, with ``task``
            and ``task_run``, and the parameters, and returns a key, or None for a run
            that is not to be cached; see `task_input_hash`.
        cache_expiration: for how long a result is kept; by default until nobody has
            asked for it in 30 days.
        refresh_cache: whether to run it all the same, and keep the new result.
        persist_result: whether results are kept; True without a policy keeps them for
            the same inputs and code within the flow run. By default they are if there
            is a policy, or the flow says so.
        log_prints: whether prints become log lines; the flow's choice by default.
        on_running, on_completion, on_failure, on_cancellation: lists of functions that
            are called when an attempt of a task run begins, and when it ends like this,
            with the task, the task run and its state; sync or async. More are added by
            decorators such as ``@my_task.on_failure``. They are called where the task
            runs; whoever waits for it waits for them, for 30 s each at most.
    """
    if fn is None:
        return lambda fn: Task(fn, **options)
    return Task(fn, **options)

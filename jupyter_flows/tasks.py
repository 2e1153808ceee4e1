"""`@task`: a step of a flow, with a state, logs and retries of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.admission import Need, limits_tags, needs_of
from jupyter_flows.engine.current import current
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.limits import Concurrency, as_limits
from jupyter_flows.engine.loops import hold_between_awaits
from jupyter_flows.engine.options import Options
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


class Task(Generic[P, R]):
    """A function whose calls in a flow are task runs. Made by `@task`."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None = None,
        tags: Iterable[str] = (),
        retries: int = 0,
        retry_delay_seconds: float | Sequence[float] | Callable[[int], Sequence[float]] = 0.0,
        timeout_seconds: float | None = None,
        log_prints: bool | None = None,
        concurrency: Concurrency | int | Sequence[Concurrency | int] | None = None,
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
            timeout_seconds=timeout_seconds,
            concurrency=as_limits(concurrency),
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
        run_sync(task_run, self._plan(args, kwargs))
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
        plan = self._plan(args, kwargs)
        await run_async(task_run, plan.with_body(hold_between_awaits(plan.body, caller.flow_run)))
        return task_run.state if return_state else reraise(task_run)

    def _call_alone(self, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True
        from jupyter_flows.flows import Flow

        alone = Flow(
            self.fn,
            name=self.name,
            retries=self.options.retries,
            retry_delay_seconds=self.options.retry_delay_seconds,
            timeout_seconds=self.options.timeout_seconds,
            log_prints=self.log_prints,
            concurrency=self.options.concurrency,
            validate_parameters=False,
        )
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
        return submit(self._make_run(caller), self._plan(args, kwargs), is_async=self.isasync)

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
            "timeout_seconds": self.options.timeout_seconds,
            "concurrency": self.options.concurrency,
            "log_prints": self.log_prints,
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
            log_prints=self.log_prints,
            retries=self.options.retries,
        )

    def _plan(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan:
        fn: Any = self.fn

        def body() -> Any:
            __tracebackhide__ = True
            return fn(*map(resolve, args), **{key: resolve(kwargs[key]) for key in kwargs})

        return Plan(
            body if args or kwargs else fn,
            delay=self.options.retry_delay,
            timeout_seconds=self.options.timeout_seconds,
            needs=self._needs(args, kwargs),
        )

    def _needs(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[], list[Need]] | None:
        """Return what tells the slots that a run needs, if it needs any.

        It waits for what the task is given first: a slot is not held while waiting for
        another task, which may need the same.
        """
        limits = self.options.concurrency
        if not limits and not (self.tags and limits_tags()):
            return None

        def needs() -> list[Need]:
            given = [resolve(value) for value in args]
            named = {key: resolve(value) for key, value in kwargs.items()}

            def parameters() -> dict[str, Any]:
                bound = inspect.signature(self.fn).bind(*given, **named)
                bound.apply_defaults()
                return dict(bound.arguments)

            return needs_of("task", self.name, limits, self.tags, parameters)

        return needs


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
            attempt, or a function that is given `retries` and returns them.
        timeout_seconds: when an attempt has failed for taking too long.
        log_prints: whether prints become log lines; the flow's choice by default.
        concurrency: how many runs of it may be active at once in this kernel, whatever
            flows they belong to: a number, a `Concurrency`, or a list of them. Default:
            any number.
    """
    if fn is None:
        return lambda fn: Task(fn, **options)
    return Task(fn, **options)

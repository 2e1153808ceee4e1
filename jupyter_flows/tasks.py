"""`@task`: a step of a flow, with a state, logs and retries of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import cached_property, partial, update_wrapper
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, overload

from jupyter_flows.annotations import Annotation, unmapped
from jupyter_flows.cache_policies import NO_CACHE, CachePolicy
from jupyter_flows.cache_policies import task_input_hash as task_input_hash
from jupyter_flows.caching import CacheKeyFn, Caching, cached
from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.admission import limits_tags, needs_of
from jupyter_flows.engine.current import current, current_tags
from jupyter_flows.engine.generators import (
    collected,
    collected_async,
    run_generator,
    run_generator_async,
)
from jupyter_flows.engine.hooks import Hook, Hooks
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.limits import Concurrency, as_limits
from jupyter_flows.engine.loops import hold_between_awaits
from jupyter_flows.engine.options import (
    Options,
    RetryCondition,
    RetryDelay,
    refuse_unknown,
    shows_options_of,
)
from jupyter_flows.engine.options import exponential_backoff as exponential_backoff
from jupyter_flows.engine.prerequisites import Prerequisites
from jupyter_flows.engine.runner import Plan, reraise, run_async, run_sync
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.stacks import need_room
from jupyter_flows.engine.task_runs import TaskRun
from jupyter_flows.errors import MappingLengthMismatch, MappingMissingIterable, NotInARun
from jupyter_flows.futures import Future, FutureList, submit
from jupyter_flows.inputs import (
    Inputs,
    are_plain,
    inputs_of,
    resolve,
    upstream,
    upstream_of_mapped,
    upstream_of_plain,
)
from jupyter_flows.methods import Decorated, function_of, rewrapped
from jupyter_flows.names import RunName, check_name, check_run_name, make_run_name
from jupyter_flows.parameters import (
    Parameters,
    is_async,
    is_generator,
    refuse_reserved,
    refuse_state_of_generator,
    taken_out,
)
from jupyter_flows.states import State, StateType
from jupyter_flows.tagging import checked_tags

P = ParamSpec("P")
R = TypeVar("R")


class Task(Decorated, Generic[P, R]):
    """A function whose calls in a flow are task runs. Made by `@task`."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        version: str | None = None,
        task_run_name: RunName | None = None,
        tags: Iterable[str] | None = None,
        retries: int | None = None,
        retry_delay_seconds: RetryDelay | None = None,
        retry_jitter_factor: float | None = None,
        retry_condition_fn: RetryCondition | None = None,
        timeout_seconds: float | None = None,
        cache_policy: CachePolicy | None = None,
        cache_key_fn: CacheKeyFn | None = None,
        cache_expiration: timedelta | None = None,
        refresh_cache: bool | None = None,
        persist_result: bool | None = None,
        log_prints: bool | None = None,
        concurrency: Concurrency | int | Sequence[Concurrency | int] | None = None,
        on_running: Iterable[Hook] | None = None,
        on_completion: Iterable[Hook] | None = None,
        on_failure: Iterable[Hook] | None = None,
        on_cancellation: Iterable[Hook] | None = None,
    ) -> None:
        fn, self._method_kind = function_of(fn)
        if not callable(fn):
            raise TypeError(f"@task decorates a function, not {type(fn).__name__}.")
        refuse_reserved(fn, "task")
        check_name(name)
        check_run_name(task_run_name, "task_run_name", fn)
        update_wrapper(cast(Any, self), fn)
        self.fn = fn
        self.name = name or str(getattr(fn, "__name__", type(fn).__name__))
        self.description = description or inspect.getdoc(fn)
        self.version = version
        self.task_run_name = task_run_name
        self.tags = checked_tags(tags or ())
        self.isasync = is_async(fn)
        self.isgenerator = is_generator(fn)
        self.log_prints = log_prints
        self.options = Options(
            retries=0 if retries is None else retries,
            retry_delay_seconds=0.0 if retry_delay_seconds is None else retry_delay_seconds,
            retry_jitter_factor=retry_jitter_factor,
            retry_condition_fn=retry_condition_fn,
            timeout_seconds=timeout_seconds,
            concurrency=as_limits(concurrency, fn),
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

    @cached_property
    def _parameters(self) -> Parameters:
        return Parameters(self.fn, self.name, validate=False, kind="Task")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task here and now; in a run, as a task run of it.

        A generator task gives a generator: the task run begins when the first value is
        asked for, and ends when there are no more or the generator is closed.

        Every call takes, beside the function's parameters:

            return_state: return the final state, and raise nothing.
            wait_for: futures, states or runs that must have completed before.

        Raises:
            ParameterError: it does not take these parameters; nothing was run.
            UpstreamTaskError: what it waits for has failed, so it was not run.
            CancelledRun: it was cancelled.
            Exception: whatever the task raised.
        """
        __tracebackhide__ = True
        caller = current.get()
        if caller is None:
            return cast(R, self._call_alone(args, kwargs))
        return_state, wait_for = taken_out(kwargs) if kwargs else (False, None)
        if self.isgenerator:
            return cast(R, self._generate(caller, args, kwargs, return_state, wait_for))
        if self.isasync:
            return cast(R, self._call_async(caller, args, kwargs, return_state, wait_for))
        if caller.pending:
            checkpoints.pass_by()
        task_run, plan = self._make_run(caller, args, kwargs, wait_for)
        run_sync(task_run, plan)
        return _outcome(task_run, return_state)  # type: ignore[no-any-return]

    async def _call_async(
        self,
        caller: Life,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        return_state: bool,
        wait_for: Any,
    ) -> Any:
        __tracebackhide__ = True
        task_run, plan = self._make_run(caller, args, kwargs, wait_for)
        await run_async(task_run, plan.with_body(hold_between_awaits(plan.body, caller.flow_run)))
        return _outcome(task_run, return_state)

    def _generate(
        self,
        caller: Life,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        return_state: bool,
        wait_for: Any,
    ) -> Any:
        refuse_state_of_generator(return_state, "Task", self.name)
        self._parameters.check(args, kwargs)

        def make() -> tuple[TaskRun, Plan]:
            if caller.decided:
                raise NotInARun(f"Task {self.name!r} gives values only while its caller runs.")
            return self._make_run(caller, args, kwargs, wait_for)

        return run_generator_async(make) if self.isasync else run_generator(make)

    def _call_alone(self, args: Any, kwargs: Any) -> Any:
        __tracebackhide__ = True
        from jupyter_flows.flows import Flow

        alone = Flow(
            self._function(persists=None),
            name=self.name,
            log_prints=self.log_prints,
            flow_run_name=self.task_run_name,
            tags=self.tags,
            validate_parameters=False,
            **self.options.chosen(),
        )
        alone.author, alone.hooks = self, self.hooks
        vars(alone)["_parameters"] = self._parameters  # which call it a task where they complain
        return alone(*args, **kwargs)

    @overload
    def submit(self, *args: Any, return_state: Literal[True], **kwargs: Any) -> State: ...
    @overload
    def submit(self, *args: Any, **kwargs: Any) -> Future[R]: ...
    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task on a thread of its own and return its result to come, a `Future`.

        It begins when the futures among its arguments, and those of `wait_for`, have
        completed. With ``return_state=True`` it is waited for, and its state returned.
        The result of a generator task is the list of its values.

        Raises:
            NotInARun: there is no run whose task it could be.
            ParameterError: it does not take these parameters; nothing was submitted.
        """
        caller = self._caller_that_submits()
        return_state, wait_for = taken_out(kwargs) if kwargs else (False, None)
        future = self._submit(caller, args, kwargs, wait_for)
        return _state_of(future) if return_state else future

    @overload
    def map(self, *args: Any, return_state: Literal[True], **kwargs: Any) -> list[State]: ...
    @overload
    def map(self, *args: Any, **kwargs: Any) -> FutureList[R]: ...
    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Submit the task once for each element of its arguments; return a `FutureList`.

        Arguments that are iterable are taken element by element, side by side; a
        future, once it has completed, as its result. Texts, and what is marked
        `unmapped`, are given whole to every task. `return_state` and `wait_for` are
        as for `submit`.

        Raises:
            MappingLengthMismatch: the arguments are of different lengths.
            MappingMissingIterable: none of them is iterable.
            UpstreamTaskError: a future among the arguments has failed.
        """
        caller = self._caller_that_submits()
        return_state, wait_for = taken_out(kwargs)
        given = (*args, *kwargs.values())
        mapped = upstream_of_mapped(caller.flow_run, given)
        values = [_waited_for(value) for value in given]
        columns = [_column(value) for value in values]
        lengths = {len(column) for column in columns if column is not None}
        if not lengths:
            raise MappingMissingIterable(
                f"Task {self.name!r} maps over arguments of one length, and none of these can be "
                "iterated over."
            )
        if len(lengths) > 1:
            found = ", ".join(map(str, sorted(lengths)))
            raise MappingLengthMismatch(
                f"Task {self.name!r} maps over arguments of one length, not {found}."
            )
        futures: FutureList[R] = FutureList()
        for i in range(lengths.pop()):
            row = [
                value if column is None else _marked_as(value, column[i])
                for value, column in zip(values, columns, strict=True)
            ]
            named = dict(zip(kwargs, row[len(args) :], strict=True))
            future = self._submit(caller, tuple(row[: len(args)]), named, wait_for, mapped)
            futures.append(future)
        if return_state:
            return [_state_of(future) for future in futures]
        return futures

    def _caller_that_submits(self) -> Life:
        caller = current.get()
        if caller is None:
            raise NotInARun(
                f"Task {self.name!r} can be submitted only inside a flow; call it directly instead."
            )
        if caller.pending:
            checkpoints.pass_by()
        return caller

    def _submit(
        self,
        caller: Life,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Any,
        mapped: frozenset[int] = frozenset(),
    ) -> Future[R]:
        need_room()
        collects: Callable[..., Any] | None = None
        if self.isgenerator:
            collects = collected_async if self.isasync else collected
        task_run, plan = self._make_run(caller, args, kwargs, wait_for, collects)
        if not mapped.issubset(task_run.upstream):
            task_run.upstream = tuple(sorted(mapped.union(task_run.upstream)))
        return submit(task_run, plan, is_async=self.isasync)

    def with_options(self, **options: Any) -> Task[P, R]:
        """Return the same task with other options, named as in `@task`."""
        refuse_unknown(Task, options)
        kept: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "version": self.version,
            "task_run_name": self.task_run_name,
            "tags": self.tags,
            "log_prints": self.log_prints,
            **self.options.chosen(),
            **self.caching.chosen(),
            **self.hooks.chosen(),
        }
        return Task(rewrapped(self.fn, self._method_kind), **(kept | options))

    def _make_run(
        self,
        caller: Life,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Any,
        collects: Callable[[Callable[..., Any]], Any] | None = None,
    ) -> tuple[TaskRun, Plan]:
        """Make a task run that is known but not begun, and what it is to run.

        Args:
            caller: whose code calls the task.
            args: its arguments.
            kwargs: its arguments by name.
            wait_for: what is to have completed before.
            collects: calls a generator function whose values nobody takes one by one.
        """
        if (len(args), *kwargs) not in self._parameters.shapes:
            self._parameters.check(args, kwargs)
        flow_run = caller.flow_run
        fn = function = self._function_in(flow_run)
        inputs: Inputs | None = None
        depends: tuple[int, ...] = ()
        if args or kwargs or wait_for is not None:
            fn = partial(fn, *args, **kwargs)
            values = (*args, *kwargs.values(), wait_for)
            if are_plain(values):
                depends = upstream_of_plain(flow_run, values)
            else:
                inputs = inputs_of(args, kwargs, wait_for)
                depends = upstream(flow_run, values, inputs.sources if inputs else ())
        tags = current_tags.get()
        task_run = TaskRun(
            self.name,
            parent=caller,
            author=self,
            log_prints=self.log_prints,
            retries=self.options.retries,
            tags=self.tags | tags if tags else self.tags,
            upstream=depends,
        )
        task_run.call = fn
        limits = self.options.concurrency
        plan = Plan(
            fn,
            delay=self.options.retry_delay,
            condition=self.options.retry_condition_fn,
            timeout_seconds=self.options.timeout_seconds,
        )
        if limits or (task_run.tags and limits_tags()):
            plan.needs = lambda: needs_of(
                "task", self.name, limits, task_run.tags, lambda: dict(task_run.parameters)
            )
        if inputs is not None or self.task_run_name is not None:
            self._prepare(task_run, plan, function, inputs)
        if collects is not None:
            plan.body = lambda: collects(cast(Any, task_run.call))
        return task_run, plan

    def _function_in(self, flow_run: FlowRun) -> Callable[..., Any]:
        """Return what its runs in a flow run call."""
        persists = flow_run.options.persist_result
        if not persists and self._policy is NO_CACHE:
            return self.fn
        return self._function(persists=persists)

    def _function(self, *, persists: bool | None) -> Callable[..., Any]:
        """Return what its runs call, given whether their flow has results kept."""
        policy = self.caching.policy(persists=persists)
        return self.fn if policy is NO_CACHE else cached(self, policy)

    def _prepare(
        self, task_run: TaskRun, plan: Plan, function: Callable[..., Any], inputs: Inputs | None
    ) -> None:
        """See to it that its inputs are there, and its name, before it begins."""

        fn = plan.body

        def prepare() -> State | None:
            if inputs is not None:
                state = inputs.not_ready(task_run.name)
                if state is not None:
                    return state
                args, kwargs = inputs.resolved()
                task_run.call = partial(function, *args, **kwargs)
                if plan.body is fn:
                    plan.body = task_run.call
            if self.task_run_name is not None:
                task_run.name = make_run_name(
                    self.task_run_name, "task_run_name", task_run.parameters
                )
            return None

        plan.prerequisites = Prerequisites(inputs.lives if inputs is not None else (), prepare)
        task_run.show()


def _outcome(task_run: TaskRun, return_state: bool) -> Any:
    """Return what a task that was waited for returned, or its state, or raise what it raised."""
    __tracebackhide__ = True
    state = task_run.state
    if return_state:
        task_run.flow_run.note_result(task_run.number, state)
        return state
    if state.type is not StateType.COMPLETED:
        return reraise(task_run)
    if state.data is not None:
        task_run.flow_run.note_result(task_run.number, state.data)
    return state.data


def _state_of(future: Future[Any]) -> Any:
    future.wait()
    future.task_run.flow_run.note_result(future.task_run.number, future.state)
    return future.state


def _waited_for(value: Any) -> Any:
    """Return the result of a future, which is mapped over."""
    inner = value.unwrap() if isinstance(value, Annotation) else value
    if not isinstance(inner, Future | State) or isinstance(value, unmapped):
        return value
    inputs = inputs_of((value,), {})
    assert inputs is not None
    if isinstance(inner, Future):
        inner.wait()
    state = inputs.not_ready("a map")
    if state is not None:
        return state.result()
    result = resolve(value)
    return value.rewrap(result) if isinstance(value, Annotation) else result


def _column(value: Any) -> Sequence[Any] | None:
    """Return what is taken element by element, or None for what is given whole."""
    if isinstance(value, unmapped):
        return None
    if isinstance(value, Annotation):
        value = value.unwrap()
    if isinstance(value, str | bytes | Future | State | unmapped) or not hasattr(value, "__iter__"):
        return None
    return value if isinstance(value, Sequence) else list(value)


def _marked_as(value: Any, part: Any) -> Any:
    return value.rewrap(part) if isinstance(value, Annotation) else part


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
@shows_options_of(Task)
def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a task: a step of a flow with a state, logs and retries of its own.

    Args:
        fn: the function, sync or async.
        name: the task's name; the function's by default.
        description: what it does; the function's docstring by default.
        version: which version of it this is, for the record.
        task_run_name: the name of its runs: a template of its parameters such as
            ``"extract-{day}"``, or a function that returns it, and takes nothing or
            ``parameters``. By default the task's name and a number.
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
        concurrency: how many runs of it may be active at once in this kernel, whatever
            flows they belong to: a number, a `Concurrency`, or a list of them. Default:
            any number.
        on_running, on_completion, on_failure, on_cancellation: lists of functions that
            are called when an attempt of a task run begins, and when it ends like this,
            with the task, the task run and its state; sync or async. More are added by
            decorators such as ``@my_task.on_failure``. They are called where the task
            runs; whoever waits for it waits for them, for 30 s each at most.
    """
    refuse_unknown(Task, options)
    if fn is None:
        return lambda fn: Task(fn, **options)
    return Task(fn, **options)

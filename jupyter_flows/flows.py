"""`@flow`: a function that runs in the background or the foreground, and its view."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from jupyter_flows.engine import capture, checkpoints, ending, registry
from jupyter_flows.engine.admission import Need, admit, limits_tags, need_of_kernel, needs_of
from jupyter_flows.engine.console import echo_for
from jupyter_flows.engine.current import current, current_tags
from jupyter_flows.engine.executors import (
    AwaitedExecutor,
    Executor,
    InlineExecutor,
    for_background,
)
from jupyter_flows.engine.generators import (
    collected,
    collected_async,
    run_generator,
    run_generator_async,
)
from jupyter_flows.engine.hooks import H, Hook, Hooks
from jupyter_flows.engine.limits import Concurrency, as_limits
from jupyter_flows.engine.options import (
    FlowOptions,
    RetryCondition,
    RetryDelay,
    TaskRunner,
    checked_metadata,
    refuse_unknown,
    shows_options_of,
)
from jupyter_flows.engine.outcomes import state_of_error
from jupyter_flows.engine.prerequisites import Prerequisites
from jupyter_flows.engine.runner import Plan, end, reraise
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.stacks import need_room
from jupyter_flows.errors import ConcurrencyKeyError, RunNameError
from jupyter_flows.inputs import Inputs, inputs_of, upstream
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
from jupyter_flows.states import Crashed, Failed, State, is_wait
from jupyter_flows.tagging import checked_tags

if TYPE_CHECKING:
    from jupyter_flows.engine.processes.pickling import Portable

P = ParamSpec("P")
R = TypeVar("R")


class Flow(Decorated, Generic[P, R]):
    """A function whose calls are runs. Made by `@flow`."""

    author: Any = None
    """What its runs are of, if not of it: a task that is called outside of runs."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        version: str | None = None,
        flow_run_name: RunName | None = None,
        on: str | None = None,
        tags: Iterable[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        retries: int | None = None,
        retry_delay_seconds: RetryDelay | None = None,
        retry_jitter_factor: float | None = None,
        retry_condition_fn: RetryCondition | None = None,
        timeout_seconds: float | None = None,
        persist_result: bool | None = None,
        log_prints: bool | None = None,
        task_runner: TaskRunner | None = None,
        validate_parameters: bool = True,
        cancel_grace_seconds: float = 1.0,
        kill_grace_seconds: float = 30.0,
        concurrency: Concurrency | int | Sequence[Concurrency | int] | None = None,
        on_running: Iterable[Hook] | None = None,
        on_completion: Iterable[Hook] | None = None,
        on_failure: Iterable[Hook] | None = None,
        on_cancellation: Iterable[Hook] | None = None,
        on_crashed: Iterable[Hook] | None = None,
    ) -> None:
        fn, self._method_kind = function_of(fn)
        if not callable(fn):
            raise TypeError(f"@flow decorates a function, not {type(fn).__name__}.")
        refuse_reserved(fn, "flow")
        check_name(name)
        check_run_name(flow_run_name, "flow_run_name", fn)
        update_wrapper(cast(Any, self), fn)
        self.fn = fn
        self.name = name or getattr(fn, "__name__", type(fn).__name__).replace("_", "-")
        self.description = description or inspect.getdoc(fn)
        self.version = version
        self.flow_run_name = flow_run_name
        self.on = on
        self.tags = checked_tags(tags or ())
        self.metadata = checked_metadata(metadata)
        self.isasync = is_async(fn)
        self.isgenerator = is_generator(fn)
        self.log_prints = log_prints
        self.options = FlowOptions(
            retries=0 if retries is None else retries,
            retry_delay_seconds=0.0 if retry_delay_seconds is None else retry_delay_seconds,
            retry_jitter_factor=retry_jitter_factor,
            retry_condition_fn=retry_condition_fn,
            timeout_seconds=timeout_seconds,
            task_runner=task_runner,
            persist_result=persist_result,
            cancel_grace_seconds=cancel_grace_seconds,
            kill_grace_seconds=kill_grace_seconds,
            concurrency=as_limits(concurrency, fn),
        )
        self.hooks = Hooks(
            on_running=on_running,
            on_completion=on_completion,
            on_failure=on_failure,
            on_cancellation=on_cancellation,
            on_crashed=on_crashed,
        )
        self._validate = validate_parameters
        self._parameters  # noqa: B018 - says what is wrong with them, where they are written
        if on is not None:
            for_background(on, is_async=self.isasync)

    @cached_property
    def _parameters(self) -> Parameters:
        return Parameters(self.fn, self.name, validate=self._validate)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here and now, and return its result; an async flow is to be awaited.

        Every call takes, beside the function's parameters:

            return_state: return the final state, and raise nothing.
            wait_for: futures, states or runs that must have completed before.

        Raises:
            ParameterError: it does not take these parameters; nothing was run.
            UpstreamTaskError: what it waits for has failed, so it was not run.
            CancelledRun: the run was cancelled.
            Exception: whatever the flow raised.
        """
        __tracebackhide__ = True
        return_state, wait_for = taken_out(kwargs)
        call = self._bind(args, kwargs, wait_for)
        if self.isgenerator:
            return cast(R, self._generate(call, return_state))
        if self.isasync:
            return cast(R, self._call_async(call, return_state))
        checkpoints.pass_by()
        executor = InlineExecutor()
        run = self.make_run(executor, call, foreground=True)
        executor.launch(run, self._plan(run, call, needs=self._needs(run, call)))
        return cast(R, _outcome(run, return_state))

    def _generate(self, call: _Call, return_state: bool) -> Any:
        refuse_state_of_generator(return_state, "Flow", self.name)

        def make() -> tuple[FlowRun, Plan]:
            executor = AwaitedExecutor() if self.isasync else InlineExecutor()
            run = self.make_run(executor, call, foreground=True)
            return run, self._plan(run, call, needs=self._needs(run, call))

        return run_generator_async(make) if self.isasync else run_generator(make)

    async def _call_async(self, call: _Call, return_state: bool) -> Any:
        __tracebackhide__ = True
        executor = AwaitedExecutor()
        run = self.make_run(executor, call, foreground=True)
        await executor.run(run, self._plan(run, call, needs=self._needs(run, call)))
        return _outcome(run, return_state)

    def start(self, *args: P.args, **kwargs: P.kwargs) -> FlowRun:
        """Run it in the background, on the worker that `on` names; returns at once.

        It begins when the futures among its arguments, and those of `wait_for`, have
        completed; until then it is PENDING. The result of a generator flow is the list
        of its values.

        Raises:
            ParameterError: it does not take these parameters; nothing was started.
        """
        __tracebackhide__ = True
        _, wait_for = taken_out(kwargs)
        return self._start(self._bind(args, kwargs, wait_for))

    def _start(self, call: _Call | None, replays: FlowRun | None = None) -> FlowRun:
        __tracebackhide__ = True
        executor = for_background(self.on, is_async=self.isasync)
        run = self.make_run(executor, call, replays=replays)
        self.launch(run, call)
        return run

    def make_run(
        self,
        executor: Executor,
        call: _Call | None = None,
        *,
        foreground: bool = False,
        **details: Any,
    ) -> FlowRun:
        """Make a run that is known but not begun."""
        need_room()
        capture.install()
        caller = current.get()
        log_prints = self.log_prints
        if log_prints is None:  # a subflow does as its caller, as in Prefect
            log_prints = not foreground if caller is None else caller.captures
        persist_result = self.options.persist_result
        if persist_result is None and caller is not None:
            persist_result = caller.flow_run.options.persist_result
        parameters = {} if call is None else call.parameters
        naming, is_bound = self.flow_run_name, call is None or call.inputs is None
        name: str | None = None
        if isinstance(naming, str) and is_bound:
            name = make_run_name(naming, "flow_run_name", parameters)
        run = FlowRun(
            flow_name=self.name,
            executor=executor,
            options=replace(self.options, log_prints=log_prints, persist_result=persist_result),
            author=self.author or self,
            name=name,
            parameters=parameters,
            tags=self.tags | current_tags.get(),
            metadata=self.metadata,
            parent=caller,
            upstream=() if call is None else call.upstream,
            **details,
        )
        run.again = lambda ended: self._start(call, ended)
        if foreground:
            run.log.echo = echo_for(run)
        registry.add(run)
        if callable(naming) and is_bound:
            self._name(run)
        return run

    def _name(self, run: FlowRun) -> None:
        """Name a run whose parameters are known; with a function, one that is asked in the run."""
        token = current.set(run)
        try:
            assert self.flow_run_name is not None
            run.rename(make_run_name(self.flow_run_name, "flow_run_name", run.parameters))
        except RunNameError as error:
            end(run, Failed(str(error), data=error))
            raise
        finally:
            current.reset(token)

    def launch(
        self,
        run: FlowRun,
        call: _Call | None = None,
        on_completed: Callable[[Any], None] | None = None,
        portable: Callable[[], Portable] | None = None,
        after_waiting: Callable[[], None] | None = None,
    ) -> None:
        """Start the worker of a run that `make_run` made, when there is a slot for it.

        Args:
            run: the run.
            call: what the flow is called with.
            on_completed: called on the worker with the result, just before the run
                is COMPLETED; what it raises makes the run FAILED.
            portable: makes the body for another process; by default the call as it is.
            after_waiting: called before the worker is started if the run had to wait.
        """
        ending.prepare()

        def start(begin: Callable[[], None]) -> None:
            try:
                begin()
            except BaseException as error:
                if not run.attempt:  # else it has, and whoever started it was interrupted
                    end(run, Crashed(f"Its worker could not be started: {error}", data=error))
                raise

        start(run.executor.prepare)
        needs = self._needs(run, call, kernel=run.parent is None)
        if call is not None and call.inputs is not None:  # its groups are known when they are
            plan = self._plan(run, call, on_completed, portable, needs)
            start(lambda: run.executor.launch(run, plan))
            return
        plan = self._plan(run, call, on_completed, portable)
        try:
            slots = [] if needs is None else needs()
        except BaseException as error:
            end(run, state_of_error(run, error))
            if isinstance(error, ConcurrencyKeyError):
                return
            raise

        def begin() -> None:
            if after_waiting is not None and any(map(is_wait, run.states)):
                after_waiting()
            run.executor.launch(run, plan)

        if slots:
            run.describe_parameters()  # one that waits is told by them from others of its flow
        admit(run, slots, lambda: start(begin))

    def _needs(
        self, run: FlowRun, call: _Call | None, *, kernel: bool = False
    ) -> Callable[[], list[Need]] | None:
        """Return what tells the slots that a run needs, if it needs any.

        Args:
            run: the run.
            call: what the flow is called with.
            kernel: whether it needs one of the kernel too, where that is limited.
        """
        limits = self.options.concurrency
        of_kernel = need_of_kernel() if kernel else []
        if not limits and not of_kernel and not (run.tags and limits_tags()):
            return None

        def parameters() -> dict[str, Any]:
            return {} if call is None else dict(call.parameters)

        return lambda: [
            *needs_of("flow", self.name, limits, run.tags, parameters),
            *of_kernel,
        ]

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any) -> _Call:
        __tracebackhide__ = True
        caller = current.get()
        if not args and not kwargs and wait_for is None:
            return _Call(self._parameters.bind(args, kwargs))
        inputs = inputs_of(args, kwargs, wait_for)
        depends: tuple[int, ...] = ()
        if caller is not None:
            values = (*args, *kwargs.values(), wait_for)
            depends = upstream(caller.flow_run, values, inputs.sources if inputs else ())
        arguments = self._parameters.bind(args, kwargs) if inputs is None else None
        return _Call(arguments, inputs, depends)

    def _prerequisites(self, run: FlowRun, call: _Call) -> Prerequisites | None:
        """Return what a run needs whose parameters are to come."""
        inputs = call.inputs
        if inputs is None:
            return None

        def prepare() -> State | None:
            state = inputs.not_ready(run.name)
            if state is None:
                call.arguments = self._parameters.bind(*inputs.resolved())
                run.parameters = dict(call.parameters)
                if self.flow_run_name is not None:
                    self._name(run)
            return state

        return Prerequisites(inputs.lives, prepare)

    def _plan(
        self,
        run: FlowRun,
        call: _Call | None,
        on_completed: Callable[[Any], None] | None = None,
        portable: Callable[[], Portable] | None = None,
        needs: Callable[[], list[Need]] | None = None,
    ) -> Plan:
        fn: Any = self.fn
        collects: Callable[..., Any] | None = None
        if self.isgenerator and not run.executor.in_callers_thread:
            collects = collected_async if self.isasync else collected

        def body() -> Any:
            __tracebackhide__ = True
            arguments = None if call is None else call.arguments
            if arguments is None or not arguments.arguments:
                return fn() if collects is None else collects(fn)
            run.describe_parameters()
            if collects is not None:
                return collects(partial(fn, *arguments.args, **arguments.kwargs))
            return fn(*arguments.args, **arguments.kwargs)

        def portable_call() -> Portable:
            from jupyter_flows.engine.processes.pickling import Call

            run.describe_parameters()
            arguments = None if call is None else call.arguments
            args, kwargs = ((), {}) if arguments is None else (arguments.args, arguments.kwargs)
            if collects is not None:
                fn_there, args, kwargs = collects, (partial(fn, *args, **kwargs),), {}
            else:
                fn_there = fn
            return Call(fn_there, args, kwargs, is_async=self.isasync, names=run.parameters)

        return Plan(
            body,
            delay=run.options.retry_delay,
            condition=run.options.retry_condition_fn,
            timeout_seconds=run.options.timeout_seconds,
            on_completed=on_completed,
            portable=portable or portable_call,
            prerequisites=None if call is None else self._prerequisites(run, call),
            needs=needs,
        )

    def with_options(self, **options: Any) -> Flow[P, R]:
        """Return the same flow with other options, named as in `@flow`."""
        refuse_unknown(Flow, options)
        kept: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "version": self.version,
            "flow_run_name": self.flow_run_name,
            "on": self.on,
            "tags": self.tags,
            "metadata": self.metadata,
            "log_prints": self.log_prints,
            "validate_parameters": self._validate,
            **self.options.chosen(),
            **self.hooks.chosen(),
        }
        return Flow(rewrapped(self.fn, self._method_kind), **(kept | options))

    def on_crashed(self, hook: H) -> H:
        """Call a function when a run is CRASHED. A decorator."""
        return self.hooks.add("on_crashed", hook)

    def __repr__(self) -> str:
        return f"<Flow {self.name!r}>"


class _Call:
    """What a flow is called with: bound to its parameters, once what it is given has come."""

    __slots__ = ("arguments", "inputs", "upstream")

    def __init__(
        self,
        arguments: inspect.BoundArguments | None,
        inputs: Inputs | None = None,
        upstream: tuple[int, ...] = (),
    ) -> None:
        self.arguments = arguments
        self.inputs = inputs
        self.upstream = upstream  # the numbers of the task runs that it depends on

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The arguments by name; none as long as they are to come."""
        return {} if self.arguments is None else self.arguments.arguments


def _outcome(run: FlowRun, return_state: bool) -> Any:
    """Return what a run that was waited for returned, or its state, or raise what it raised."""
    __tracebackhide__ = True
    outcome = run.state if return_state else reraise(run)
    run.note_as_subflow(outcome)
    return outcome


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
@shows_options_of(Flow)
def flow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a flow: call it to run it here, ``start`` it to run it in the background.

    Args:
        fn: the function, sync or async.
        name: the flow's name; the function's, with dashes, by default.
        description: what it does; the function's docstring by default.
        version: which version of it this is, for the record.
        flow_run_name: the name of its runs: a template of its parameters such as
            ``"etl-{day}"``, or a function that returns it, and takes nothing or
            ``parameters``. The flow's name by default.
        on: the worker of its background runs: ``thread`` for sync code, ``async``
            (a loop of its own) or ``main`` (the kernel's loop) for async code, or
            ``process`` for both: it can be stopped whatever its code does; what it
            is given and returns is pickled.
        tags: words to find its runs by.
        metadata: texts by name to find its runs by, such as ``{"customer": "42"}``;
            for one run, start ``flow.with_options(metadata=…)``.
        retries: how many attempts may follow a failed one. Default 0, as in Prefect.
        retry_delay_seconds: how long to wait before each: one number, one for each
            attempt, or a function that is given `retries` and returns them, such as
            ``exponential_backoff(backoff_factor=1)`` makes.
        retry_jitter_factor: how much a delay is left to chance, so that what failed
            together is not tried again together: it is up to 1 + this times as long,
            and on average as long as without.
        retry_condition_fn: is given the flow, its run and the FAILED state, and says
            whether to try again; sync or async. If it fails there is no other attempt.
        timeout_seconds: when a run has failed for taking too long; the clock stands
            still while the run is paused.
        persist_result: whether the results of its tasks are kept, so that an attempt after
            a failed one takes those that completed from there; see `task`. By default
            a subflow does as the run that calls it, and other flows keep none.
        log_prints: whether prints become log lines. By default those of background
            runs do, those of foreground calls go where prints go, and a subflow does
            as the run that calls it, as in Prefect.
        task_runner: bounds how many of the tasks that it submits run at once, such as
            ``ThreadPoolTaskRunner(max_workers=4)``. By default all do.
        validate_parameters: whether parameters are converted to their annotations.
        cancel_grace_seconds: how long a cancel waits for a checkpoint or an await,
            until the code is interrupted at a safe line. Default 1.
        kill_grace_seconds: how long it waits until what has not stopped by then is
            stopped by force. Default 30, as in Prefect.
        concurrency: how many runs of it may be active at once in this kernel: a number,
            a `Concurrency` (with groups, and what becomes of a run that finds no slot),
            or a list of them, of each of which a run needs a slot. Default: any number.
        on_running, on_completion, on_failure, on_cancellation, on_crashed: lists of
            functions that are called when an attempt of a run begins, and when a run
            ends like this, with the flow, the run and its state; sync or async. More
            are added by decorators such as ``@my_flow.on_failure``. Whoever waits for
            a run waits for its hooks, for 30 s each at most; what one raises is in
            the run's log.
    """
    refuse_unknown(Flow, options)
    if fn is None:
        return lambda fn: Flow(fn, **options)
    return Flow(fn, **options)

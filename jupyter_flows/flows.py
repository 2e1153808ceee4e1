"""`@flow`: a function that runs in the background or the foreground, and its view."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from jupyter_flows.engine import capture, checkpoints, ending, registry
from jupyter_flows.engine.admission import Need, admit, limits_tags, need_of_kernel, needs_of
from jupyter_flows.engine.console import echo_for
from jupyter_flows.engine.current import current
from jupyter_flows.engine.executors import (
    AwaitedExecutor,
    Executor,
    InlineExecutor,
    for_background,
)
from jupyter_flows.engine.limits import Concurrency, as_limits
from jupyter_flows.engine.options import Options
from jupyter_flows.engine.outcomes import state_of_error
from jupyter_flows.engine.runner import Plan, end, reraise
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.errors import ConcurrencyKeyError
from jupyter_flows.futures import resolve
from jupyter_flows.parameters import Parameters, is_generator
from jupyter_flows.states import Crashed, is_wait

if TYPE_CHECKING:
    from jupyter_flows.engine.processes.pickling import Portable

P = ParamSpec("P")
R = TypeVar("R")


class Flow(Generic[P, R]):
    """A function whose calls are runs. Made by `@flow`."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None = None,
        flow_run_name: str | None = None,
        on: str | None = None,
        tags: Iterable[str] = (),
        retries: int = 0,
        retry_delay_seconds: float | Sequence[float] | Callable[[int], Sequence[float]] = 0.0,
        timeout_seconds: float | None = None,
        log_prints: bool | None = None,
        validate_parameters: bool = True,
        cancel_grace_seconds: float = 1.0,
        kill_grace_seconds: float = 30.0,
        concurrency: Concurrency | int | Sequence[Concurrency | int] | None = None,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"@flow decorates a function, not {type(fn).__name__}.")
        if is_generator(fn):
            raise TypeError(f"@flow does not take generators such as {fn!r}: return a list.")
        update_wrapper(cast(Any, self), fn)
        self.fn = fn
        self.name = name or getattr(fn, "__name__", type(fn).__name__).replace("_", "-")
        self.flow_run_name = flow_run_name
        self.on = on
        self.tags = frozenset(tags)
        self.isasync = inspect.iscoroutinefunction(fn)
        self.log_prints = log_prints
        self.options = Options(
            retries=retries,
            retry_delay_seconds=retry_delay_seconds,
            timeout_seconds=timeout_seconds,
            cancel_grace_seconds=cancel_grace_seconds,
            kill_grace_seconds=kill_grace_seconds,
            concurrency=as_limits(concurrency),
        )
        self._validate = validate_parameters
        self._parameters  # noqa: B018 - says what is wrong with them, where they are written
        if on is not None:
            for_background(on, is_async=self.isasync)

    @cached_property
    def _parameters(self) -> Parameters:
        return Parameters(self.fn, self.name, validate=self._validate)

    def __reduce__(self) -> Any:
        """Travel by name where a module has it, else as its function and options."""
        from jupyter_flows.engine.processes.pickling import find

        name: str = vars(self).get("__qualname__", "")
        if find(self.__module__, name) is self:
            return name
        state = {name: value for name, value in vars(self).items() if name != "_parameters"}
        return object.__new__, (type(self),), state

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here and now, and return its result; an async flow is to be awaited.

        Raises:
            ParameterError: it does not take these parameters; nothing was run.
            CancelledRun: the run was cancelled.
            Exception: whatever the flow raised.
        """
        __tracebackhide__ = True
        return_state = bool(kwargs.pop("return_state", False))
        arguments = self._bind(args, kwargs)
        if self.isasync:
            return cast(R, self._call_async(arguments, return_state))
        checkpoints.pass_by()
        executor = InlineExecutor()
        run = self.make_run(executor, arguments, foreground=True)
        executor.launch(run, self._plan(run, arguments, needs=self._needs(run, arguments)))
        return cast(R, run.state if return_state else reraise(run))

    async def _call_async(self, arguments: inspect.BoundArguments, return_state: bool) -> Any:
        __tracebackhide__ = True
        executor = AwaitedExecutor()
        run = self.make_run(executor, arguments, foreground=True)
        await executor.run(run, self._plan(run, arguments, needs=self._needs(run, arguments)))
        return run.state if return_state else reraise(run)

    def start(self, *args: P.args, **kwargs: P.kwargs) -> FlowRun:
        """Run it in the background, on the worker that `on` names; returns at once.

        Raises:
            ParameterError: it does not take these parameters; nothing was started.
        """
        __tracebackhide__ = True
        arguments = self._bind(args, kwargs)
        run = self.make_run(for_background(self.on, is_async=self.isasync), arguments)
        self.launch(run, arguments)
        return run

    def make_run(
        self,
        executor: Executor,
        arguments: inspect.BoundArguments | None = None,
        *,
        foreground: bool = False,
        **details: Any,
    ) -> FlowRun:
        """Make a run that is known but not begun."""
        capture.install()
        caller = current.get()
        log_prints = self.log_prints
        if log_prints is None:  # a subflow does as its caller, as in Prefect
            log_prints = not foreground if caller is None else caller.captures
        parameters: Mapping[str, Any] = arguments.arguments if arguments is not None else {}
        run = FlowRun(
            flow_name=self.name,
            executor=executor,
            options=replace(self.options, log_prints=log_prints),
            name=self._run_name(parameters),
            parameters=parameters,
            tags=self.tags,
            parent=caller,
            **details,
        )
        if foreground:
            run.log.echo = echo_for(run)
        registry.add(run)
        return run

    def launch(
        self,
        run: FlowRun,
        arguments: inspect.BoundArguments | None = None,
        on_completed: Callable[[Any], None] | None = None,
        portable: Callable[[], Portable] | None = None,
        after_waiting: Callable[[], None] | None = None,
    ) -> None:
        """Start the worker of a run that `make_run` made, when there is a slot for it.

        Args:
            run: the run.
            arguments: what the flow is called with.
            on_completed: called on the worker with the result, just before the run
                is COMPLETED; what it raises makes the run FAILED.
            portable: makes the body for another process; by default the call as it is.
            after_waiting: called before the worker is started if the run had to wait.
        """
        plan = self._plan(run, arguments, on_completed, portable)
        ending.prepare()

        def start(begin: Callable[[], None]) -> None:
            try:
                begin()
            except BaseException as error:
                end(run, Crashed(f"Its worker could not be started: {error}", data=error))
                raise

        start(run.executor.prepare)
        needs = self._needs(run, arguments)
        try:
            slots = [] if needs is None else needs()
        except BaseException as error:
            end(run, state_of_error(run, error))
            if isinstance(error, ConcurrencyKeyError):
                return
            raise
        if run.parent is None:
            slots += need_of_kernel()

        def begin() -> None:
            if after_waiting is not None and any(map(is_wait, run.states)):
                after_waiting()
            run.executor.launch(run, plan)

        admit(run, slots, lambda: start(begin))

    def _needs(
        self, run: FlowRun, arguments: inspect.BoundArguments | None
    ) -> Callable[[], list[Need]] | None:
        """Return what tells the slots that a run needs, if it needs any."""
        limits = self.options.concurrency
        if not limits and not (run.tags and limits_tags()):
            return None
        parameters = {} if arguments is None else dict(arguments.arguments)
        return lambda: needs_of("flow", self.name, limits, run.tags, lambda: parameters)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        __tracebackhide__ = True
        if args or kwargs:
            args = tuple(map(resolve, args))
            kwargs = {key: resolve(value) for key, value in kwargs.items()}
        return self._parameters.bind(args, kwargs)

    def _run_name(self, parameters: Mapping[str, Any]) -> str:
        if self.flow_run_name is None:
            return self.name
        return self.flow_run_name.format(**parameters)

    def _plan(
        self,
        run: FlowRun,
        arguments: inspect.BoundArguments | None,
        on_completed: Callable[[Any], None] | None = None,
        portable: Callable[[], Portable] | None = None,
        needs: Callable[[], list[Need]] | None = None,
    ) -> Plan:
        fn: Any = self.fn

        def body() -> Any:
            __tracebackhide__ = True
            if arguments is None or not arguments.arguments:
                return fn()
            run.describe_parameters()
            return fn(*arguments.args, **arguments.kwargs)

        def call() -> Portable:
            from jupyter_flows.engine.processes.pickling import Call

            run.describe_parameters()
            args, kwargs = ((), {}) if arguments is None else (arguments.args, arguments.kwargs)
            return Call(fn, args, kwargs, is_async=self.isasync, names=run.parameters)

        return Plan(
            body,
            delay=run.options.retry_delay,
            timeout_seconds=run.options.timeout_seconds,
            on_completed=on_completed,
            portable=portable or call,
            needs=needs,
        )

    def with_options(self, **options: Any) -> Flow[P, R]:
        """Return the same flow with other options, named as in `@flow`."""
        kept: dict[str, Any] = {
            "name": self.name,
            "flow_run_name": self.flow_run_name,
            "on": self.on,
            "tags": self.tags,
            "log_prints": self.log_prints,
            "validate_parameters": self._validate,
            **self.options.chosen(),
        }
        return Flow(self.fn, **(kept | options))

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind to an instance, as a method does."""
        if instance is None:
            return self
        bound = self.with_options()
        bound.fn = self.fn.__get__(instance, owner)
        del bound._parameters  # which are made anew, without the first
        return bound

    def __repr__(self) -> str:
        return f"<Flow {self.name!r}>"


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a flow: call it to run it here, ``start`` it to run it in the background.

    Args:
        fn: the function, sync or async.
        name: the flow's name; the function's, with dashes, by default.
        flow_run_name: the name of its runs, a template of its parameters such as
            ``"etl-{day}"``; the flow's name by default.
        on: the worker of its background runs: ``thread`` for sync code, ``async``
            (a loop of its own) or ``main`` (the kernel's loop) for async code, or
            ``process`` for both: it can be stopped whatever its code does; what it
            is given and returns is pickled.
        tags: words to find its runs by.
        retries: how many attempts may follow a failed one. Default 0, as in Prefect.
        retry_delay_seconds: how long to wait before each: one number, one for each
            attempt, or a function that is given `retries` and returns them.
        timeout_seconds: when a run has failed for taking too long; the clock stands
            still while the run is paused.
        log_prints: whether prints become log lines. By default those of background
            runs do, those of foreground calls go where prints go, and a subflow does
            as the run that calls it, as in Prefect.
        validate_parameters: whether parameters are converted to their annotations.
        cancel_grace_seconds: how long a cancel waits for a checkpoint or an await,
            until the code is interrupted at a safe line. Default 1.
        kill_grace_seconds: how long it waits until what has not stopped by then is
            stopped by force. Default 30, as in Prefect.
        concurrency: how many runs of it may be active at once in this kernel: a number,
            a `Concurrency` (with groups, and what becomes of a run that finds no slot),
            or a list of them, of each of which a run needs a slot. Default: any number.
    """
    if fn is None:
        return lambda fn: Flow(fn, **options)
    return Flow(fn, **options)

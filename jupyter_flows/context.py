"""What a run's own code asks of the run that it is in."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from time import time
from typing import Any, TypeVar

from jupyter_flows.engine import checkpoints, registry
from jupyter_flows.engine.asking import wait_for_person, wait_for_person_async
from jupyter_flows.engine.current import called_from_async, current
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.options import is_number
from jupyter_flows.engine.progress import Bar, current_bar
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.task_runs import TaskRun
from jupyter_flows.errors import NotInARun
from jupyter_flows.records import Waiting

T = TypeVar("T")


class RunContext:
    """The run or task run whose code is being run: Hatchet's ``Context``."""

    def __init__(self, life: Life) -> None:
        self._life = life

    @property
    def exit_flag(self) -> bool:
        """Whether it is to stop. Code that has seen it True is taken to have been told."""
        if self._life.cancel_reason is None:
            return False
        self._life.note_delivery()
        return True

    @property
    def is_cancelled(self) -> bool:
        """The same as `exit_flag`."""
        return self.exit_flag

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._life.attempt

    @property
    def tags(self) -> frozenset[str]:
        """The tags of the flow run."""
        return self._life.flow_run.tags

    @property
    def flow_run(self) -> FlowRun:
        """The flow run."""
        return self._life.flow_run

    @property
    def task_run(self) -> TaskRun | None:
        """The task run, if it is one's code that is being run."""
        life = self._life.listed
        return life if isinstance(life, TaskRun) else None

    def cancel(self) -> None:
        """Ask the flow run to stop."""
        self._life.flow_run.cancel()

    async def aio_cancel(self) -> None:
        """Ask the flow run to stop."""
        self.cancel()

    def checkpoint(self) -> None:
        """Let a cancel or a pause take hold here."""
        checkpoints.checkpoint()

    def refresh_timeout(self, increment_by: float | timedelta | None = None) -> None:
        """Give the attempt more time before its timeout. Harmless without one.

        Args:
            increment_by: how much more, in seconds or as a `timedelta`, as in Hatchet;
                None, the default, lets it have all of its time anew.
        """
        seconds = _seconds(increment_by)
        life: Life | None = self._life
        while life is not None and life.timeout is None:
            life = life.caller
        if life is not None and life.timeout is not None:
            life.timeout.refresh(seconds)

    def log(self, message: object) -> None:
        """Write a line into the run's log."""
        get_run_logger().info("%s", message)

    def __repr__(self) -> str:
        return f"<RunContext of {self._life!r}>"


def _seconds(value: float | timedelta | None) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if value is not None and not isinstance(value, int | float):
        raise TypeError(f"increment_by must be seconds or a timedelta, not {value!r}.")
    return value


def current_run() -> RunContext:
    """Return the run whose code is being run.

    Raises:
        NotInARun: no run's code is.
    """
    return RunContext(_owner("current_run()"))


def get_run_context() -> RunContext:
    """Return the run whose code is being run, under Prefect's name."""
    return RunContext(_owner("get_run_context()"))


def _owner(what: str) -> Life:
    owner = current.get()
    if owner is None:
        raise NotInARun(f"{what} can be used only inside a running flow or task.")
    return owner


class _RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Writes into the log of the run that it was made in."""


def get_run_logger() -> logging.LoggerAdapter[logging.Logger]:
    """Return a logger that writes into the log of the flow run or task run.

    Raises:
        NotInARun: no run's code is being run.
    """
    owner = _owner("get_run_logger()")
    is_task = isinstance(owner.listed, TaskRun)
    logger = logging.getLogger(f"jupyter_flows.{'task' if is_task else 'flow'}_runs")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)  # as in Prefect
    return _RunLogger(logger, {"jupyter_flows_source": "task" if is_task else "flow"})


def progress(
    iterable: Iterable[T], *, total: float | None = None, description: str = "progress"
) -> Iterator[T]:
    """Iterate, and show how far it is in the run's view. Each step is a checkpoint.

    Outside of a run it only iterates.

    Args:
        iterable: what to iterate over.
        total: how many steps there will be; `len(iterable)` by default, if it has one.
        description: what the bar is called.
    """
    owner = current.get()
    if total is None:
        total = _length(iterable)
    bar = None if owner is None else owner.flow_run.bars.begin(description, total)
    return _steps(iter(iterable), bar)


def _steps(iterator: Iterator[T], bar: Bar | None) -> Iterator[T]:
    if bar is None:
        for each in iterator:
            checkpoints.pass_by()
            yield each
        return
    outer = current_bar.get()
    current_bar.set(bar)
    try:
        for each in iterator:
            checkpoints.pass_by()
            yield each
            bar.done += 1
    finally:
        bar.end()
        current_bar.set(outer)


CHEAP_STEPS = 100_000
"""A loop of more steps is watched from outside, as counting them would slow it down."""


def progress_of_loop(iterable: Iterable[Any], description: str) -> Iterable[Any]:
    """Show a cell's top-level loop over something sized, without cost for a tight one."""
    owner = current.get()
    total = _length(iterable)
    if owner is None or total is None:
        return iterable
    if total <= CHEAP_STEPS:
        return progress(iterable, total=total, description=description)
    iterator = iter(iterable)
    if hasattr(iterator, "__length_hint__"):
        bar = owner.flow_run.bars.begin(description, total)
        if bar is not None:
            bar.watch_iterator(iterator)
    return iterator


def _length(iterable: Any) -> float | None:
    try:
        return len(iterable)
    except Exception:
        return None


def pause_flow_run(
    wait_for_input: Any = None,
    timeout: float = 3600,
    poll_interval: float | None = None,
    key: str | None = None,
) -> Any:
    """Pause the run that calls it until somebody resumes it; return the input, if it asks for one.

    Tasks that were started go on. In async code the call is to be awaited. A task may
    call it too: its flow's run is the one that is paused.

    Args:
        wait_for_input: what is to be given when it is resumed: a pydantic model, such as
            a `RunInput`, whose instance is returned; or any type that pydantic reads, such
            as ``int``, ``list[str]`` or a ``Literal``, for a value of it. What does not fit
            is refused to who gives it, and the run waits on.
        timeout: how long to wait, in seconds. Default one hour, as in Prefect.
        poll_interval: what Prefect takes; nothing is polled here.
        key: what tells this pause from others of the run. One that was resumed is not
            asked again: a later attempt goes on with the same answer. Shown in the view.

    Raises:
        FlowPauseTimeout: nobody resumed it in time; uncaught, the run fails.
        RunCancellation: it was cancelled meanwhile.
        NotInARun: no run's code is being run.
        NobodyToAsk: nobody can answer.
        TypeError: `wait_for_input` is nothing that a person could be asked for.
    """
    owner = _owner("pause_flow_run()")
    if not is_number(timeout) or timeout <= 0:
        raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}.")
    if key is not None and not isinstance(key, str):
        raise TypeError(f"key must be a text, not {key!r}.")
    what, read = "approval", None
    asks: dict[str, Any] = {"kind": "approval"}
    if wait_for_input is not None:
        from jupyter_flows.input import Expected  # with pydantic, which most runs do without

        expected = Expected.of(wait_for_input)
        what, read = "input", expected.read
        asks = {
            "kind": "input",
            "schema": expected.schema,
            "initial": expected.initial,
            "description": expected.description,
        }
    text = f"Waiting for {what}: {key}" if key else f"Waiting for {what}"
    waiting = Waiting(text=text, until=time() + timeout, key=key, **asks)
    if called_from_async(owner, sys._getframe(1)):
        return wait_for_person_async(owner, waiting, read)
    return wait_for_person(owner, waiting, read)


def resume_flow_run(flow_run_id: str, run_input: Any = None) -> None:
    """Let a paused run go on.

    Args:
        flow_run_id: its id, or the beginning of it.
        run_input: the answer to a run that waits for input: the fields of what it waits
            for by their names, or an instance. Left out, the fields' defaults are taken.

    Raises:
        UnknownRun: there is no such run in this process.
        NotPaused: the run is not paused.
        InvalidInput: the input does not fit; the run waits on.
    """
    registry.get(str(flow_run_id)).resume(run_input)


class FlowRunContext:
    """Prefect's way to ask for the flow run whose code is being run."""

    @staticmethod
    def get() -> RunContext | None:
        """Return it, or None outside of runs."""
        owner = current.get()
        return None if owner is None else RunContext(owner)


class TaskRunContext:
    """Prefect's way to ask for the task run whose code is being run."""

    @staticmethod
    def get() -> RunContext | None:
        """Return it, or None outside of task runs."""
        owner = current.get()
        return RunContext(owner) if owner and isinstance(owner.listed, TaskRun) else None

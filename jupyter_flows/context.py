"""What a run's own code asks of the run that it is in."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Generator, Mapping
from datetime import datetime, timedelta
from time import time
from typing import Any

from jupyter_flows.engine import checkpoints, registry
from jupyter_flows.engine.asking import wait_for_person, wait_for_person_async
from jupyter_flows.engine.current import called_from_async, current
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.numbers import is_number
from jupyter_flows.engine.pausing import nobody_tells, wait_in_run
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.task_runs import TaskRun
from jupyter_flows.engine.waiting import LoopWaiter
from jupyter_flows.errors import NotInARun, RunCancellation
from jupyter_flows.records import Waiting
from jupyter_flows.tagging import tags as tags


class RunContext:
    """The run or task run whose code is being run: Hatchet's ``Context``.

    What to do about a cancel::

        while not run.exit_flag: ...       # look now and then, and end by yourself
        if run.wait_for_cancel(5): ...     # or look while there is nothing else to do
        except BaseException as error:     # or be stopped, and tell it from an error
            if is_cancellation(error): ...

    Code that has looked and seen it is told: it is not stopped where it prints, logs or
    sleeps, but has the grace of the cancel (`cancel_grace_seconds`, 1 by default) to end
    by itself. However it ends, the run is CANCELLED.
    """

    def __init__(self, life: Life) -> None:
        self._life = life

    # -- whether it is to stop ------------------------------------------------------------

    @property
    def exit_flag(self) -> bool:
        """Whether it is to stop. Code that has seen it True is taken to have been told."""
        if self._life.cancel_reason is None:
            return False
        self._life.note_told()
        return True

    @property
    def is_cancelled(self) -> bool:
        """The same as `exit_flag`."""
        return self.exit_flag

    @property
    def cancel_reason(self) -> str | None:
        """Why it is to stop, if it is: ``user``, ``timeout``, ``parent``, ``concurrency``,
        ``shutdown``, or what `cancel` was told. Looking at it does not count as being told.
        """
        return self._life.cancel_reason

    def wait_for_cancel(self, timeout: float | timedelta | None = None) -> Any:
        """Wait to be cancelled, and return whether it is: a sleep that a cancel ends at once.

        The wait does not raise: code that sees True is told, as by `exit_flag`. In async
        code it is to be awaited. While the run is paused the time stands still.

        Args:
            timeout: how long to wait, in seconds or as a `timedelta`; None waits for ever.
        """
        seconds = _seconds("timeout", timeout)
        if called_from_async(self._life, sys._getframe(1)):
            return self._wait_for_cancel_async(seconds)
        wait_in_run(self._life.flow_run, self._is_asked, nobody_tells, seconds)
        return self.exit_flag

    async def _wait_for_cancel_async(self, seconds: float | None) -> bool:
        waiter = LoopWaiter()
        waiters = self._life.flow_run.book.waiters
        waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                while not self._is_asked():
                    await waiter.wait()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            if not self._is_asked():
                raise  # by others: a time-out around it, a task group that fails
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        finally:
            waiters.discard(waiter)
        return self.exit_flag

    def _is_asked(self) -> bool:
        return self._life.cancel_reason is not None

    def cancel(self, reason: str = "user") -> bool:
        """Ask the flow run to stop; returns whether this call asked, as `FlowRun.cancel` does.

        Args:
            reason: why, for the record: in words of your own, or one of the usual.
        """
        return self._life.flow_run.cancel(reason=reason)

    async def aio_cancel(self, reason: str = "user") -> bool:
        """Ask the flow run to stop: `cancel`, under Hatchet's name for async code."""
        return self.cancel(reason)

    def checkpoint(self) -> None:
        """Let a cancel or a pause take hold here."""
        checkpoints.checkpoint()

    def refresh_timeout(self, increment_by: float | str | timedelta | None = None) -> None:
        """Give the attempt more time before its timeout. Harmless without one.

        Args:
            increment_by: how much more: in seconds, as a `timedelta`, or as in Hatchet as
                a text such as ``"1m30s"``; None, the default, lets it have all of its
                time anew.
        """
        seconds = _seconds("increment_by", increment_by)
        life: Life | None = self._life
        while life is not None and life.timeout is None:
            life = life.caller
        if life is not None and life.timeout is not None:
            life.timeout.refresh(seconds)

    def log(self, message: object) -> None:
        """Write a line into the run's log."""
        get_run_logger().info("%s", message)

    # -- what it is -----------------------------------------------------------------------

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1; a replay counts on from the run that it replays."""
        return self._life.listed.all_attempts

    @property
    def attempt_number(self) -> int:
        """The same as `attempt`, under Hatchet's name."""
        return self.attempt

    @property
    def retry_count(self) -> int:
        """How many attempts there were before this one."""
        return self.attempt - 1

    @property
    def max_attempts(self) -> int:
        """How many attempts a run may have: its retries and one."""
        return self._life.listed.retries + 1

    @property
    def tags(self) -> frozenset[str]:
        """The tags of the flow run."""
        return self._life.flow_run.tags

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata of the flow run."""
        return self._life.flow_run.metadata

    @property
    def additional_metadata(self) -> Mapping[str, str]:
        """The same as `metadata`, under Hatchet's name."""
        return self.metadata

    @property
    def workflow_run_id(self) -> str:
        """The id of the flow run."""
        return self._life.flow_run.id

    @property
    def parent_workflow_run_id(self) -> str | None:
        """The id of the flow run that called this one, for a subflow."""
        caller = self._life.flow_run.subflow_of
        return None if caller is None else caller.id

    @property
    def step_run_id(self) -> str:
        """The id of the task run, or of the flow run where no task's code is being run."""
        return self._life.listed.id

    @property
    def flow_run(self) -> FlowRun:
        """The flow run."""
        return self._life.flow_run

    @property
    def task_run(self) -> TaskRun | None:
        """The task run, if it is one's code that is being run."""
        life = self._life.listed
        return life if isinstance(life, TaskRun) else None

    @property
    def flow(self) -> Any:
        """The flow, or the task that is called outside of flows.

        Raises:
            NotInARun: the run is in a process of its own, where its flow is not.
        """
        run = self._life.flow_run
        if run.author is None:
            raise NotInARun(
                f"The flow of {run.name!r} is in the kernel, and this is a process of the run's "
                "own. Its name is flow_run.flow_name."
            )
        return run.author

    @property
    def task(self) -> Any:
        """The task, if it is one's code that is being run."""
        task_run = self.task_run
        return None if task_run is None else task_run.author

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What the task, or the flow where no task's code is being run, is called with."""
        return dict((self.task_run or self.flow_run).parameters)

    @property
    def start_time(self) -> datetime | None:
        """When the run of that began, in UTC."""
        return self._life.listed.start_time

    def __repr__(self) -> str:
        return f"<RunContext of {self._life!r}>"


def _seconds(name: str, value: float | str | timedelta | None) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(f"{name} must be seconds or a timedelta, not {value!r}.")
    return value


_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0}


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception that a run's code caught is its cancel, and not an error.

    Sync code is cancelled by `RunCancellation`, async code by `asyncio.CancelledError`.
    The latter may have other causes (a time-out around an await, a task group): then this
    says False. A `CancelledRun` tells that something else was cancelled, such as a task
    that the code waited for: an error here. Whatever it is, raise it again when the
    cleanup is done.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_cancellation, error.exceptions))
    if isinstance(error, asyncio.CancelledError):
        owner = current.get()
        while owner is not None and owner.cancel_reason is None:
            owner = owner.caller
        return owner is not None
    return isinstance(error, RunCancellation)


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

    What is below its level is left out: INFO as in Prefect, or what
    `FlowsConfig.log_level` says; in plain Python, the level of the logger
    ``jupyter_flows``. It writes whether or not prints are logged.

    Raises:
        NotInARun: no run's code is being run, and the loggers of runs are not disabled.
    """
    of_flows, of_tasks = run_loggers()
    owner = current.get()
    if owner is None and not (of_flows.disabled and of_tasks.disabled):
        owner = _owner("get_run_logger()")
    ours = logging.getLogger("jupyter_flows")
    if ours.level == logging.NOTSET:
        ours.setLevel(logging.INFO)  # as in Prefect
    is_task = owner is not None and isinstance(owner.listed, TaskRun)
    source = {"jupyter_flows_source": "task" if is_task else "flow"}
    return _RunLogger(of_tasks if is_task else of_flows, source)


def run_loggers() -> tuple[logging.Logger, logging.Logger]:
    """Return the loggers of flow runs and of task runs."""
    ours = logging.getLogger("jupyter_flows")
    return ours.getChild("flow_runs"), ours.getChild("task_runs")


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


def resume_flow_run(flow_run_id: Any, run_input: Any = None) -> Any:
    """Let a paused run go on. In async code the call may be awaited, as in Prefect.

    Args:
        flow_run_id: its id, as text or UUID, or the beginning of it; or the run.
        run_input: the answer to a run that waits for input: the fields of what it waits
            for by their names, or an instance. Left out, the fields' defaults are taken.

    Raises:
        UnknownRun: there is no such run in this process.
        NotPaused: the run is not paused.
        InvalidInput: the input does not fit; the run waits on.
    """
    run = flow_run_id if isinstance(flow_run_id, FlowRun) else registry.get(str(flow_run_id))
    run.resume(run_input)
    return _Done() if called_from_async(current.get(), sys._getframe(1)) else None


class _Done:
    """What is awaited where there is nothing to wait for."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield

    def _ipython_display_(self) -> None:
        """Show nothing: it is no result."""


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

"""From the first attempt of a run to its last state: the same for every worker.

`run_sync` and `run_async` are the two forms of one loop: begin an attempt, enter
the body, settle what came of it, and again if it is to be retried. They are
called by executors, on the worker, and by tasks, in the code that calls them;
they never ask where they are. Neither raises, whatever the body does: how a run
ended is in its state. The caller decides what to make of it (`reraise`).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.current import current
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.loops import Root
from jupyter_flows.engine.outcomes import state_of_error, state_of_value
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.timers import Alarm, ring
from jupyter_flows.states import State, StateType


class Plan:
    """What is to be run: a body, and what the run's author wants done around it."""

    __slots__ = ("body", "delay", "on_completed", "timeout_seconds")

    def __init__(
        self,
        body: Callable[[], Any],
        *,
        delay: Callable[[int], float],
        timeout_seconds: float | None = None,
        on_completed: Callable[[Any], None] | None = None,
    ) -> None:
        self.body = body
        self.on_completed = on_completed
        self.delay = delay
        self.timeout_seconds = timeout_seconds

    def with_body(self, body: Callable[[], Any]) -> Plan:
        """Return the same plan for another body."""
        return Plan(
            body,
            delay=self.delay,
            timeout_seconds=self.timeout_seconds,
            on_completed=self.on_completed,
        )


def run_sync(life: Life, plan: Plan) -> None:
    """Run a sync body to its end on this thread."""
    run = life.flow_run
    if not life.begin():
        return
    token = current.set(life)
    checkpoints.enter_worker()
    try:
        while True:
            timeout = _start_timeout(life, plan)
            try:
                if life.pending:
                    checkpoints.heed(life, forced=True)
                enter = enter_flow if life is run else enter_task
                state = state_of_value(enter(plan.body))
            except BaseException as error:
                state = state_of_error(life, error)
            finally:
                if timeout is not None:
                    timeout.cancel()
            if life is run and run.submitted is not None:
                run.submitted.join(run)
            delay = settle(life, state, plan)
            if delay is None:
                return
            life.say_retry(state.message)
            life.sleep(delay)
            if not life.begin():
                return
    finally:
        checkpoints.leave_worker()
        current.reset(token)


async def run_async(life: Life, plan: Plan) -> None:
    """Run an async body to its end on the running event loop."""
    run = life.flow_run
    if not life.begin():
        return
    token = current.set(life)
    checkpoints.enter_worker()
    root = Root(life)
    if isinstance(life, FlowRun):
        life.executor.attach(root)
    try:
        while True:
            timeout = _start_timeout(life, plan)
            try:
                if life.pending:
                    root.interrupt()
                enter = enter_flow_async if life is run else enter_task_async
                with root:
                    state = state_of_value(await enter(plan.body))
            except BaseException as error:
                state = state_of_error(life, error)
            finally:
                if timeout is not None:
                    timeout.cancel()
            root.settle()
            if life is run and run.submitted is not None:
                await run.submitted.join_async()
            delay = settle(life, state, plan)
            if delay is None:
                return
            life.say_retry(state.message)
            await root.sleep(delay)
            if not life.begin():
                return
    finally:
        checkpoints.leave_worker()
        current.reset(token)


def settle(life: Life, state: State, plan: Plan) -> float | None:
    """Give a run the state that an attempt led to; return the delay before the next attempt.

    None says that there is no next: the run has ended.
    """
    if life.delivered:
        state = life.cancelled_state()
    stoppable = life.cancel_reason in (None, "timeout")
    if state.type is StateType.FAILED and stoppable and life.attempt <= life.retries:
        life.withdraw_timeout()
        return plan.delay(life.attempt)
    if state.type is StateType.COMPLETED and plan.on_completed is not None:
        try:
            plan.on_completed(state.data)
        except Exception as error:
            state = state_of_error(life, error)
    life.close(state)
    life.move(state)
    if life.parent is not None:
        life.parent.active.discard(life)
    life.announce()
    return None


def reraise(life: Life) -> Any:
    """Return the result of a run that its caller waited for, or raise what it ended with."""
    state = life.state
    if state.type is StateType.COMPLETED:
        return state.data
    if state.type is StateType.CRASHED and isinstance(state.data, BaseException):
        raise state.data
    caller = life.caller
    if caller is not None and caller.cancel_reason is not None:
        if caller.delivered and caller.root is not None and caller.root is life.root:
            raise asyncio.CancelledError(caller.cancel_reason)
        checkpoints.raise_if_due(caller, sys._getframe(1), forced=False)
    return state.result()


class _Timeout:
    """Cancels an attempt that takes too long on its run's clock."""

    __slots__ = ("_alarm", "_deadline", "_life")

    def __init__(self, life: Life, seconds: float) -> None:
        self._life = life
        self._deadline = life.flow_run.clock() + seconds
        self._alarm: Alarm = ring(seconds, self._look)

    def _look(self) -> None:
        left = self._deadline - self._life.flow_run.clock()
        if left <= 0:
            self._life.ask_cancel("timeout")
        else:  # the run was paused meanwhile
            self._alarm = ring(max(left, _LEAST_WAIT), self._look)

    def cancel(self) -> None:
        self._alarm.cancel()


_LEAST_WAIT = 0.05  # seconds between two looks at a clock that may stand still


def _start_timeout(life: Life, plan: Plan) -> _Timeout | None:
    return None if plan.timeout_seconds is None else _Timeout(life, plan.timeout_seconds)


@checkpoints.entry
def enter_flow(body: Callable[[], Any]) -> Any:
    """Call the body of a flow: below this frame the stack is the run's."""
    return body()


def enter_task(body: Callable[[], Any]) -> Any:
    """Call the body of a task."""
    return body()


@checkpoints.entry
async def enter_flow_async(body: Callable[[], Awaitable[Any]]) -> Any:
    """Await the body of a flow: below this frame the stack is the run's."""
    return await body()


async def enter_task_async(body: Callable[[], Awaitable[Any]]) -> Any:
    """Await the body of a task."""
    return await body()

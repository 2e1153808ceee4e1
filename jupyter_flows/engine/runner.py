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
from typing import TYPE_CHECKING, Any

from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.current import current
from jupyter_flows.engine.helping import helpers_of
from jupyter_flows.engine.life import Life, ended
from jupyter_flows.engine.loops import Root, RunLoop, is_same_task, with_its_tasks
from jupyter_flows.engine.outcomes import lives_in, state_of_error, state_of_value
from jupyter_flows.engine.pausing import wait_in_run
from jupyter_flows.engine.runs import Submitted
from jupyter_flows.engine.stacks import entry
from jupyter_flows.engine.task_runs import TaskRun
from jupyter_flows.engine.timeouts import start_timeout
from jupyter_flows.states import State, StateType

if TYPE_CHECKING:
    from jupyter_flows.engine.processes.pickling import Portable

_LOOK_AGAIN = 0.005  # seconds


class Plan:
    """What is to be run: a body, and what the run's author wants done around it."""

    __slots__ = ("body", "delay", "on_completed", "portable", "timeout_seconds")

    def __init__(
        self,
        body: Callable[[], Any],
        *,
        delay: Callable[[int], float],
        timeout_seconds: float | None = None,
        on_completed: Callable[[Any], None] | None = None,
        portable: Callable[[], Portable] | None = None,
    ) -> None:
        self.body = body
        self.portable = portable  # makes the same body for a worker that is not in this process
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
            portable=self.portable,
        )


def run_sync(life: Life, plan: Plan) -> None:
    """Run a sync body to its end on this thread."""
    __tracebackhide__ = True
    if not life.begin():
        end(life, life.cancelled_state())
        return
    token = current.set(life)
    enter = enter_flow if life is life.flow_run else enter_task
    try:
        while True:
            timeout = start_timeout(life, plan.timeout_seconds)
            try:
                if life.pending:
                    checkpoints.heed(life, forced=False)
                value = enter(plan.body)
                for each in lives_in(value):
                    checkpoints.wait_as_worker((each,), None)
                state = state_of_value(value)
            except BaseException as error:
                state = state_of_error(life, error)
            finally:
                if timeout is not None:
                    timeout.end()
            state = _join(life, state)
            while _has_helpers(life):
                wait_in_run(life.flow_run, _never, _nothing, _LOOK_AGAIN, heed=_pass)
            delay = settle(life, state, plan)
            if delay is None:
                return
            life.sleep(delay)
            if not life.begin():
                end(life, life.cancelled_state())
                return
    except BaseException as error:  # an interrupt that came between the body and its end
        end(life, state_of_error(life, error))
    finally:
        current.reset(token)
        life.leave()


async def run_async(life: Life, plan: Plan) -> None:
    """Run an async body to its end on the running event loop."""
    __tracebackhide__ = True
    if not life.begin():
        end(life, life.cancelled_state())
        return
    token = current.set(life)
    enter = enter_flow_async if life is life.flow_run else enter_task_async
    life.root = root = Root(life)
    try:
        while True:
            timeout = start_timeout(life, plan.timeout_seconds)
            try:
                with root:
                    if life.pending:
                        await root.begin()
                    value = await enter(plan.body)
                    for each in lives_in(value):
                        await ended(each)
                    state = state_of_value(value)
            except GeneratorExit:  # nobody will run this coroutine any more: no more awaits
                raise
            except BaseException as error:
                state = state_of_error(life, error)
            finally:
                if timeout is not None:
                    timeout.end()
            root.settle()
            state = await _join_async(life, state)
            while _has_helpers(life):
                await root.sleep(_LOOK_AGAIN)
            delay = settle(life, state, plan)
            if delay is None:
                return
            await root.sleep(delay)
            if not life.begin():
                end(life, life.cancelled_state())
                return
    except BaseException as error:  # a cancel by others that came between the body and its end
        end(life, state_of_error(life, error))
    finally:
        life.root = None
        current.reset(token)
        life.leave()


def run_on_own_loop(life: Life, plan: Plan) -> None:
    """Run an async body to its end on an event loop that is made for it, on this thread."""
    with_tasks = plan.with_body(lambda: with_its_tasks(plan.body))
    try:
        with asyncio.Runner(loop_factory=lambda: RunLoop(life)) as runner:
            runner.run(run_async(life, with_tasks))
    except (KeyboardInterrupt, SystemExit):
        pass  # raised in a task beside the body; closing the loop has ended the body too


def _join(life: Life, state: State) -> State:
    """Wait for the submitted tasks of a flow that has left its body; return what that means.

    An interrupt meanwhile is heeded as one of the body: the tasks are asked to stop.
    """
    tasks = _leave_body(life, state)
    if tasks is None:
        return state
    try:
        told = tasks.join()
    except KeyboardInterrupt as error:
        state = state_of_error(life, error)
        _leave_body(life, state)
        told = tasks.join()
    if told:
        life.note_delivery()
    return state


async def _join_async(life: Life, state: State) -> State:
    """Do what `_join` does, for a flow that may share its asyncio task with who awaits it.

    Tasks that it left behind on the event loop are stopped, and waited for.
    """
    while True:
        try:
            tasks = _leave_body(life, state)
            if tasks is not None and await tasks.join_async():
                life.note_delivery()
            left = _left_behind(life)
            if not left:
                return state
            for each in left:
                each.ask_cancel("parent")
            for each in left:
                await ended(each)
        except asyncio.CancelledError as error:  # the caller's, which is told again at the end
            life.note_delivery()
            state = state_of_error(life, error)


def _left_behind(life: Life) -> list[TaskRun]:
    """Return the task runs that go on when a flow has left its body."""
    if life is not life.flow_run:
        return []
    tasks = [each for each in life.flow_run.task_runs if isinstance(each, TaskRun)]
    return [each for each in tasks if not each.state_is_final()]


def _leave_body(life: Life, state: State) -> Submitted | None:
    """Return the submitted tasks to wait for: those of a flow that has left its body."""
    run = life.flow_run
    if life is not run or run.submitted is None:
        return None
    if state.type is StateType.CRASHED:
        for child in list(run.active):
            child.ask_cancel("parent")
    return run.submitted


def _has_helpers(life: Life) -> bool:
    """Whether a life that was cancelled has threads of its own that are still in its code.

    They are asked to stop as it was. Nothing tells when they have: they are looked at.
    """
    return life.delivered and not life.flow_run.abandoned and bool(helpers_of(life))


def _never() -> bool:
    return False


def _nothing(wake: Callable[[], None]) -> None:
    """Nobody says when a helper has stopped."""


def _pass() -> None:
    """Wait on, whatever is asked."""


def settle(life: Life, state: State, plan: Plan) -> float | None:
    """Give a run the state that an attempt led to; return the delay before the next attempt.

    None says that there is no next: the run has ended.
    """
    if life.delivered:
        state = life.cancelled_state()
    if state.type is StateType.FAILED and life.attempt <= life.retries:
        try:
            delay = plan.delay(life.attempt)
        except Exception as error:
            state = state_of_error(life, error)
        else:
            if life.try_again(state.message):
                return delay
    end(life, state, plan.on_completed)
    return None


def end(life: Life, state: State, on_completed: Callable[[Any], None] | None = None) -> None:
    """Take the last state, which `state` is unless a cancel was delivered. Harmless when taken."""
    if life.flow_run.abandoned:
        life.give_up()
        return
    state = life.decide(state)
    if state.type is StateType.COMPLETED and on_completed is not None:
        try:
            on_completed(state.data)
        except Exception as error:
            state = state_of_error(life, error)
    life.close(state)
    life.move(state)
    life.leave_caller()
    life.announce()


def reraise(life: Life) -> Any:
    """Return the result of a run that its caller waited for, or raise what it ended with."""
    __tracebackhide__ = True
    state = life.state
    if state.type is StateType.COMPLETED:
        return state.data
    if state.type is StateType.CRASHED and isinstance(state.data, BaseException):
        raise state.data
    caller = life.caller
    if caller is not None and caller.cancel_reason is not None:
        if caller.delivered and is_same_task(caller, life):
            raise asyncio.CancelledError(caller.cancel_reason)
        checkpoints.raise_if_due(caller, sys._getframe(1), forced=False)
    return state.result()


@entry
def enter_flow(body: Callable[[], Any]) -> Any:
    """Call the body of a flow: below this frame the stack is the run's."""
    __tracebackhide__ = True
    return body()


@entry
def enter_task(body: Callable[[], Any]) -> Any:
    """Call the body of a task."""
    __tracebackhide__ = True
    return body()


@entry
async def enter_flow_async(body: Callable[[], Awaitable[Any]]) -> Any:
    """Await the body of a flow: below this frame the stack is the run's."""
    __tracebackhide__ = True
    return await body()


@entry
async def enter_task_async(body: Callable[[], Awaitable[Any]]) -> Any:
    """Await the body of a task."""
    __tracebackhide__ = True
    return await body()

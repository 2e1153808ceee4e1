"""From the first attempt of a run to its last state: the same for every worker.

`run_sync` and `run_async` are the two forms of one loop: begin an attempt, enter
the body, settle what came of it, and again if it is to be retried. They are
called by executors, on the worker, and by tasks, in the code that calls them;
they never ask where they are. Neither raises, whatever the body does: how a run
ended is in its state. The caller decides what to make of it (`reraise`).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.admission import Need, wait_for_turn, wait_for_turn_async
from jupyter_flows.engine.current import current, running_loop
from jupyter_flows.engine.leaving import closing_generators, leave_body, leave_body_async
from jupyter_flows.engine.life import Life, ended
from jupyter_flows.engine.loops import Root, RunLoop, is_same_task, with_its_tasks
from jupyter_flows.engine.outcomes import lives_in, state_of_error, state_of_value
from jupyter_flows.engine.pausing import wait_in_run
from jupyter_flows.engine.prerequisites import Prerequisites
from jupyter_flows.engine.stacks import entry
from jupyter_flows.engine.timeouts import start_timeout
from jupyter_flows.errors import NonRetryableException
from jupyter_flows.records import source_within
from jupyter_flows.states import State, StateType

if TYPE_CHECKING:
    from jupyter_flows.engine.processes.pickling import Portable

_logger = logging.getLogger("jupyter_flows.retries")


class Plan:
    """What is to be run: a body, and what the run's author wants done around it."""

    __slots__ = (
        "body",
        "condition",
        "delay",
        "needs",
        "on_completed",
        "portable",
        "prerequisites",
        "timeout_seconds",
    )

    def __init__(
        self,
        body: Callable[[], Any],
        *,
        delay: Callable[[int], float],
        condition: Callable[[Any, Any, Any], Any] | None = None,
        timeout_seconds: float | None = None,
        on_completed: Callable[[Any], None] | None = None,
        portable: Callable[[], Portable] | None = None,
        prerequisites: Prerequisites | None = None,
        needs: Callable[[], Sequence[Need]] | None = None,
    ) -> None:
        self.body = body
        self.prerequisites = prerequisites
        self.needs = needs  # tells the slots that it has to wait for where it is called
        self.portable = portable  # makes the same body for a worker that is not in this process
        self.on_completed = on_completed
        self.delay = delay
        self.condition = condition
        self.timeout_seconds = timeout_seconds

    @property
    def is_free(self) -> bool:
        """Whether it waits for nothing before it begins."""
        return self.prerequisites is None and self.needs is None

    def with_body(self, body: Callable[[], Any]) -> Plan:
        """Return the same plan for another body."""
        return Plan(
            body,
            delay=self.delay,
            condition=self.condition,
            timeout_seconds=self.timeout_seconds,
            on_completed=self.on_completed,
            portable=self.portable,
            prerequisites=self.prerequisites,
            needs=self.needs,
        )


def run_sync(life: Life, plan: Plan) -> None:
    """Run a sync body to its end on this thread."""
    __tracebackhide__ = True
    if not plan.is_free and not is_ready(life, plan):
        return
    if not life.begin():
        end(life, life.cancelled_state())
        wait_for_end(life)
        return
    token = current.set(life)
    enter = enter_flow if life is life.flow_run else enter_task
    try:
        while True:
            timeout = None
            try:
                wait_for_hooks(life)
                timeout = start_timeout(life, plan.timeout_seconds)
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
            state = leave_body(life, state)
            delay = settle(life, state, plan)
            if delay is None:
                break
            life.sleep(delay)
            if not life.begin():
                end(life, life.cancelled_state())
                break
    except BaseException as error:  # an interrupt that came between the body and its end
        end(life, state_of_error(life, error))
    finally:
        current.reset(token)
        life.leave()
    wait_for_end(life)


async def run_async(life: Life, plan: Plan) -> None:
    """Run an async body to its end on the running event loop."""
    __tracebackhide__ = True
    if not plan.is_free and not await is_ready_async(life, plan):
        return
    if not life.begin():
        end(life, life.cancelled_state())
        await wait_for_end_async(life)
        return
    token = current.set(life)
    enter = enter_flow_async if life is life.flow_run else enter_task_async
    life.root = root = Root(life)
    try:
        while True:
            timeout = None
            try:
                with root:
                    await wait_for_hooks_async(life)
                    timeout = start_timeout(life, plan.timeout_seconds)
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
            state = await leave_body_async(life, state)
            delay = await settle_async(life, state, plan)
            if delay is None:
                break
            await root.sleep(delay)
            if not life.begin():
                end(life, life.cancelled_state())
                break
    except BaseException as error:  # a cancel by others that came between the body and its end
        end(life, state_of_error(life, error))
    finally:
        life.root = None
        current.reset(token)
        life.leave()
    await wait_for_end_async(life)


def run_on_own_loop(life: Life, plan: Plan) -> None:
    """Run an async body to its end on an event loop that is made for it, on this thread."""
    with_tasks = plan.with_body(lambda: with_its_tasks(lambda: closing_generators(life, plan.body)))
    try:
        with asyncio.Runner(loop_factory=lambda: RunLoop(life)) as runner:
            runner.run(run_async(life, with_tasks))
    except (KeyboardInterrupt, SystemExit):
        pass  # raised in a task beside the body; closing the loop has ended the body too


def wait_for_end(life: Life) -> None:
    """Wait for the hooks of a life that has ended: a checkpoint of its caller's."""
    if life.hooks is not None:
        checkpoints.wait_as_worker((life,), None)


async def wait_for_end_async(life: Life) -> None:
    """Do what `wait_for_end` does, without blocking the event loop."""
    if life.hooks is not None:
        await ended(life)


def wait_for_hooks(life: Life) -> None:
    """Wait for the hooks of an attempt, which a cancel of it does not."""
    hooks = life.hooks
    if hooks is None:
        return
    wait_in_run(
        life.flow_run,
        lambda: hooks.idle or life.cancel_reason is not None,
        hooks.when_idle,
    )


async def wait_for_hooks_async(life: Life) -> None:
    """Do what `wait_for_hooks` does, without blocking the event loop."""
    if life.hooks is not None:
        await life.hooks.wait()


def is_ready(life: Life, plan: Plan) -> bool:
    """Wait for what a run needs; return False if it is not to begin, having ended."""
    state: State | None = None
    try:
        if plan.prerequisites is not None:
            state = plan.prerequisites.wait(life)
        if state is None and plan.needs is not None:
            token = current.set(life)
            try:
                wait_for_turn(life, plan.needs())
            finally:
                current.reset(token)
    except BaseException as error:
        state = state_of_error(life, error)
    if state is not None:
        end(life, state)
        wait_for_end(life)
    return state is None


async def is_ready_async(life: Life, plan: Plan) -> bool:
    """Do what `is_ready` does. A cancel of the caller, which comes here too, is passed on."""
    state: State | None = None
    life.root = Root(life)  # so that an event loop of its own is parked when the run is held
    if life.pending:
        life.root.interrupt()
    token = current.set(life)
    try:
        if plan.prerequisites is not None:
            state = await plan.prerequisites.wait_async(life)
        if state is None and plan.needs is not None:
            await wait_for_turn_async(life, plan.needs())
    except (asyncio.CancelledError, GeneratorExit) as error:
        end(life, state_of_error(life, error))
        raise
    except BaseException as error:
        state = state_of_error(life, error)
    finally:
        current.reset(token)
        life.root = None
    if state is not None:
        end(life, state)
        await wait_for_end_async(life)
    return state is None


def settle(life: Life, state: State, plan: Plan) -> float | None:
    """Give a run the state that an attempt led to; return the delay before the next attempt.

    None says that there is no next: the run has ended.
    """
    if state.type is StateType.COMPLETED and not life.reached:  # most are: no more to ask
        end(life, state, plan.on_completed)
        return None
    state, again = _wants_another(life, state, plan)
    condition = plan.condition
    if again and condition is not None:
        enter = enter_flow if life is life.flow_run else enter_task
        token = current.set(life)
        try:
            again = bool(enter(lambda: _awaited(condition(life.author, life, state))))
        except BaseException as error:
            state, again = _without_condition(life, state, error), False
        finally:
            current.reset(token)
    return _take(life, state, plan, again)


async def settle_async(life: Life, state: State, plan: Plan) -> float | None:
    """Do what `settle` does, without blocking the event loop for a condition that awaits."""
    state, again = _wants_another(life, state, plan)
    condition, root = plan.condition, life.root
    if again and condition is not None and root is not None:

        async def ask() -> Any:
            answer = condition(life.author, life, state)
            return await answer if inspect.isawaitable(answer) else answer

        token = current.set(life)
        try:
            with root:
                again = bool(await enter_task_async(ask))
        except GeneratorExit:
            raise
        except BaseException as error:
            state, again = _without_condition(life, state, error), False
        finally:
            current.reset(token)
        root.settle()
    return _take(life, state, plan, again)


def _wants_another(life: Life, state: State, plan: Plan) -> tuple[State, bool]:
    """Return the state of an attempt, and whether another is left and could help."""
    if life.reached:
        state = life.cancelled_state()
    if state.type is not StateType.FAILED or life.attempt > life.retries:
        return state, False
    if plan.condition is not None:
        life.forget_timeout()  # the condition is not late
    return state, not isinstance(state.data, NonRetryableException)


def _without_condition(life: Life, state: State, error: BaseException) -> State:
    """Return the state of an attempt whose condition for another could not be asked."""
    if not isinstance(error, Exception):
        return state_of_error(life, error)
    _logger.error("Its retry_condition_fn failed, so it is not tried again.", exc_info=error)
    return state


def _awaited(value: Any) -> Any:
    """Return a value, or, in sync code, what it is to be awaited for."""
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    if running_loop() is None:
        return asyncio.run(wait())
    with ThreadPoolExecutor(1) as pool:  # a loop of others runs on this thread
        return pool.submit(asyncio.run, wait()).result()


def _take(life: Life, state: State, plan: Plan, again: bool) -> float | None:
    """Take the state of an attempt: make ready for the next one, or end."""
    if again:
        try:
            delay = plan.delay(life.attempt)
        except Exception as error:
            if isinstance(state.data, BaseException):
                error.__context__ = state.data  # why there should have been another
            state = state_of_error(life, error)
        else:
            if life.try_again(state.message, delay):
                when = f"in {delay:g} s" if delay else "at once"
                retry = f"retry {life.attempt} of {life.retries} begins {when}"
                _tell_failure(life, state, logging.INFO, retry)
                return delay
    elif state.type is StateType.FAILED and 0 < life.retries < life.attempt:
        _tell_failure(life, state, logging.ERROR, "no retry is left")
    end(life, state, plan.on_completed)
    return None


def _tell_failure(life: Life, state: State, level: int, what_next: str) -> None:
    """Write into the log that an attempt has failed, and what comes of that."""
    source = "flow" if life is life.flow_run else source_within(life.name, "task")
    text = f"Failed, {what_next}" + (f": {state.message}" if state.message else ".")
    for line in text.split("\n"):
        life.flow_run.log.add(level, source, line)


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

"""Runs whose body is a generator: its values go to the caller as they come.

Theory. The caller is given a generator of the engine's. The run begins when the first
value is asked for, and is RUNNING until there are no more, or nobody asks again. Each
step, from one value to the next, is run as the body of a task that is called: in the
code that asks for the value. Between two steps it is the caller's code that runs, and
nothing is done to this run; what was asked of it meanwhile comes at the next step,
where the generator waits at its ``yield``.

- Closing the generator ends the run, COMPLETED unless it was cancelled. A generator that
  is dropped is closed by Python; one that its caller has left open is closed when that
  has left its body. A cancel of the caller that comes as it is closed is raised
  where the caller goes on.
- An attempt that fails may be followed by another, which begins anew, as in Prefect; not
  one that fails as its generator is closed, when nobody takes values any more.
- The registry `leaving.generators` holds the open ones by weak references: a generator
  that nobody else holds is to be closed at once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import Any
from weakref import ref

from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.current import current
from jupyter_flows.engine.leaving import generators, leave_body, leave_body_async
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.loops import Root, driven, hold_between_awaits
from jupyter_flows.engine.outcomes import lives_in, state_of_error, state_of_value
from jupyter_flows.engine.pausing import wait_in_run
from jupyter_flows.engine.runner import (
    Plan,
    end,
    enter_flow,
    enter_flow_async,
    enter_task,
    enter_task_async,
    is_ready,
    is_ready_async,
    reraise,
    settle,
    settle_async,
    wait_for_end,
    wait_for_end_async,
    wait_for_hooks,
    wait_for_hooks_async,
)
from jupyter_flows.engine.safe_lines import unsafe_offsets
from jupyter_flows.engine.timeouts import start_timeout
from jupyter_flows.states import Completed, StateType

Make = Callable[[], tuple[Life, Plan]]


def run_generator(make: Make) -> Generator[Any, Any, Any]:
    """Return a generator that runs one: it yields its values, and returns or raises as a call does.

    Args:
        make: makes the run and its plan, when the first value is asked for.
    """
    itself: list[ref[Any]] = []
    generator = _run(make, itself)
    itself.append(ref(generator))
    return generator


def run_generator_async(make: Make) -> AsyncGenerator[Any, Any]:
    """Return an async generator that runs one. See `run_generator`."""
    itself: list[ref[Any]] = []
    generator = _run_async(make, itself)
    itself.append(ref(generator))
    return generator


def _run(make: Make, itself: list[ref[Any]]) -> Generator[Any, Any, Any]:
    __tracebackhide__ = True
    life, plan = make()
    generators[life] = itself[0]
    if not plan.is_free and not is_ready(life, plan):
        return reraise(life)
    closing = closed = False
    try:
        while _begins(life):
            timeout = None
            try:
                wait_for_hooks(life)
                timeout = start_timeout(life, plan.timeout_seconds)
                steps: Generator[Any, Any, Any] = _step(life, plan.body)
                step: Callable[[], Any] = partial(next, steps)
                while True:
                    try:
                        value = _step(life, step, steps)
                    except StopIteration as last:
                        value = last.value
                        break
                    try:
                        sent = yield value
                    except GeneratorExit:
                        closing = True
                        life.note_delivery()  # this is how a cancel of the caller comes here
                        _step(life, steps.close)
                        raise
                    except BaseException as error:
                        step = partial(steps.throw, error)
                    else:
                        step = partial(steps.send, sent)
                for each in lives_in(value):
                    checkpoints.wait_as_worker((each,), None)
                state = state_of_value(value)
            except GeneratorExit:
                closed, state = True, Completed("Its generator was closed.")
            except BaseException as error:
                state = state_of_error(life, error)
            finally:
                if timeout is not None:
                    timeout.end()
            state = leave_body(life, state)
            if closing:
                end(life, state, plan.on_completed)
                break
            delay = settle(life, state, plan)
            if delay is None:
                break
            life.sleep(delay)
    except BaseException as error:
        _end_with(life, error)
        raise
    finally:
        life.leave()
    if closing:
        _wait_for_last_hooks(life)
        closed |= life.state.type is StateType.CANCELLED
    else:
        wait_for_end(life)
    return None if closed else reraise(life)


def _wait_for_last_hooks(life: Life) -> None:
    """Wait for the hooks of a run whose generator is closed, unless a cancel is due to its caller.

    Nothing of that is raised here, but where the caller goes on: a generator that is dropped is
    closed by Python, which lets nothing pass.
    """
    hooks, caller = life.hooks, life.parent
    if hooks is None:
        return

    def done() -> bool:
        return hooks.idle or (
            caller is not None and caller.cancel_reason is not None and not caller.delivered
        )

    wait_in_run(life.flow_run, done, hooks.when_idle)


def _step(
    life: Life, step: Callable[[], Any], steps: Generator[Any, Any, Any] | None = None
) -> Any:
    """Run a step, on this thread, as code of the run."""
    __tracebackhide__ = True
    run = life.flow_run
    is_flow = life is run
    token = current.set(life)
    life.enter()
    if is_flow:
        run.start_worker()
    try:
        return (enter_flow if is_flow else enter_task)(partial(_advance, life, step, steps))
    finally:
        if is_flow:
            run.end_worker()
        current.reset(token)
        life.leave()


def _advance(life: Life, step: Callable[[], Any], steps: Generator[Any, Any, Any] | None) -> Any:
    """Go on with the code, or raise in it, where it waits, what is asked of it."""
    __tracebackhide__ = True
    if life.pending and steps is not None and not _is_cleaning_up(steps):
        try:
            checkpoints.heed(life, forced=False)
        except BaseException as error:
            return steps.throw(error)
    return step()


def _is_cleaning_up(steps: Generator[Any, Any, Any]) -> bool:
    frame = getattr(steps, "gi_frame", None)
    return frame is not None and frame.f_lasti in unsafe_offsets(frame.f_code)


async def _run_async(make: Make, itself: list[ref[Any]]) -> AsyncGenerator[Any, Any]:
    __tracebackhide__ = True
    life, plan = make()
    generators[life] = itself[0]
    if not plan.is_free and not await is_ready_async(life, plan):
        reraise(life)
        return
    closing = closed = False
    try:
        while _begins(life):
            timeout = None
            try:
                await wait_for_hooks_async(life)
                timeout = start_timeout(life, plan.timeout_seconds)
                steps: AsyncGenerator[Any, Any] = plan.body()
                step: Callable[[], Any] = partial(anext, steps)
                while True:
                    try:
                        value = await _step_async(life, step)
                    except StopAsyncIteration:
                        break
                    life.root = None  # until the next value is asked for
                    try:
                        sent = yield value
                    except GeneratorExit:
                        closing = True
                        life.note_delivery()  # this is how a cancel of the caller comes here
                        await _step_async(life, steps.aclose)
                        raise
                    except BaseException as error:
                        step = partial(steps.athrow, error)
                    else:
                        step = partial(steps.asend, sent)
                state = Completed()
            except GeneratorExit:
                closed, state = True, Completed("Its generator was closed.")
            except BaseException as error:
                state = state_of_error(life, error)
            finally:
                if timeout is not None:
                    timeout.end()
            if life.root is not None:
                life.root.settle()
            state = await leave_body_async(life, state)
            if closing:
                end(life, state, plan.on_completed)
                break
            delay = await settle_async(life, state, plan)
            if delay is None:
                break
            await Root(life).sleep(delay)
        await wait_for_end_async(life)
        if not closed:
            reraise(life)
    except BaseException as error:
        _end_with(life, error)
        raise
    finally:
        life.root = None
        life.leave()


async def _step_async(life: Life, step: Callable[[], Any]) -> Any:
    """Run a step, on the running loop, as code of the run."""
    __tracebackhide__ = True
    token = current.set(life)
    life.enter()
    life.root = root = Root(life)
    run = life.flow_run
    try:
        with root:
            if life.pending:
                await root.begin()
            if life is run:
                return await enter_flow_async(lambda: driven(step(), run))
            return await enter_task_async(hold_between_awaits(step, run))
    finally:
        current.reset(token)
        life.leave()


def _begins(life: Life) -> bool:
    if life.begin():
        return True
    end(life, life.cancelled_state())
    return False


def _end_with(life: Life, error: BaseException) -> None:
    """End a run for what came between its code and its end: an interrupt, a cancel by others."""
    if not life.decided:
        end(life, state_of_error(life, error))


def collected(call: Callable[[], Any]) -> list[Any]:
    """Call a generator function and return all of its values: nobody takes them one by one."""
    __tracebackhide__ = True
    return list(call())


async def collected_async(call: Callable[[], Any]) -> list[Any]:
    """Do the same with an async generator."""
    __tracebackhide__ = True
    return [each async for each in call()]

"""Small programs for flows and tasks: drawn by hypothesis, run step by step, in sync and async.

A program is a tuple of steps, a step a tuple of a word and what it needs. Every step
counts itself in its `World`, so that a test sees whether anything moves.

Endless steps, which only a stop or the world's `released` ends, are drawn where a stop
is promised to reach them: not in a cleanup or a shield, and not as a computation on
an event loop of others.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from jupyter_flows import (
    FlowPauseTimeout,
    checkpoint,
    current_run,
    flow,
    pause_flow_run,
    shield,
    task,
    timeout,
)
from jupyter_flows.errors import RunCancellation
from jupyter_flows.states import Cancelled, Completed, Failed

DEADLINE = 30.0  # seconds after which what does not come has failed


class World:
    """What the code of one run shares with the test."""

    def __init__(self, fire: Callable[[str], None]) -> None:
        self.moves = 0  # steps of its code so far
        self.released = threading.Event()  # endless steps end
        self.stuck = 0  # threads that wait for that in C
        self.futures: list[Any] = []  # of what was submitted
        self.hooked: list[tuple[Any, Any]] = []  # a run and the state that a hook was called for
        self.fire = fire  # lets an action be done by another thread

    def move(self) -> None:
        self.moves += 1


class Broken(Exception):
    """What a program raises."""


class Body:
    """One call of a program."""

    def __init__(self, world: World, kind: str) -> None:
        self.world = world
        self.kind = kind
        self.futures: list[Any] = []

    # -- in sync code -----------------------------------------------------------------

    def run(self, program: tuple[Any, ...]) -> Any:
        for step in program:
            self.world.moves += 1
            value = self.step(step)
            if value is not None:
                return value
        return None

    def step(self, step: tuple[Any, ...]) -> Any:
        word, world = step[0], self.world
        if word == "checkpoint":
            checkpoint()
        elif word == "sleep":
            time.sleep(step[1])
        elif word == "compute":
            for _ in range(step[1]):
                world.moves += 1
        elif word == "compute for ever":
            while not world.released.is_set():
                world.moves += 1
                if sys.version_info < (3, 12):  # where a computation is stopped only by chance
                    checkpoint()
        elif word == "sleep for ever":
            while not world.released.is_set():
                world.moves += 1
                time.sleep(0.001)
        elif word == "stick":
            world.stuck += 1
            try:
                world.released.wait(DEADLINE)
            finally:
                world.stuck -= 1
        elif word == "print":
            print("a line")
        elif word == "call":
            self.made(step, task)()
        elif word == "submit":
            wait_for = self.futures[-2:] if dict(step[2]).get("waits") else None
            future = self.made(step, task, any_kind=True).submit(wait_for=wait_for)
            self.futures.append(future)
            world.futures.append(future)
        elif word == "wait":
            for future in self.futures:
                future.wait()
        elif word == "result":
            for future in self.futures:
                future.result()
        elif word == "subflow":
            self.made(step, flow)()
        elif word == "take":
            for _ in zip(range(step[4]), self.made(step, task), strict=False):
                world.moves += 1
        elif word in ("gather", "group"):
            for each in step[1]:
                self.made(each, task)()
        elif word == "shield":
            with shield():
                return self.run(step[1])
        elif word == "finally":
            try:
                return self.run(step[1])
            finally:
                self.run(step[2])
        elif word == "except":
            try:
                return self.run(step[1])
            except Exception:
                self.world.moves += 1
        elif word == "swallow":
            try:
                return self.run(step[1])
            except (RunCancellation, asyncio.CancelledError):
                self.world.moves += 1
        elif word == "timeout":
            with timeout(step[1]):
                return self.run(step[2])
        elif word == "ask":
            try:
                pause_flow_run(timeout=step[1], key=step[3])
            except FlowPauseTimeout:
                if step[2]:
                    raise
        else:
            return self.common(step)
        return None

    def common(self, step: tuple[Any, ...]) -> Any:
        """Steps that are the same in sync and async code."""
        word, world = step[0], self.world
        if word == "fire":
            world.fire(step[1])
        elif word == "cancel":
            current_run().cancel()
        elif word == "look":
            if current_run().exit_flag:
                world.moves += 1
        elif word == "refresh":
            current_run().refresh_timeout(0.002)
        elif word == "raise":
            raise Broken(step)
        elif word == "raise at first":
            if current_run().attempt <= step[1]:
                raise Broken(step)
        elif word == "return":
            return "a value"
        elif word == "return futures":
            return self.futures or "none"
        elif word == "return state":
            return {"completed": Completed, "failed": Failed, "cancelled": Cancelled}[step[1]]()
        else:
            raise AssertionError(step)
        return None

    def steps(self, program: tuple[Any, ...]) -> Iterator[Any]:
        """Yield after each step."""
        for step in program:
            yield self.run((step,))

    def made(self, step: tuple[Any, ...], what: Any, *, any_kind: bool = False) -> Any:
        """Return the task or flow of a step, for this code to call."""
        word, program, options, is_async = step[:4]
        if any_kind:
            kind = "async" if is_async else "sync"
        else:  # code on an event loop of others must not block that
            kind = self.kind if is_async or self.kind == "main" else "sync"
        if word == "take":
            return make_generator(self.world, program, options, kind)()
        return make(self.world, program, what, options, kind)

    # -- in async code ------------------------------------------------------------------

    async def run_async(self, program: tuple[Any, ...]) -> Any:
        for step in program:
            self.world.moves += 1
            value = await self.step_async(step)
            if value is not None:
                return value
        return None

    async def steps_async(self, program: tuple[Any, ...]) -> AsyncIterator[Any]:
        """Do what `steps` does."""
        for step in program:
            yield await self.run_async((step,))

    async def step_async(self, step: tuple[Any, ...]) -> Any:
        word, world = step[0], self.world
        if word == "checkpoint":
            await asyncio.sleep(0)
        elif word == "sleep":
            await asyncio.sleep(step[1])
        elif word == "compute for ever" and self.kind == "main":
            await self.step_async(("sleep for ever",))
        elif word == "sleep for ever":
            while not world.released.is_set():
                world.moves += 1
                await asyncio.sleep(0.001)
        elif word == "stick":
            if self.kind != "main":
                return self.step(step)
        elif word in ("call", "subflow"):
            made = self.made(step, task if word == "call" else flow)
            if made.isasync:
                await made()
            else:
                made()
        elif word == "take":
            taken, made = 0, self.made(step, task)
            if not hasattr(made, "__aiter__"):
                return self.step(step)
            async for _ in made:
                taken += 1
                if taken >= step[4]:
                    break
        elif word == "gather":
            calls = [self.made(each, task) for each in step[1]]
            await asyncio.gather(*[call() for call in calls if call.isasync])
        elif word == "group":
            calls = [self.made(each, task) for each in step[1]]
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    if call.isasync:
                        group.create_task(call())
        elif word in ("wait", "result"):
            if self.kind != "main":
                return self.step(step)
        elif word == "shield":
            with shield():
                return await self.run_async(step[1])
        elif word == "finally":
            try:
                return await self.run_async(step[1])
            finally:
                await self.run_async(step[2])
        elif word == "except":
            try:
                return await self.run_async(step[1])
            except Exception:
                self.world.moves += 1
        elif word == "swallow":
            try:
                return await self.run_async(step[1])
            except (RunCancellation, asyncio.CancelledError):
                self.world.moves += 1
        elif word == "timeout":
            try:
                async with asyncio.timeout(step[1]):
                    return await self.run_async(step[2])
            except TimeoutError:
                self.world.moves += 1
                raise
        elif word == "ask":
            try:
                await pause_flow_run(timeout=step[1], key=step[3])
            except FlowPauseTimeout:
                if step[2]:
                    raise
        elif word in ("compute", "compute for ever", "print", "submit"):
            return self.step(step)
        else:
            return self.common(step)
        return None


def make(world: World, program: tuple[Any, ...], what: Any, options: Any, kind: str) -> Any:
    """Return the flow or task that runs a program.

    Args:
        kind: "sync", "async" (on an event loop of the run's own), "main" (on another),
            or "process", where code has a world of its own, whose endless steps end at once.
    """

    def body() -> Any:
        return Body(world, "sync").run(program)

    async def body_async() -> Any:
        return await Body(world, kind).run_async(program)

    def body_elsewhere() -> Any:
        there = World(lambda action: None)
        there.released.set()
        return Body(there, "sync").run(program)

    bodies = {"sync": body, "process": body_elsewhere}
    return what(**_given(world, options))(bodies.get(kind, body_async))


def make_generator(world: World, program: tuple[Any, ...], options: Any, kind: str) -> Any:
    """Return the task that runs a program, and yields after each step."""

    def body() -> Iterator[Any]:
        yield from Body(world, "sync").steps(program)

    async def body_async() -> AsyncIterator[Any]:
        async for each in Body(world, kind).steps_async(program):
            yield each

    return task(**_given(world, options))(body if kind == "sync" else body_async)


def _given(world: World, options: Any) -> dict[str, Any]:
    """Return what a decorator is given for the options that were drawn."""
    given = dict(options)
    given.pop("waits", None)
    if "concurrency" in given:
        given["name"] = f"limited in {id(world)}"  # by itself, and not by other runs
    how = given.pop("hooks", None)
    if how is not None:

        def hook(_: Any, life: Any, state: Any) -> None:
            world.hooked.append((life, state))
            if how == "slow":
                time.sleep(0.002)
            elif how == "raise":
                raise Broken(how)

        given.update({f"on_{moment}": [hook] for moment in HOOKED})
    return given


def if_it_is_to_go_on(_: Any, life: Any, state: Any) -> bool:
    """Say that a task or flow is to be tried again: code of its run, as any other."""
    checkpoint()
    return state.is_failed() and life.attempt > 0


HOOKED = ("running", "completion", "failure", "cancellation")


# -- strategies ---------------------------------------------------------------------------

GRACES = (0.0, 0.003, 0.02)
ACTIONS = (
    "pause",
    "resume",
    "cancel",
    "cancel at once",
    "kill",
    "abandon",
    "cancel a task",
    "pause and resume",
    "hold and look",
)
_SIMPLE = (
    ("checkpoint",),
    ("checkpoint",),
    ("sleep", 0.0005),
    ("sleep", 0.004),
    ("compute", 30),
    ("compute", 3000),
    ("print",),
    ("wait",),
    ("look",),
    ("refresh",),
)
_ENDS = (
    ("raise",),
    ("raise at first", 1),
    ("return",),
    ("return futures",),
    ("return state", "completed"),
    ("return state", "failed"),
    ("return state", "cancelled"),
    ("result",),
    ("cancel",),
)
_ENDLESS = (("compute for ever",), ("sleep for ever",), ("stick",))


def _options(draw: Any, *, of_flow: bool) -> tuple[Any, ...]:
    options: dict[str, Any] = {}
    retries = draw(st.sampled_from((0, 0, 1, 2)))
    if retries:
        options["retries"] = retries
        options["retry_delay_seconds"] = draw(st.sampled_from((0.0, 0.0, 0.001, 0.004)))
        options["retry_condition_fn"] = draw(st.sampled_from((None, None, if_it_is_to_go_on)))
    if draw(st.integers(0, 3)) == 0:
        options["timeout_seconds"] = draw(st.sampled_from((0.001, 0.003, 0.01)))
    hooks = draw(st.sampled_from((None, None, None, "quick", "slow", "raise")))
    if hooks:
        options["hooks"] = hooks
    if not of_flow and draw(st.integers(0, 7)) == 0:
        options["concurrency"] = 1
    if not of_flow and draw(st.integers(0, 3)) == 0:
        options["waits"] = True
    if of_flow:
        options["cancel_grace_seconds"] = draw(st.sampled_from(GRACES))
        options["kill_grace_seconds"] = draw(st.sampled_from((0.01, 0.05, 30.0, 30.0)))
    return tuple(options.items())


def _program(draw: Any, depth: int, endless: bool) -> tuple[Any, ...]:
    steps = [_step(draw, depth, endless) for _ in range(draw(st.integers(1, 4 if depth else 3)))]
    if draw(st.integers(0, 2)) == 0:
        steps.append(draw(st.sampled_from(_ENDS)))
    return tuple(steps)


_BLOCKS = (
    "call",
    "submit",
    "submit",
    "subflow",
    "gather",
    "group",
    "shield",
    "finally",
    "except",
    "swallow",
    "timeout",
    "ask",
    "fire",
    "take",
)


def _step(draw: Any, depth: int, endless: bool) -> tuple[Any, ...]:
    kind = draw(st.integers(0, 9))
    if kind == 0 and endless:
        return draw(st.sampled_from(_ENDLESS))  # type: ignore[no-any-return]
    if kind <= 4 or depth == 0:
        return draw(st.sampled_from(_SIMPLE))  # type: ignore[no-any-return]
    word = draw(st.sampled_from(_BLOCKS))
    if word in ("call", "submit"):
        return _call(draw, word, depth, endless)
    if word == "take":
        return *_call(draw, word, depth, endless), draw(st.integers(1, 5))
    if word == "subflow":
        program = _program(draw, depth - 1, endless)
        return word, program, _options(draw, of_flow=True), draw(st.booleans())
    if word in ("gather", "group"):
        calls = [_call(draw, "call", depth, endless)[:3] for _ in range(draw(st.integers(1, 2)))]
        return word, tuple((*call, True) for call in calls)
    if word == "shield":
        return word, _program(draw, depth - 1, False)
    if word == "finally":
        return word, _program(draw, depth - 1, endless), _program(draw, depth - 1, False)
    if word == "timeout":
        return word, draw(st.sampled_from((0.001, 0.005))), _program(draw, depth - 1, endless)
    if word == "ask":
        seconds = (0.002, 0.01, 3600.0) if endless else (0.002, 0.01)
        key = draw(st.sampled_from((None, None, "a key")))
        return word, draw(st.sampled_from(seconds)), draw(st.booleans()), key
    if word == "fire":
        return word, draw(st.sampled_from(ACTIONS))
    return word, _program(draw, depth - 1, endless)


def _call(draw: Any, word: str, depth: int, endless: bool) -> tuple[Any, ...]:
    program = _program(draw, depth - 1, endless)
    return word, program, _options(draw, of_flow=False), draw(st.booleans())


@st.composite
def programs(draw: Any) -> tuple[Any, ...]:
    """Return a program of a flow, and the flow's options."""
    return _program(draw, 3, True), _options(draw, of_flow=True)

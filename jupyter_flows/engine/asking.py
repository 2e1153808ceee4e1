"""A run that waits for a person: for a go-ahead, or for a line of text.

Rules:

- The run is PAUSED from when it asks until it is resumed; only the code that
  asked waits, tasks that were started go on.
- A cancel ends the wait like any other checkpoint's.
- Of several questions at once the oldest is answered first.
- Nobody there to answer is a clear error, never a hang (`can_ask`).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import time
from typing import TYPE_CHECKING

from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.current import loop_of
from jupyter_flows.engine.pausing import wait_in_run
from jupyter_flows.engine.waiting import LoopWaiter
from jupyter_flows.errors import FlowPauseTimeout, NobodyToAsk
from jupyter_flows.records import Waiting

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life
    from jupyter_flows.engine.runs import FlowRun, Question

can_ask: Callable[[FlowRun, str], str | None] = lambda run, kind: None  # noqa: E731
"""Says why nobody can answer a run, or None; the kernel extension fills it."""


def wait_for_person(owner: Life, waiting: Waiting) -> str:
    """Block a run's thread until the run is resumed, and return the answer.

    Raises:
        FlowPauseTimeout: nobody resumed it by `waiting.until`.
        NobodyToAsk: nobody can answer.
        RunCancellation: it was cancelled meanwhile.
    """
    run = owner.flow_run
    frame = sys._getframe(1)
    with _asked(run, waiting) as question:
        left = None if waiting.until is None else waiting.until - time()
        wait_in_run(
            run,
            lambda: question.answer is not None,
            lambda wake: None,
            left,
            heed=lambda: checkpoints.raise_if_due(owner, frame, forced=True),
        )
        return _answer(run, question)


async def wait_for_person_async(owner: Life, waiting: Waiting) -> str:
    """Wait on an event loop until the run is resumed, and return the answer."""
    run = owner.flow_run
    waiter = LoopWaiter()
    with _asked(run, waiting) as question:
        run.book.waiters.add(waiter)
        try:
            async with asyncio.timeout(None if waiting.until is None else waiting.until - time()):
                while question.answer is None:
                    await waiter.wait()
        except TimeoutError:
            pass
        finally:
            run.book.waiters.discard(waiter)
        return _answer(run, question)


@contextmanager
def _asked(run: FlowRun, waiting: Waiting) -> Iterator[Question]:
    refusal = can_ask(run, waiting.kind)
    if refusal is not None:
        raise NobodyToAsk(refusal)
    question = run.ask(waiting)
    try:
        yield question
    finally:
        run.withdraw(question)


def _answer(run: FlowRun, question: Question) -> str:
    if question.answer is None:
        raise FlowPauseTimeout(f"Nobody resumed {run.name!r} in time.")
    return question.answer


def ask_for_input(owner: Life, prompt: str) -> str:
    """Do for a run what `input` does for a cell: ask, and return the line."""
    if loop_of(owner) is not None:
        raise NobodyToAsk(
            "input() would block the event loop of an async run. "
            "Use `await pause_flow_run()`, or ask in a sync flow."
        )
    return wait_for_person(owner, Waiting(kind="input", text=prompt or "Input"))

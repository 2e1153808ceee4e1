"""A run that waits for a person: for a go-ahead, for a line of text, or for input.

Rules:

- The run is PAUSED from when it asks until it is resumed; only the code that
  asked waits, tasks that were started go on. A cleanup may ask, too.
- A cancel ends the wait like any other checkpoint's.
- Of several questions at once the oldest is shown, and answered first, unless an
  answer says by its number which it is for.
- An answer that does not fit is refused to who gave it, and changes nothing.
- A question with a key is asked until it is answered, and then no more in this run:
  who asks again, in a later attempt say, is given the same answer.
- A pause asked meanwhile holds the tasks too: until all of them hold still the run is
  RUNNING, `asked` "pause", and then PAUSED. `waiting.held` says that it is on. A
  resume lifts it first, and answers next time; one with an input, or with the number
  of a question, answers that, and the run is held until it is resumed.
- Nobody there to answer is a clear error, never a hang (`can_ask`). A foreground run,
  which has no view, is shown where its caller looks when it first asks (`show`).
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import time
from typing import TYPE_CHECKING, Any

from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.current import loop_of, running_loop
from jupyter_flows.engine.pausing import nobody_tells, wait_in_run
from jupyter_flows.engine.questions import Question
from jupyter_flows.engine.threads import EngineThread
from jupyter_flows.engine.waiting import LoopWaiter
from jupyter_flows.errors import FlowPauseTimeout, InvalidInput, NobodyToAsk
from jupyter_flows.records import Waiting

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life
    from jupyter_flows.engine.questions import Read
    from jupyter_flows.engine.runs import FlowRun


def is_foreground(run: FlowRun) -> bool:
    """Whether somebody called it, or what called it, and waits in that call."""
    return run.chain[-1].executor.in_callers_thread


def refuse_alone(run: FlowRun, kind: str) -> str | None:
    """Say that nobody can answer a foreground call that blocks the only thread there is."""
    caller = run.chain[-1]
    if not is_foreground(run) or running_loop() is not None:
        return None
    for thread in threading.enumerate():
        if not isinstance(thread, EngineThread) and thread.ident != caller.thread:
            return None
    return BLOCKED.format(name=run.name, what="the only thread")


BLOCKED = (
    "The run {name!r} waits for a person, but nobody can answer while its call blocks {what}. "
    "Start it in the background with .start(), and resume it then."
)

can_ask: Callable[[FlowRun, str], str | None] = refuse_alone
"""Says why nobody can answer a run, or None; the kernel extension fills it."""

who_asks: Callable[[FlowRun], FlowRun] = lambda run: run  # noqa: E731
"""Returns the run that people see asking: in a process, for its subflows, the run itself."""


show: Callable[[FlowRun], None] = lambda run: None  # noqa: E731
"""Shows a foreground run that asks; called in its code, with no lock held. The kernel fills it."""


def wait_for_person(owner: Life, waiting: Waiting, read: Read | None = None) -> Any:
    """Block a run's thread until the run is resumed, and return the answer.

    Args:
        owner: whose code asks.
        waiting: what it asks.
        read: reads an answer; by default a go-ahead or a line of text.

    Raises:
        FlowPauseTimeout: nobody resumed it by `waiting.until`.
        NobodyToAsk: nobody can answer, or the wait would block an event loop of others.
        RunCancellation: it was cancelled meanwhile.
    """
    run = owner.flow_run
    if not checkpoints.may_park(owner):
        raise NobodyToAsk(
            "Sync code that waits for a person would block the event loop that it is called on, "
            "which others use too. Ask in async code, or submit the task."
        )
    frame = sys._getframe(1)
    with _asked(run, waiting, read) as question:
        left = None if waiting.until is None else waiting.until - time()
        wait_in_run(
            run,
            lambda: question.answered,
            nobody_tells,
            left,
            heed=lambda: checkpoints.raise_if_due(owner, frame, forced=True),
        )
        return _answer(run, question)


async def wait_for_person_async(owner: Life, waiting: Waiting, read: Read | None = None) -> Any:
    """Wait on an event loop until the run is resumed, and return the answer."""
    run = owner.flow_run
    waiter = LoopWaiter()
    with _asked(run, waiting, read) as question:
        run.book.waiters.add(waiter)
        try:
            async with asyncio.timeout(None if waiting.until is None else waiting.until - time()):
                while not question.answered:
                    await waiter.wait()
        except TimeoutError:
            pass
        finally:
            run.book.waiters.discard(waiter)
        return _answer(run, question)


@contextmanager
def _asked(run: FlowRun, waiting: Waiting, read: Read | None) -> Iterator[Question]:
    run = who_asks(run)
    earlier = Question(waiting, read)
    if _was_answered(run, earlier):
        yield earlier
        return
    refusal = can_ask(run, waiting.kind)
    if refusal is not None:
        raise NobodyToAsk(refusal)
    question = run.ask(waiting, read)
    try:
        if is_foreground(run):
            show(run)
        yield question
    finally:
        run.withdraw(question)


def _was_answered(run: FlowRun, question: Question) -> bool:
    """Whether a question of the same key has an answer, which this one is given."""
    text = None if question.waiting.key is None else run.answers.get(question.waiting.key)
    if text is None:
        return False
    try:
        question.value = question.read(text)
    except InvalidInput:  # it asks for something else now
        return False
    question.answered = True
    return True


def _answer(run: FlowRun, question: Question) -> Any:
    if not question.answered:
        raise FlowPauseTimeout(f"Nobody resumed {run.name!r} in time.")
    return question.value


def ask_for_input(owner: Life, prompt: str) -> str:
    """Do for a run what `input` does for a cell: ask, and return the line."""
    if loop_of(owner) is not None:
        raise NobodyToAsk(
            "input() would block the event loop of an async run. "
            "Use `await pause_flow_run()`, or ask in a sync flow."
        )
    line: str = wait_for_person(owner, Waiting(kind="input", text=prompt or "Input"))
    return line

"""What is asked of a flow run that it hold still, and what it asks of people: its PAUSED.

Guarantees:

- Any thread may call, except where a method is said to be called under the lock; none
  blocks, and no lock is held while anything of the user's is called.
- PAUSED is said when all that works for the run holds still, or when it waits for a
  person and no hold is asked; see `pausing` for the one, `asking` for the other.
- A hold reaches the subflows that the run has called, whenever they begin; a cancel
  lifts it, and so does the end.
- An answer is read with no lock held, and counts only if its question is still open then.
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import MutableMapping
from dataclasses import replace
from threading import Lock
from time import monotonic, time
from typing import Any

from jupyter_flows.engine.life import Life, interrupt_all
from jupyter_flows.engine.pausing import Book
from jupyter_flows.engine.questions import Question, Read, as_json
from jupyter_flows.errors import InvalidInput, NobodyToAsk, NotActive, NotPaused
from jupyter_flows.records import Waiting
from jupyter_flows.states import (
    TERMINAL,
    AwaitingRetry,
    Paused,
    Running,
    State,
    StateType,
    is_delay,
)


class Pausable(Life):
    """The life of a flow run, as far as it can be PAUSED."""

    def __init__(self, name: str, state: State, lock: Lock) -> None:
        super().__init__(name, state, lock)
        self.book = Book()
        self.waiting: Waiting | None = None
        self.answers: dict[str, str] = {}  # by the key of the question, as JSON
        self._questions: list[Question] = []  # not answered yet: the first is `waiting`
        self._asked_before = 0  # how many questions there have been
        self._held_at = 0.0  # when the hold that is on was asked
        self._delay: State | None = None  # the AwaitingRetry that it goes back to from PAUSED
        self._paused_seconds = 0.0
        self._paused_since: float | None = None
        self._paused_clock = 0.0
        self._paused_clock_since: float | None = None

    def touch(self) -> None:
        """Tell history that something beside the state has changed."""
        raise NotImplementedError

    @property
    def held(self) -> bool:
        """Whether its code is to hold still; a cancel lifts a hold, and so does its end."""
        return self.book.hold and self.cancel_reason is None and not self.decided

    @property
    def asked(self) -> str | None:
        """What is asked and not yet so: "cancel", "pause" or nothing."""
        if self.state.type in TERMINAL:
            return None
        if self.cancel_reason is not None:
            return "cancel"
        return "pause" if self.book.hold and self.state.type is not StateType.PAUSED else None

    # -- pausing and resuming ------------------------------------------------------------

    def pause(self) -> None:
        """Ask it and its tasks to hold still; it is PAUSED when all of them do.

        Raises:
            NotActive: it has ended, or is being cancelled.
        """
        with self._lock:
            if self.decided or self.state.type in TERMINAL or self.cancel_reason is not None:
                raise NotActive(f"{self!r} is {self.state.name}: there is nothing to pause.")
            if not self.book.hold:
                self.book.hold, self._held_at = True, time()
            lives = self._mark_all()
            self._settle_pause()
        self._hold_changed(lives)

    def resume(self, run_input: Any = None, *, question: int | None = None) -> None:
        """Let it go on: lift the pause that was asked, or answer what it asks a person.

        Of a run that is both paused and waits for a person, the pause is lifted first,
        unless there is something that only a question can mean: an input, or a number.

        Args:
            run_input: the answer to a run that waits for input: what JSON can hold, or an
                instance of the model. Left out, the defaults of the model's fields are.
            question: which question is answered, by its number in `waiting`; 0 for none.
                So nobody approves what he has not read. Default: the oldest that is open.

        Raises:
            NotPaused: it is not paused, nor about to be; or the question is not open.
            InvalidInput: the input does not fit; nothing has changed.
        """
        text = as_json(run_input)
        with self._lock:
            asked = self._to_answer(question, anything=run_input is not None)
            if asked is None:
                lives = self._lift()
        if asked is not None:
            value = asked.read(text)
            with self._lock:
                if asked not in self._questions:
                    raise NotPaused(f"{self!r} does not wait for this answer any more.")
                asked.answered, asked.value = True, value
                if asked.waiting.key is not None:
                    self.answers[asked.waiting.key] = text
                self._drop(asked)
                lives = self._mark_all()
                self._settle_pause()
        self._hold_changed(lives)

    @property
    def _is_stopping(self) -> bool:
        return self.state.type in TERMINAL or self.state.type is StateType.CANCELLING

    def _to_answer(self, number: int | None, *, anything: bool) -> Question | None:
        """Return the question that a resume means, or None if it means the hold; under the lock.

        Args:
            number: of the question, if that is told; 0 for none.
            anything: whether there is an input.
        """
        if not self._questions and (self._is_stopping or not self.book.hold):
            raise NotPaused(f"{self!r} is {self.state.name}: only a paused run can be resumed.")
        if (self.held or not self._questions) and not number and not anything:
            return None
        if number == 0:
            raise NotPaused(f"{self!r} is not held, or was given an answer to no question.")
        if not self._questions and anything:
            raise InvalidInput(f"{self!r} is paused and waits for no input: resume it without.")
        for question in self._questions:
            if number in (None, question.waiting.number):
                return question
        raise NotPaused(f"{self!r} does not wait for this answer any more.")

    def _lift(self) -> list[Life]:
        """Lift the hold, under the lock; return what `_mark_all` does."""
        self.book.hold = False
        held = time() - self._held_at
        for question in self._questions:
            until = question.waiting.until
            if until is not None:  # nobody is late for having been held
                question.waiting = replace(question.waiting, until=until + held)
        if self._questions:
            self._show_question()
        waiting = self.waiting
        if waiting is not None and waiting.kind == "retry" and waiting.until is not None:
            late = time() - max(self._held_at, (self._delay or self.state).time)
            self.waiting = replace(waiting, until=waiting.until + late)
        lives = self._mark_all()
        self._settle_pause()
        return lives

    def _mark_all(self) -> list[Life]:
        """Bring `pending` of it and of its tasks up to date, under the lock.

        Returns:
            Them all, and the subflows among them, which have a lock of their own.
        """
        lives: list[Life] = [self]
        for life in lives:
            if life.flow_run is self:
                life._mark()
                lives += list(life.active)
        return lives

    def _hold_changed(self, lives: list[Life]) -> None:
        """Let what runs the code of `lives` know; subflows follow their caller."""
        self.announce()
        self.touch()
        interrupt_all([life for life in lives if life.flow_run is self])
        for life in lives:
            if isinstance(life, Pausable) and life is not self:
                life._follow(self)

    def _follow(self, calling: Pausable) -> None:
        """Hold still, or go on, as the run that called it does."""
        while True:
            hold = calling.held  # which a cancel lifts: what a cleanup calls goes on
            try:
                if hold:
                    self.pause()
                elif self.book.hold:  # else there is nothing to lift, but maybe a question
                    self.resume(question=0)
            except (NotActive, NotPaused):
                pass
            if calling.held == hold:  # else somebody was faster
                return

    # -- what it asks people -------------------------------------------------------------

    def ask(self, waiting: Waiting, read: Read | None = None) -> Question:
        """Ask a person, and be PAUSED until the question is answered or withdrawn.

        Args:
            waiting: what is asked.
            read: reads an answer; by default a go-ahead or a line of text.

        Raises:
            NobodyToAsk: it has ended, given up by those who could answer.
        """
        with self._lock:
            if self.state.type in TERMINAL:
                raise NobodyToAsk(f"{self!r} has ended: nobody answers what its code still asks.")
            self._asked_before += 1
            question = Question(replace(waiting, number=self._asked_before), read)
            self._questions.append(question)
            self._show_question()
            self._settle_pause()
        self.changed()
        return question

    def withdraw(self, question: Question) -> None:
        """Wait for the answer no longer. Harmless when it was answered."""
        with self._lock:
            if question not in self._questions:
                return
            self._drop(question)
            self._settle_pause()
        self.changed()

    def _drop(self, question: Question) -> None:
        """Take a question for closed, under the lock; what is held stays so."""
        self._questions.remove(question)
        self._show_question()

    def _show_question(self) -> None:
        self.waiting = self._questions[0].waiting if self._questions else None

    def _say_when_retried(self, why: str, seconds: float) -> None:
        """Say so in `waiting`, under the lock, which moving on takes back."""
        if not self._questions:
            self.waiting = Waiting(kind="retry", text=why, until=time() + seconds)

    def _waiting_now(self) -> Waiting | None:
        waiting = self.waiting
        in_time = waiting is not None and (waiting.number is not None or waiting.kind == "retry")
        return replace(waiting, held=True) if waiting and in_time and self.held else waiting

    # -- who works for it, and holds still -----------------------------------------------

    def start_worker(self) -> None:
        """Say that this thread begins to run its code."""
        self._count(self.book.workers, +1)

    def end_worker(self) -> None:
        """Say that this thread has left its code."""
        self._count(self.book.workers, -1)

    def park_worker(self) -> None:
        """Say that this thread waits in the engine."""
        self._count(self.book.parked, +1)

    def unpark_worker(self, *, unless_held: bool = False) -> bool:
        """Say that this thread goes back to its code; return False if it is not to."""
        return self._count(self.book.parked, -1, unless_held)

    def start_command(self) -> bool:
        """Say that a command of it goes on; return False if that is to hold still."""
        with self._lock:
            if self.held:
                return False
            self.book.commands += 1
        return True

    def end_command(self) -> None:
        """Say that a command of it is suspended or has ended."""
        with self._lock:
            self.book.commands -= 1
        if self.book.hold:
            self.settle_pause()

    def _count(
        self, threads: MutableMapping[int, int], change: int, unless_held: bool = False
    ) -> bool:
        ident = get_ident()
        with self._lock:
            if unless_held and self.held:
                return False
            count = threads.get(ident, 0) + change
            if count:
                threads[ident] = count
            else:
                del threads[ident]
            moved = self.book.hold and self._settle_pause()
        if moved:
            self.announce()
        return True

    def settle_pause(self) -> None:
        """Say PAUSED if all that was asked to hold still does."""
        with self._lock:
            moved = self._settle_pause()
        if moved:
            self.announce()

    def _settle_pause(self) -> bool:
        """Say PAUSED, or no longer, under the lock; return whether that is news.

        While a hold is asked the run is PAUSED if all of it holds still, else if it
        waits for a person, whatever its tasks do. From the delay of a retry only a hold
        leads to PAUSED, and back.
        """
        paused = self.book.still if self.held else bool(self._questions)
        state, delay = self.state, self._delay
        if paused and (state.type is StateType.RUNNING or (self.held and is_delay(state))):
            text = self._questions[0].waiting.text if self._questions else ""
            moved = self._move(Paused(text))
            self._delay = state if is_delay(state) else None
            return moved
        if state.type is StateType.PAUSED and (not paused or (delay and not self.held)):
            return self._move(AwaitingRetry(delay.message) if delay else Running())
        return False

    def adopt(self, child: Life) -> None:
        """Count a child in; see `Life.adopt`. What holds its parent holds it too."""
        super().adopt(child)
        if self.held and isinstance(child, Pausable):
            child._follow(self)

    # -- its clock -----------------------------------------------------------------------

    def clock(self) -> float:
        """Seconds on a clock that stands still while the run is paused."""
        with self._lock:
            since = self._paused_clock_since
            return (monotonic() if since is None else since) - self._paused_clock

    def _before_move(self, state: State) -> None:
        waited = self._delay is not None or self.state.type is StateType.SCHEDULED
        goes_on = state.type not in (StateType.PAUSED, StateType.SCHEDULED)
        if waited and goes_on and not self._questions:
            self.waiting = None  # until its next attempt, see `_say_when_retried`
        if self.state.type is StateType.PAUSED:
            self._delay = None
            self._paused_seconds += state.time - (self._paused_since or state.time)
            self._paused_since = None
            self._paused_clock += monotonic() - (self._paused_clock_since or monotonic())
            self._paused_clock_since = None
        if state.type is StateType.PAUSED:
            self._paused_since = state.time
            self._paused_clock_since = monotonic()
        if state.type in TERMINAL:
            self.waiting = None
            self._questions.clear()

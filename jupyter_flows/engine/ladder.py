"""What is done, and when, to stop what was asked to stop: one rung after the other.

    at once                       ask: checkpoints and awaits heed it
    after `cancel_grace_seconds`  interrupt: at a safe line, so that cleanup runs
    after `kill_grace_seconds`    kill: by force; or at once, when a person says so

How a rung is taken is the executor's affair. Each beyond the first is a line in
the log, and `Life.stopping` says how far it has come, and what comes next. What is
still held a moment after a rung is looked for then, and logged with what to write
instead: what stops at once was held by nothing.

Guarantees:

- A life that is asked has one ladder, which its tasks go up with; a subflow, which
  has a worker of its own, has its own.
- `climb` and `kill` may be called by any thread and never block; rungs are taken on
  the timer's thread, or, when there is no grace, on that of whoever asks.
- No rung is taken once the life has ended, nor a lower one after a higher.
- What a cleanup has begun is let alone until the life is killed; then it is asked, and
  given no grace.
"""

from __future__ import annotations

import logging
from time import time

from jupyter_flows.engine.hangs import HELD_ALL
from jupyter_flows.engine.life import ASK, INTERRUPT, KILL, Life
from jupyter_flows.engine.stacks import lives_of
from jupyter_flows.engine.timers import Alarm, ring
from jupyter_flows.engine.whereabouts import Position, position, what_holds
from jupyter_flows.records import Frame, Stopping

_SAID = {ASK: "asked", INTERRUPT: "interrupted", KILL: "killed"}
_NEXT = {ASK: "interrupt", INTERRUPT: "kill", KILL: None}
_NO_GRACE = 0.05  # seconds from an ask to a rung that is taken with it
SETTLES = 0.1  # seconds from a rung until what has not stopped is held by something
_LATE = 0.3  # seconds by which an alarm is late if something held up all of Python


class Ladder:
    """The way of one life that is to stop."""

    __slots__ = ("_alarm", "_life", "_over", "_settling", "reason", "rung")

    def __init__(self, life: Life) -> None:
        self._life = life
        self.reason = life.cancel_reason
        self._alarm: Alarm | None = None
        self._settling: Alarm | None = None
        self._over = False
        self.rung = ASK

    def begin(self) -> None:
        """Set the clock for the next rung."""
        self._note()
        self._life.on_done(self.end)
        self._wait()

    def end(self) -> None:
        """There is nothing more to stop. Harmless when told again."""
        self._over = True
        for alarm in (self._alarm, self._settling):
            if alarm is not None:
                alarm.cancel()

    @property
    def _next_at(self) -> float | None:
        """When the next rung is taken."""
        life = self._life
        options = life.flow_run.options
        grace = options.cancel_grace_seconds if life.grace is None else life.grace
        if self.rung == ASK:
            return life.asked_at + grace
        if self.rung == INTERRUPT:
            return life.asked_at + max(grace, options.kill_grace_seconds)
        return None

    def _wait(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        at, following = self._next_at, self.rung + 1  # not what it is by then: it may be killed
        if at is None:
            return
        left = at - time()
        if left <= 0:
            self.take(following)
        else:
            self._alarm = ring(left, lambda: self.take(following))
            if self._over:  # it has ended meanwhile, and may not have seen this alarm
                self.end()

    def take(self, rung: int) -> None:
        """Take a rung, unless it is too late or a higher one was taken."""
        life = self._life
        with life._lock:
            if life.decided or life.cancel_reason is None or rung <= self.rung:
                return
            due = self._next_at
            self.rung = rung
        late = time() - due if due is not None else 0.0
        held_up = late if late > _LATE else 0.0
        before, told = position(life), life.stopping
        self._note(told.stuck if told else None, told.hint if told else None)
        self._log(held_up)
        for each in lives_of(life.flow_run) if life is life.flow_run else [life]:
            each.rung = max(each.rung, rung)
        executor = life.flow_run.executor
        if rung == INTERRUPT:
            executor.insist(life)
        else:
            for child in list(life.active):  # what a cleanup has begun was not asked before
                child.ask_cancel("parent", 0)
            executor.kill(life)
        life.flow_run.book.wake()  # what waits is judged by the new rung
        self._wait()
        life.changed()
        if self._settling is not None:
            self._settling.cancel()
        self._settling = ring(SETTLES, lambda: self._look(before, held_up))
        if self._over:
            self.end()

    def _look(self, before: Position | None, late: float) -> None:
        """Say what holds it, now that a rung has not stopped it."""
        stuck, hint = what_holds(self._life, before, late)
        if stuck is not None:
            self.held(stuck, hint)

    def held(self, stuck: Frame, hint: str | None) -> None:
        """Say that this line holds it. Any thread."""
        life = self._life
        if life.decided:
            return
        self._note(stuck, hint)
        where = f"{stuck.file}, line {stuck.line}: {stuck.text}"
        text = f"{self._who} is held at {where}" + (f" — {hint}" if hint else "")
        life.flow_run.log.add(logging.WARNING, "flow", text)
        life.changed()

    def _note(self, stuck: Frame | None = None, hint: str | None = None) -> None:
        life = self._life
        life.stopping = Stopping(
            since=life.asked_at,
            rung=_SAID[self.rung],
            next=_NEXT[self.rung],
            at=self._next_at,
            stuck=stuck,
            hint=hint,
        )

    def _log(self, held_up: float) -> None:
        run = self._life.flow_run
        passed = time() - self._life.asked_at
        how = run.executor.saying[self.rung]
        asked = f"has not stopped {passed:.1f} s after it was asked to"
        text = f"{self._who} {'is given no grace' if passed < _NO_GRACE else asked}: {how}."
        if held_up:
            text += f" {HELD_ALL.format(seconds=held_up)}"
        run.log.add(logging.WARNING, "flow", text)

    @property
    def _who(self) -> str:
        life = self._life
        if life.listed is not life:
            return "A block under a timeout"
        return "It" if life is life.flow_run else f"Task {life.name!r}"


def climb(life: Life) -> None:
    """Begin to stop a life that was asked to stop, unless that has begun."""
    with life._lock:
        if life.decided or life.cancel_reason is None or life.state_is_final():
            return
        if life is not life.flow_run and life.cancel_reason == "parent":
            return  # goes up with the run
        before = life.ladder
        if before is not None and before.reason == life.cancel_reason:
            return
        ladder = life.ladder = Ladder(life)
    if before is not None:
        before.end()
    ladder.begin()


def hurry(life: Life) -> None:
    """Interrupt a life now. Harmless when it was not asked to stop."""
    climb(life)
    if life.ladder is not None:
        life.ladder.take(INTERRUPT)


def kill(life: Life) -> None:
    """Take the last rung now. The life was asked to stop."""
    climb(life)
    if life.ladder is not None:
        life.ladder.take(KILL)

"""What is done, and when, to stop what was asked to stop: one rung after the other.

    at once                       ask: checkpoints and awaits heed it
    after `cancel_grace_seconds`  interrupt: at a safe line, so that cleanup runs
    after `kill_grace_seconds`    kill: by force; or at once, when a person says so

How a rung is taken is the executor's affair. Each beyond the first is a line in
the log, and `Life.stopping` says how far it has come, and what comes next.

Guarantees:

- A life that is asked has one ladder, which its tasks go up with; a subflow, which
  has a worker of its own, has its own.
- `climb` and `kill` may be called by any thread and never block; rungs are taken on
  the timer's thread, or on that of whoever says kill.
- No rung is taken once the life has ended, nor a lower one after a higher.
"""

from __future__ import annotations

import logging
from time import time
from typing import TYPE_CHECKING

from jupyter_flows.engine.interrupting import ASK, INTERRUPT, KILL
from jupyter_flows.engine.stacks import lives_of
from jupyter_flows.engine.timers import Alarm, ring
from jupyter_flows.engine.whereabouts import what_holds
from jupyter_flows.records import Stopping

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life

_SAID = {ASK: "asked", INTERRUPT: "interrupted", KILL: "killed"}
_NEXT = {ASK: "interrupt", INTERRUPT: "kill", KILL: None}


class Ladder:
    """The way of one life that is to stop."""

    __slots__ = ("_alarm", "_life", "reason", "rung")

    def __init__(self, life: Life) -> None:
        self._life = life
        self.reason = life.cancel_reason
        self._alarm: Alarm | None = None
        self.rung = ASK

    def begin(self) -> None:
        """Set the clock for the next rung."""
        self._note()
        self._wait()
        self._life.on_done(self.end)

    def end(self) -> None:
        """There is nothing more to stop. Harmless when told again."""
        if self._alarm is not None:
            self._alarm.cancel()

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
        self.end()
        at = self._next_at
        if at is not None:
            self._alarm = ring(max(at - time(), 0.0), lambda: self.take(self.rung + 1))

    def take(self, rung: int) -> None:
        """Take a rung, unless it is too late or a higher one was taken."""
        life = self._life
        with life._lock:
            if life.decided or life.cancel_reason is None or rung <= self.rung:
                return
            self.rung = rung
        self._note()
        self._log()
        for each in lives_of(life.flow_run) if life is life.flow_run else [life]:
            each.rung = max(each.rung, rung)
        executor = life.flow_run.executor
        if rung == INTERRUPT:
            executor.insist(life)
        else:
            executor.kill(life)
        life.flow_run.book.wake()  # what waits is judged by the new rung
        self._wait()
        life.changed()

    def _note(self) -> None:
        life = self._life
        stuck, hint = what_holds(life) if self.rung > ASK else (None, None)
        life.stopping = Stopping(
            since=life.asked_at,
            rung=_SAID[self.rung],
            next=_NEXT[self.rung],
            at=self._next_at,
            stuck=stuck,
            hint=hint,
        )

    def _log(self) -> None:
        life, stopping = self._life, self._life.stopping
        assert stopping is not None, "made by _note"
        run = life.flow_run
        who = "It" if life is run else f"Task {life.name!r}"
        passed = time() - life.asked_at
        how = run.executor.saying[self.rung]
        text = f"{who} has not stopped {passed:.1f} s after it was asked to: {how}."
        if stopping.stuck is not None:
            frame = stopping.stuck
            text += f" It is at {frame.file}, line {frame.line}: {frame.text}"
        run.log.add(logging.WARNING, "flow", text)


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


def kill(life: Life) -> None:
    """Take the last rung now. The life was asked to stop."""
    climb(life)
    if life.ladder is not None:
        life.ladder.take(KILL)

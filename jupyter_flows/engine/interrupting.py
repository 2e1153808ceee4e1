"""Stops or holds code that reaches no checkpoint.

Theory. Of the code that a run's threads are in, the user's own is watched
(`monitoring`) for as long as something is asked and not yet so: then every point
of it where that costs no cleanup (`safe_lines.points`) is a checkpoint, which the
thread itself heeds. So what is hit is told by whose code it is, as at any
checkpoint, and never by the thread; and while nothing is asked, nothing is paid.

What to watch is found by looking at the stacks again and again, since code calls
on. Not watched is what could not be stopped in: calls made in a cleanup, the
standard library, packages (before the grace is over). Of a thread that is in the same
place at every look, for long in a call of C, only the innermost code is watched:
that is where it goes on.

Before Python 3.12 there is no such watch: a cancel is injected (`injecting`) when
the stack is at a safe point, and a pause waits for a checkpoint.

Guarantees:

- `attend` may be called by any thread, any number of times; it never blocks. It
  looks at once, then on the timer's thread.
- A run is attended to while a pause of it is asked and not so, or a rung of the
  ladder beyond asking was taken; nothing is watched for it afterwards.
- A life whose rung is `KILL` is hit by force, again and again, until it has ended.
"""

from __future__ import annotations

from _thread import allocate_lock
from itertools import chain
from types import CodeType, FrameType
from typing import TYPE_CHECKING

from jupyter_flows.engine import checkpoints, monitoring
from jupyter_flows.engine.current import current
from jupyter_flows.engine.helping import helpers_of
from jupyter_flows.engine.injecting import inject, place_to_hit
from jupyter_flows.engine.life import INTERRUPT
from jupyter_flows.engine.ports import is_engine_module
from jupyter_flows.engine.safe_lines import (
    is_generated,
    may_be_on_top,
    points,
    turns,
    unsafe_offsets,
)
from jupyter_flows.engine.stacks import (
    entries,
    lives_of,
    stack_of,
    suspended_frames,
    threads_of,
)
from jupyter_flows.engine.timers import ring
from jupyter_flows.states import TERMINAL, StateType

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life
    from jupyter_flows.engine.runs import FlowRun

_INTERVALS = (0.002, 0.005, 0.01, 0.02, 0.05)  # seconds from one look to the next
_MANY_LOOKS, _SELDOM = 200, 0.5  # after ten seconds a thread is blocked for long
_PATIENT_LOOKS = 3  # at a thread that does not move, before its callers are let alone


_Codes = dict[int, CodeType]  # by identity: two of the same text are equal, and yet two


class _Attention:
    """What is watched for one run."""

    __slots__ = ("again", "codes", "looks", "run", "unmoved")

    def __init__(self, run: FlowRun) -> None:
        self.run = run
        self.codes: _Codes = {}
        self.looks = 0
        self.again = False  # something was asked since the last look began
        self.unmoved: dict[int, tuple[FrameType, int, int]] = {}  # frame, offset, how often seen


_lock = allocate_lock()
_attended: dict[FlowRun, _Attention] = {}


def attend(run: FlowRun) -> None:
    """See to it that a run heeds what is asked of it, or is forced to."""
    with _lock:
        attention = _attended.get(run)
        if attention is not None:
            attention.again = True
            attention.looks = 0
            return
        attention = _attended[run] = _Attention(run)
    _look(attention)


def _look(attention: _Attention) -> None:
    attention.again = False
    lives = [life for life in lives_of(attention.run) if _is_wanted(life)]
    held = _is_to_be_held(attention.run)
    if monitoring.available():
        _watch(attention, _codes(attention, lives) if lives or held else {})
    for life in lives:
        if life.killed:
            _force(life)
        elif not monitoring.available():
            _inject_if_safe(life)
    if not lives and not held:
        with _lock:
            if not attention.again:
                del _attended[attention.run]
                return
    attention.looks += 1
    seldom = attention.looks > _MANY_LOOKS
    wait = _SELDOM if seldom else _INTERVALS[min(attention.looks, len(_INTERVALS)) - 1]
    ring(wait, lambda: _look(attention))


def _is_wanted(life: Life) -> bool:
    """Whether a life is to be stopped by more than asking, and goes on, given up or not."""
    if life.cancel_reason is None or life.rung < INTERRUPT:
        return False
    return not life.decided or (life.flow_run.abandoned and life.thread is not None)


def _is_to_be_held(run: FlowRun) -> bool:
    return any(
        each.held and each.state.type not in (*TERMINAL, StateType.PAUSED) for each in run.chain
    )


# -- watching ---------------------------------------------------------------------------


def _codes(attention: _Attention, lives: list[Life]) -> _Codes:
    """Return the code in which the threads and coroutines of a run may be stopped."""
    run = attention.run
    packages = any(life.past_grace for life in lives)
    codes: _Codes = {}
    unmoved: dict[int, tuple[FrameType, int, int]] = {}
    helpers = chain.from_iterable(map(helpers_of, lives))
    for thread in (*threads_of(run), *helpers):
        frames = stack_of(thread)
        if not frames:
            continue
        top, offset = frames[0], frames[0].f_lasti
        before = attention.unmoved.get(thread)
        seen = before[2] + 1 if before is not None and before[:2] == (top, offset) else 1
        unmoved[thread] = (top, offset, seen)
        stoppable = _stoppable(frames, packages)
        if seen > _PATIENT_LOOKS and not is_engine_module(top.f_globals.get("__name__")):
            stoppable = dict(list(stoppable.items())[-1:])  # where it goes on, if it does
        codes |= stoppable
    attention.unmoved = unmoved
    for life in lives:
        if life.root is not None:
            suspended = list(suspended_frames(life.root.task.get_coro()))
            codes |= _stoppable(suspended[::-1], packages)
    return codes


def _stoppable(frames: list[FrameType], packages: bool) -> _Codes:
    """Return the code of a stack, given from the innermost, that may be stopped in."""
    codes: _Codes = {}
    in_cleanup = False
    for frame in reversed(frames):
        code = frame.f_code
        if code in entries:
            in_cleanup = False
        elif in_cleanup or is_engine_module(frame.f_globals.get("__name__")):
            continue
        elif may_be_on_top(code, packages=packages) and not is_generated(frame):
            codes[id(code)] = code
        in_cleanup = in_cleanup or (code not in entries and frame.f_lasti in unsafe_offsets(code))
    return codes


def _watch(attention: _Attention, codes: _Codes) -> None:
    new = [code for key, code in codes.items() if key not in attention.codes]
    old = [code for key, code in attention.codes.items() if key not in codes]
    for code in new:
        points(code)  # analysed here, not by the thread that is to be stopped
    attention.codes = codes
    if new:
        monitoring.watch(new)
    if old:
        monitoring.unwatch(old)


def _at_instruction(frame: FrameType) -> None:
    """Heed what is asked, before an instruction of watched code. By the thread itself."""
    owner = current.get()
    if owner is not None and owner.pending and frame.f_lasti in points(frame.f_code):
        checkpoints.heed(owner, forced=False, frame=frame)


monitoring.call_back(_at_instruction)


# -- injecting --------------------------------------------------------------------------


def _force(life: Life) -> None:
    top = place_to_hit(life)
    if top is not None:
        inject(life, top)
    root = life.root  # which its own thread takes away
    if root is not None:
        root.interrupt()
        root.insist()


def _inject_if_safe(life: Life) -> None:
    """Hit a thread that waits for its turn, between two instructions, at a safe point."""
    top = place_to_hit(life)
    if top is None:
        return
    offset = top.f_lasti
    if offset in turns(top.f_code) and checkpoints.is_place_to_stop(life, top):
        inject(life, top, offset)

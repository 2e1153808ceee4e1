"""Where in a stack raising costs no cleanup.

Theory. A raise in running code skips whatever the code would have done next, so
it must not come where the next thing is a cleanup, or where something was
acquired whose cleanup is not armed yet. Judged by bytecode, so that code without
source is judged alike, a position in a code object is *unsafe* when it lies

- in an ``except`` or ``finally`` block, or in what a ``with`` does at its end:
  reachable from an exception handler (``PUSH_EXC_INFO``) before the exception is
  popped or raised again. A ``finally`` block is compiled twice, once for the way
  without an exception; that copy has the same source positions, and is found by
  them;
- on the header of a ``with`` or ``try``: positions of the instructions that
  enter a context manager, and the no-ops before a protected range, so that
  ``lock.acquire()`` and the ``try:`` after it stay together.

A stack is safe when no frame from the top to the run's entry is at an unsafe
position, none is an ``__enter__``, ``__exit__`` or ``__del__`` (nor their async
kin), none imports a module or is called by the garbage collector, and the topmost
frame, the engine's own left out, is not the standard library's, whose code was not
written to be stopped inside.

A coroutine that is suspended is judged more narrowly, by `is_cleanup`: an await is
where a cancel is expected, unless it is a cleanup that awaits.

Reading is pure and takes no locks: any thread may ask about any stack it holds
still. The analysis of a code object is made once; it is kept as long as the code
object lives.

What cannot hold: a statement between ``acquire()`` and ``try:``, and a helper
that acquires something, prints, and is interrupted in that print.
"""

import dis
import gc
import sysconfig
from collections.abc import Callable, Container, Iterable, Iterator
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any
from weakref import WeakKeyDictionary

from jupyter_flows.engine.ports import is_engine_module

_STDLIB = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_PACKAGES = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_RITES = frozenset({"__enter__", "__exit__", "__aenter__", "__aexit__", "__del__"})
_LEAVES = frozenset({"POP_EXCEPT", "RERAISE", "RAISE_VARARGS", "RETURN_VALUE", "RETURN_CONST"})
_AWAITS = frozenset(
    {"GET_AWAITABLE", "LOAD_CONST", "SEND", "YIELD_VALUE", "RESUME", "JUMP_BACKWARD_NO_INTERRUPT"}
)
_ENTERS = frozenset({"BEFORE_WITH", "BEFORE_ASYNC_WITH"})
_NO_FALL_THROUGH = frozenset(
    {"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "RETURN_VALUE", "RETURN_CONST"}
    | {"RAISE_VARARGS", "RERAISE"}
)

Offsets = frozenset[int]

_known: "WeakKeyDictionary[CodeType, tuple[Offsets, Offsets]]" = WeakKeyDictionary()
_known_points: "WeakKeyDictionary[CodeType, Offsets]" = WeakKeyDictionary()
_known_turns: "WeakKeyDictionary[CodeType, Offsets]" = WeakKeyDictionary()


def is_safe(
    frame: FrameType | None,
    entries: Container[CodeType],
    lives: int = 1,
    *,
    bottoms: Container[CodeType] = (),
    packages: bool = True,
    until: FrameType | None = None,
) -> bool:
    """Return whether raising in `frame`'s stack would skip no cleanup.

    Args:
        frame: the top of the stack.
        entries: the code objects of the engine's functions that enter a body.
        lives: how many such frames belong to what is to be stopped; frames
            beyond the last are not looked at.
        bottoms: the code objects of functions below which no frame is the user's.
        packages: whether the topmost frame may be one of an installed package.
        until: the last frame to be looked at, if the last body has none of `entries`.
    """
    top = True
    while frame is not None:
        code = frame.f_code
        if code in entries:
            lives -= 1
            if not lives:
                return True
        elif code in bottoms:
            return True
        elif not is_engine_module(frame.f_globals.get("__name__")):
            if top:
                if not is_own(code, packages=packages) or is_generated(frame):
                    return False
                top = False
            if _is_rite(code):
                return False
            if frame.f_lasti in unsafe_offsets(code):
                return False
        if frame is until:
            return True
        frame = frame.f_back
    return True


def _is_rite(code: CodeType) -> bool:
    if code.co_name in _RITES or code.co_filename.startswith("<frozen importlib"):
        return True
    # what these raise goes nowhere, as for __del__; JAX and Dask have some
    return any(getattr(each, "__code__", None) is code for each in gc.callbacks)


def is_cleanup(frames: Iterable[FrameType]) -> bool:
    """Return whether a suspended coroutine, given by its frames, awaits in a cleanup.

    Only the user's own files are judged: packages are written for cancels that
    come at any await, and so is whatever awaits on the header of a ``with``. The
    end of a task group is none: there the body goes on, in the group's tasks.
    """
    for frame, inner in pairwise([*frames, None]):
        assert frame is not None, "the last is only ever the inner one"
        code = frame.f_code
        if is_engine_module(frame.f_globals.get("__name__")) or not is_own(code, packages=False):
            continue
        if inner is not None and group_of(inner) is not None:
            continue
        if code.co_name in ("__exit__", "__aexit__") or frame.f_lasti in cleanup_offsets(code):
            return True
    return False


def group_of(frame: FrameType) -> Any:
    """Return the task group whose end a frame is, asyncio's or anyio's; None for other frames."""
    if frame.f_code.co_name != "__aexit__":
        return None
    found = frame.f_locals.get("self")
    is_group = type(found).__name__ == "TaskGroup" and hasattr(found, "_tasks")
    return found if is_group else None


def unsafe_offsets(code: CodeType) -> Offsets:
    """Return the offsets in `code` at which raising could skip a cleanup."""
    return _analysis(code)[0]


def cleanup_offsets(code: CodeType) -> Offsets:
    """Return those of the unsafe offsets that lie in a cleanup, not on a header."""
    return _analysis(code)[1]


def points(code: CodeType) -> Offsets:
    """Return the offsets in `code` at which code that calls nothing of ours may be stopped.

    That is where a line begins, as long as no half of an expression is on the stack
    that a raise would lose, and at both ends of a loop's jump back, so that a loop
    of one line has one too; without those at which raising could skip a cleanup.
    """
    known = _known_points.get(code)
    if known is None:
        known = _known_points[code] = _points(code)
    return known


def turns(code: CodeType) -> Offsets:
    """Return the offsets at which a thread that waits for its turn may be hit by injection.

    CPython before 3.12 raises, at a jump back, as if at the instruction before the
    jump's target: that must be protected by what protects the target.
    """
    known = _known_turns.get(code)
    if known is None:
        known = _known_turns[code] = _turns(code)
    return known


def is_own(code: CodeType, *, packages: bool) -> bool:
    """Return whether code is of the user's own files, not of the standard library's.

    Args:
        code: the code.
        packages: whether installed packages count as the user's own.
    """
    name = code.co_filename
    if name.startswith(_PACKAGES):
        return packages
    return not name.startswith((*_STDLIB, "<frozen "))


def is_generated(frame: FrameType) -> bool:
    """Whether code is of a named tuple: the standard library's, though it has no file there.

    The engine makes such tuples too, also while it holds the lock of a run.
    """
    return str(frame.f_globals.get("__name__")).startswith("namedtuple_")


def may_be_on_top(code: CodeType, *, packages: bool) -> bool:
    """Return whether code of this file may be stopped inside: never the standard library's.

    Args:
        code: the code.
        packages: whether that of installed packages may.
    """
    return is_own(code, packages=packages) and not _is_rite(code)


def _analysis(code: CodeType) -> tuple[Offsets, Offsets]:
    known = _known.get(code)
    if known is None:
        nothing: Offsets = frozenset()
        known = _analyse(code) if code.co_exceptiontable else (nothing, nothing)
        _known[code] = known
    return known


def _analyse(code: CodeType) -> tuple[Offsets, Offsets]:
    bytecode = dis.Bytecode(code)
    instructions = list(bytecode)
    index = {instruction.offset: i for i, instruction in enumerate(instructions)}
    ranges = bytecode.exception_entries  # type: ignore[attr-defined]
    handlers = {
        entry.target
        for entry in ranges
        if instructions[index[entry.target]].opname == "PUSH_EXC_INFO"
    }
    if not handlers:
        return frozenset(), frozenset()
    unsafe = _reachable(instructions, index, handlers)

    # the copy of a `finally` block, and the end of a `with`, on the way without an exception
    places = {_place(instructions[index[offset]]) for offset in unsafe} - {None}
    unsafe |= {each.offset for each in instructions if _place(each) in places}
    headers = _with_headers(instructions)
    headers |= _try_headers(instructions, {e.start for e in ranges if e.target in handlers})
    return (
        frozenset(_with_caches(instructions, unsafe | headers)),
        frozenset(_with_caches(instructions, unsafe - headers)),
    )


def _with_caches(instructions: list[dis.Instruction], unsafe: set[int]) -> Iterator[int]:
    """Add what lies between instructions: in a call `f_lasti` may point at an inline cache."""
    for instruction, following in zip(instructions, [*instructions[1:], None], strict=True):
        if instruction.offset in unsafe:
            end = instruction.offset + 2 if following is None else following.offset
            yield from range(instruction.offset, end, 2)


def _reachable(
    instructions: list[dis.Instruction], index: dict[int, int], starts: Iterable[int]
) -> set[int]:
    """Walk from each handler until its exception is popped or raised again."""
    seen: set[int] = set()
    todo = list(starts)
    while todo:
        i = index[todo.pop()]
        while i < len(instructions):
            instruction = instructions[i]
            if instruction.offset in seen:
                break
            seen.add(instruction.offset)
            if instruction.opname in _LEAVES:
                break
            if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
                todo.append(instruction.argval)
            if instruction.opname in _NO_FALL_THROUGH:
                break
            i += 1
    return seen


def _with_headers(instructions: list[dis.Instruction]) -> set[int]:
    """Find what a ``with`` does until it is entered: its expressions, and awaiting the entering."""
    found = set()
    for i, instruction in enumerate(instructions):
        if not _enters(instruction):
            continue
        span = _place(instruction)
        found.add(instruction.offset)
        for earlier in reversed(instructions[:i]):
            if not _within(_place(earlier), span):
                break
            found.add(earlier.offset)
        for later in instructions[i + 1 :]:
            if later.opname not in _AWAITS or not _within(_place(later), span):
                break
            found.add(later.offset)
    return found


def _enters(instruction: dis.Instruction) -> bool:
    """Whether it enters a context manager (Python 3.14 looks ``__enter__`` up by name)."""
    if instruction.opname == "LOAD_SPECIAL":
        return "enter" in instruction.argrepr
    return instruction.opname in _ENTERS


def _try_headers(instructions: list[dis.Instruction], starts: set[int]) -> set[int]:
    """Find the no-ops just before a protected range: the line that says ``try:``."""
    found = set()
    after_range_start = False
    for instruction in reversed(instructions):
        if instruction.opname == "NOP":
            if after_range_start:
                found.add(instruction.offset)
        else:
            after_range_start = instruction.offset in starts
    return found


def _points(code: CodeType) -> Offsets:
    bytecode = dis.Bytecode(code)
    instructions = list(bytecode)
    ranges = bytecode.exception_entries  # type: ignore[attr-defined]
    names = {each.offset: each.opname for each in instructions}
    handler = _handlers(ranges)
    depths = _stack_depths(instructions, ranges)
    loops = [
        (each.offset, each.argval, depths[each.offset])
        for each in instructions
        if each.opname == "FOR_ITER" and each.offset in depths
    ]

    def is_between_statements(offset: int) -> bool:
        """Whether nothing is on the stack but what loops and ``with`` keep there."""
        kept = max((depth for start, end, depth in loops if start < offset < end), default=0)
        kept = max([kept, *(each.depth for each in ranges if each.start <= offset < each.end)])
        return offset in depths and depths[offset] <= kept

    found = set()
    line = None
    for instruction in instructions:
        place = _place(instruction)
        if instruction.opname == "JUMP_BACKWARD" and names[instruction.argval] != "END_SEND":
            found.add(instruction.argval)
            if handler(instruction.offset) == handler(instruction.argval):
                found.add(instruction.offset)  # else it lies in a gap of what protects the loop
        if instruction.opname == "RESUME" and not instruction.arg:
            line = None  # the body of a lambda begins on the line of its header
            continue
        if place is None or place.lineno == line:
            continue
        line = place.lineno
        if instruction.opname not in _NO_STATEMENT and is_between_statements(instruction.offset):
            found.add(instruction.offset)
    unsafe = unsafe_offsets(code)
    leaving = {  # `continue`, `break` and `return` of a protected block, before its cleanup
        each.offset
        for each, following in pairwise(instructions)
        if each.opname == "NOP" and following.offset in unsafe
    }
    return frozenset(found) - unsafe - leaving


def _handlers(ranges: Iterable[Any]) -> Callable[[int], int | None]:
    """Return what says where an exception at an offset is handled."""
    return lambda offset: next(
        (each.target for each in ranges if each.start <= offset < each.end), None
    )


def _turns(code: CodeType) -> Offsets:
    bytecode = dis.Bytecode(code)
    handler = _handlers(bytecode.exception_entries)  # type: ignore[attr-defined]
    found = set()
    for each in bytecode:
        if (each.opname == "RESUME" and each.arg == 0) or (
            "JUMP_BACKWARD" in each.opname
            and "NO_INTERRUPT" not in each.opname
            and handler(each.argval - 2) == handler(each.argval) == handler(each.offset)
        ):
            found.add(each.offset)
    return frozenset(found) - unsafe_offsets(code)


_NO_STATEMENT = frozenset(
    {"RESUME", "RETURN_GENERATOR", "MAKE_CELL", "COPY_FREE_VARS", "POP_TOP", "END_SEND"}
)


def _stack_depths(instructions: list[dis.Instruction], ranges: Iterable[Any]) -> dict[int, int]:
    """Return how much is on the stack before each instruction that can be reached."""
    index = {instruction.offset: i for i, instruction in enumerate(instructions)}
    start = next((i for i, each in enumerate(instructions) if each.opname == "RESUME"), 0)
    depths: dict[int, int] = {}
    todo = [(instructions[start].offset, 0)]
    todo += [(each.target, each.depth + (2 if each.lasti else 1)) for each in ranges]
    while todo:
        offset, depth = todo.pop()
        for instruction in instructions[index[offset] :]:
            if instruction.offset in depths:
                break
            depths[instruction.offset] = depth
            opcode = instruction.opcode
            argument = instruction.arg if opcode >= dis.HAVE_ARGUMENT else None
            if opcode in dis.hasjrel or opcode in dis.hasjabs:
                jumped = depth + dis.stack_effect(opcode, argument, jump=True)
                todo.append((instruction.argval, jumped))
            if instruction.opname in _NO_FALL_THROUGH:
                break
            depth += dis.stack_effect(opcode, argument, jump=False)
    return depths


def _place(instruction: dis.Instruction) -> dis.Positions | None:
    place = instruction.positions
    return None if place is None or place.lineno is None else place


def _within(place: dis.Positions | None, span: dis.Positions | None) -> bool:
    if place is None or span is None:
        return place is span
    if span.col_offset is None:  # `-X no_debug_ranges`: the span may be of several lines
        return _start(span) <= _start(place)
    return _start(span) <= _start(place) and _end(place) <= _end(span)


def _start(place: dis.Positions) -> tuple[int, int]:
    return place.lineno or 0, place.col_offset or 0


def _end(place: dis.Positions) -> tuple[int, int]:
    return place.end_lineno or place.lineno or 0, place.end_col_offset or 0

"""The well-known ways to hang, and what to write instead.

A thread that waits in C cannot be stopped before C returns, so the cure is always
the author's. Each way is told by what is on the stack: by a function of the
standard library, or by the very call that the topmost frame is in, whose callee is
looked up by name without running any code of the user's.

Reading is racy, like that of any stack of a running thread: a hint is about where
the thread was. Any thread may ask.
"""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import io
import linecache
import socket
from collections.abc import Sequence
from itertools import takewhile
from types import BuiltinFunctionType, FrameType, MethodDescriptorType
from typing import Any

from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.ports import is_engine_module
from jupyter_flows.engine.safe_lines import cleanup_offsets, is_own
from jupyter_flows.engine.stacks import entries

LOCK = (
    "It waits for a lock. Written as "
    "`while not lock.acquire(timeout=1): checkpoint()`, it can be stopped."
)
CONDITION = (
    "It waits for a condition. Written as "
    "`while not condition.wait(timeout=1): checkpoint()`, it can be stopped."
)
EVENT = (
    "It waits for an event. Written as "
    "`while not event.wait(timeout=1): checkpoint()`, it can be stopped."
)
GET = (
    "It waits for something in a queue. To be stopped, call `queue.get(timeout=1)` in a loop, "
    "and `checkpoint()` whenever that raises `queue.Empty`."
)
PUT = (
    "It waits for room in a queue. To be stopped, call `queue.put(item, timeout=1)` in a loop, "
    "and `checkpoint()` whenever that raises `queue.Full`."
)
NETWORK = (
    "It waits for the network. Give the call a timeout, and call `checkpoint()` between attempts; "
    "or use an async client in an async flow, which stops at every await."
)
COMMAND = "It waits for a command. `run_process(…)` runs one that ends when the run is cancelled."
READ = (
    "It waits for a pipe or file to read from. `run_process(…)` reads a command's output, "
    "and ends it when the run is cancelled."
)
JOIN = (
    "It waits for a thread or process. To be stopped, call `join(timeout=1)` in a loop "
    "with `checkpoint()`."
)
FUTURE = (
    "It waits for a future. To be stopped, call `future.result(timeout=1)` in a loop with "
    "`checkpoint()`; or submit a task of the flow, which is cancelled with it."
)
SLEEP_IN_CLEANUP = (
    "It sleeps in an `except`, a `finally` or the end of a `with`, which is left to end. "
    "Sleep before it, or for less."
)
CLEANUP = (
    "It is in an `except`, a `finally` or the end of a `with`, which is left to end until the "
    "run is killed."
)
SHIELD = "It is within `shield()`, which is left to end."
IN_C = (
    "It is in `{call}`, which is written in C and cannot be stopped before it returns. "
    'Run it with `on="process"`.'
)
HELD_ALL = (
    "All of Python was held up for {seconds:.1f} s, as by a call of code in C. "
    'Run such code with `on="process"`.'
)

_NAMES = {  # functions of the standard library that wait, by the hint for them
    LOCK: "threading.Semaphore.acquire threading._RLock.acquire",
    CONDITION: "threading.Condition.wait threading.Condition.wait_for threading.Barrier.wait",
    EVENT: "threading.Event.wait",
    GET: "queue.Queue.get queue.Queue.join multiprocessing.queues.Queue.get",
    PUT: "queue.Queue.put multiprocessing.queues.Queue.put",
    JOIN: "threading.Thread.join multiprocessing.process.BaseProcess.join",
    FUTURE: """
        concurrent.futures._base.Future.result concurrent.futures._base.Future.exception
        concurrent.futures._base.wait concurrent.futures._base.as_completed
        concurrent.futures.thread.ThreadPoolExecutor.shutdown
        concurrent.futures.process.ProcessPoolExecutor.shutdown
        multiprocessing.pool.ApplyResult.get multiprocessing.pool.ApplyResult.wait
        """,
    COMMAND: """
        subprocess.run subprocess.call subprocess.check_call subprocess.check_output
        subprocess.getoutput subprocess.getstatusoutput
        subprocess.Popen.wait subprocess.Popen.communicate
        """,
    READ: """
        multiprocessing.connection._ConnectionBase.recv
        multiprocessing.connection._ConnectionBase.recv_bytes
        """,
    NETWORK: """
        socket.socket.accept socket.create_connection socket.getaddrinfo
        socket.SocketIO.readinto socket.SocketIO.write
        ssl.SSLSocket.connect ssl.SSLSocket.do_handshake ssl.SSLSocket.read ssl.SSLSocket.recv
        ssl.SSLSocket.recv_into ssl.SSLSocket.send ssl.SSLSocket.sendall
        selectors.SelectSelector.select selectors._PollLikeSelector.select
        selectors.EpollSelector.select selectors.KqueueSelector.select
        """,
}
_FUNCTIONS = {name: hint for hint, names in _NAMES.items() for name in names.split()}
_IN_C = {  # by the class or module of what is called
    "_thread": {"acquire": LOCK, "acquire_lock": LOCK, "__enter__": LOCK},
    "_queue": {"get": GET, "put": PUT},
    "select": {"select": NETWORK, "poll": NETWORK},
    "posix": dict.fromkeys(("system", "waitpid", "wait", "waitid"), COMMAND) | {"read": READ},
    "nt": dict.fromkeys(("system", "waitpid"), COMMAND) | {"read": READ},
}
_CALLS = frozenset({"CALL", "CALL_KW", "CALL_FUNCTION_EX", "PRECALL"})
_ENTERS = frozenset({"BEFORE_WITH", "LOAD_SPECIAL"})
_OPERATES = frozenset({"BINARY_OP", "COMPARE_OP", "CONTAINS_OP", "BINARY_SUBSCR", "FOR_ITER"})
_WRITTEN_IN_C = (BuiltinFunctionType, MethodDescriptorType)
_LONGEST_CALL = 60  # characters of a call that is quoted


def wait_on(frames: Sequence[FrameType]) -> str | None:
    """Return the hint for a stack, the innermost frame first, that waits in a well-known way."""
    frames = list(takewhile(_is_not_the_engines, frames))
    if not any(is_own(frame.f_code, packages=True) for frame in frames):
        return None  # the engine waits: that can be stopped
    for frame in reversed(frames):
        known = _FUNCTIONS.get(f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}")
        if known is not None:
            return known
    return _wait_in_c(frames[0]) if frames else None


def cleanup_on(frames: Sequence[FrameType]) -> str | None:
    """Return the hint for a stack, the innermost frame first, that is in a cleanup."""
    sleeps = False
    for frame in frames:
        code = frame.f_code
        sleeps = sleeps or code is checkpoints.sleep.__code__
        if code in entries or is_engine_module(frame.f_globals.get("__name__")):
            continue
        if code.co_name in ("__exit__", "__aexit__") or frame.f_lasti in cleanup_offsets(code):
            return SLEEP_IN_CLEANUP if sleeps else CLEANUP
    return None


def c_call_on(frame: FrameType) -> str | None:
    """Return the hint for a topmost frame that does not move: it is in a call of code in C."""
    if _operation(frame) not in _CALLS | _OPERATES:
        return None
    text, _ = _expression(frame)
    return IN_C.format(call=_shortened(text)) if text else None


def _is_not_the_engines(frame: FrameType) -> bool:
    return not is_engine_module(frame.f_globals.get("__name__"))


def _wait_in_c(frame: FrameType) -> str | None:
    """Return the hint for a frame whose very call is one that waits."""
    operation = _operation(frame)
    if operation not in _CALLS | _ENTERS | {"FOR_ITER"}:
        return None
    _, node = _expression(frame)
    if node is None:
        return None
    home, name = "", ""
    if isinstance(node, ast.Call) and operation in _CALLS:
        owner, callee = _called(node.func, frame)
        if isinstance(callee, _WRITTEN_IN_C):
            home, name = str(getattr(callee, "__module__", "")), callee.__name__
    else:
        owner = _looked_up(node, frame)
        name = "readline" if operation == "FOR_ITER" else "__enter__"
    if issubclass(type(owner), socket.socket):
        return NETWORK
    if issubclass(type(owner), io.IOBase) and name.startswith("read"):
        return READ
    known = _IN_C.get(home) or _IN_C.get(type(owner).__module__) or {}
    return known.get(name)


def _operation(frame: FrameType) -> str:
    code, offset = frame.f_code.co_code, frame.f_lasti
    while offset > 0 and dis.opname[code[offset]] == "CACHE":
        offset -= 2
    return dis.opname[code[offset]] if 0 <= offset < len(code) else ""


def _expression(frame: FrameType) -> tuple[str, ast.expr | None]:
    """Return the source of what a frame is at, and that parsed, where there is source."""
    code = frame.f_code
    places = list(code.co_positions())
    if not 0 <= frame.f_lasti // 2 < len(places):
        return "", None
    line, end_line, start, end = places[frame.f_lasti // 2]
    if line is None or end_line is None or start is None or end is None:
        return "", None
    lines = linecache.getlines(code.co_filename, frame.f_globals)[line - 1 : end_line]
    if not lines:
        return "", None
    encoded = [text.encode() for text in lines]
    encoded[-1] = encoded[-1][:end]
    encoded[0] = encoded[0][start:]
    text = b"".join(encoded).decode(errors="replace")
    try:
        if text.startswith(("with ", "for ")):  # before Python 3.13 that is the whole statement
            return text, _subject(ast.parse(text).body[0])
        return text, ast.parse(f"({text}\n)", mode="eval").body
    except (SyntaxError, ValueError):
        return text, None


def _subject(statement: ast.stmt) -> ast.expr | None:
    """Return what a statement enters or goes through."""
    if isinstance(statement, ast.With):
        return statement.items[0].context_expr
    return statement.iter if isinstance(statement, ast.For) else None


def _called(function: ast.expr, frame: FrameType) -> tuple[Any, Any]:
    """Return whose attribute is called, if it is one, and what is called."""
    if isinstance(function, ast.Attribute):
        owner = _looked_up(function.value, frame)
        return owner, inspect.getattr_static(owner, function.attr, None)
    callee = _looked_up(function, frame)
    return getattr(callee, "__self__", None) if inspect.isbuiltin(callee) else None, callee


def _looked_up(node: ast.expr, frame: FrameType) -> Any:
    """Return what a name, or a name's attributes, stand for; None if it cannot be told."""
    if isinstance(node, ast.Attribute):
        return inspect.getattr_static(_looked_up(node.value, frame), node.attr, None)
    if not isinstance(node, ast.Name):
        return None
    for names in (frame.f_locals, frame.f_globals, vars(builtins)):
        if node.id in names:
            return names[node.id]
    return None


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_CALL else f"{text[:_LONGEST_CALL]}…"

"""What a run prints, logs and asks for, taken where it is made.

`install` puts a few routers in place, once for the process, and they stay: each
looks at the context variable `current` and either serves the run whose code is
calling, or calls what was there before. Nothing is swapped when a run begins or
ends, so overlapping runs cannot undo each other.

    sys.stdout, sys.stderr   their `write` and `flush`, on the stream objects
    threading.Thread.start   a thread that a run starts belongs to the run
    ThreadPoolExecutor.submit  so does what a run gives to a pool
    logging                  records go to the run's log, with level and logger
    warnings                 likewise, at level WARNING
    time.sleep               becomes a checkpoint
    input, breakpoint        become a question to people, and a clear error
    tqdm                     becomes a progress bar, see `tqdm_bars`

`builtins.print` is never touched: it writes to `sys.stdout`, whoever that is,
and ``print(file=...)`` goes where it says.

Guarantees:

- Outside of runs every router does what was done before it was installed.
- `install` may be called by any thread, again and again: it adds what is missing,
  such as a `sys.stdout` that somebody has replaced.
"""

from __future__ import annotations

import builtins
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import wraps
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO, cast

from jupyter_flows.engine import checkpoints, tqdm_bars
from jupyter_flows.engine.asking import ask_for_input
from jupyter_flows.engine.current import current
from jupyter_flows.engine.helping import helping
from jupyter_flows.engine.runs import STDERR, STDOUT
from jupyter_flows.engine.threads import EngineThread
from jupyter_flows.errors import NobodyToAsk, RunCancellation
from jupyter_flows.records import source_within

if TYPE_CHECKING:
    from jupyter_flows.engine.life import Life

_lock = threading.Lock()
_ROUTER = "_jupyter_flows_router"  # marks what is installed


def install() -> None:
    """Put every router in place that is not there yet."""
    with _lock:
        if current.get() is None:  # in a run it may be the run that has replaced its `sys.stdout`
            route_stream(sys.stdout, STDOUT)
            route_stream(sys.stderr, STDERR)
        _route(builtins, "input", _input)
        _route(sys, "breakpointhook", _breakpointhook)
        _route(threading.Thread, "start", _start_thread)
        _route(ThreadPoolExecutor, "submit", _submit)
        _route(logging.Logger, "callHandlers", _call_handlers)
        _route(warnings, "showwarning", _show_warning)
        tqdm_bars.install()
        if _route(time, "sleep", lambda real: checkpoints.sleep):
            _rebind_sleep()


def _route(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> bool:
    before = getattr(owner, name, None)
    if before is None or getattr(before, _ROUTER, False):
        return False
    router = make(before)
    if router is not checkpoints.sleep:
        router = wraps(before)(router)
    setattr(router, _ROUTER, True)
    setattr(owner, name, router)
    return True


# -- streams ----------------------------------------------------------------------------


def route_stream(stream: TextIO | None, level: int) -> None:
    """Let what a run writes to a stream be a line of its log, of this level. Harmless again."""
    if stream is None or getattr(stream.write, _ROUTER, False):
        return
    write, flush = _routed_write(stream.write, level), _routed_flush(stream.flush, level)
    try:
        kind: Any = type(stream)
        routed = type(kind.__name__, (_RoutedStream, kind), {"__module__": kind.__module__})
        stream.__class__ = routed
    except TypeError:  # a stream written in C: nobody else changes its methods
        try:
            stream.write = write  # type: ignore[method-assign]
            stream.flush = flush  # type: ignore[method-assign]
        except AttributeError:  # one that cannot be changed at all: its prints pass
            return
    else:
        vars(stream).update(_jupyter_flows_write=write, flush=flush)


class _RoutedStream:
    """A stream whose `write` stays routed when others put their own in its place.

    IPython does, to record what each cell prints: it takes `stream.write`, sets one
    that calls it, and sets the first back when the cell ends.
    """

    @property
    def write(self) -> Callable[[str], int]:
        """What `print` calls."""
        write: Callable[[str], int] = self.__dict__["_jupyter_flows_write"]
        return write

    @write.setter
    def write(self, write: Callable[[str], int]) -> None:
        if not getattr(write, _ROUTER, False):
            level = getattr(self.__dict__["_jupyter_flows_write"], "level", STDOUT)
            write = _routed_write(write, level)
        self.__dict__["_jupyter_flows_write"] = write


def _routed_write(write: Callable[[str], int], level: int) -> Callable[[str], int]:
    def routed(text: str) -> int:
        owner = current.get()
        if owner is None:
            return write(text)
        writer = owner.stream(level)
        if writer is None:
            return write(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        writer.write(text)
        if owner.pending and text.endswith("\n"):  # a line is never cut in two
            checkpoints.heed(owner, forced=False)
        return len(text)

    vars(routed).update({_ROUTER: True, "level": level})
    return routed


def _routed_flush(flush: Callable[[], None], level: int) -> Callable[[], None]:
    def routed() -> None:
        owner = current.get()
        writer = None if owner is None else owner.stream(level)
        if writer is None:
            flush()
        else:
            writer.flush()

    return routed


# -- threads ----------------------------------------------------------------------------


def _start_thread(start: Callable[..., None]) -> Callable[..., None]:
    def routed(thread: threading.Thread) -> None:
        owner = current.get()
        if owner is not None and not isinstance(thread, EngineThread):
            run_of_thread = owner.flow_run
            context = copy_context()
            body = thread.run

            def run() -> None:
                try:
                    context.run(helping, owner, body)
                except RunCancellation:
                    pass  # the run of this helper thread was cancelled: it is to end
                finally:
                    run_of_thread.thread_ended()
                    del thread.run

            thread.run = run  # type: ignore[method-assign]
        start(thread)

    return routed


def _submit(submit: Callable[..., Any]) -> Callable[..., Any]:
    def routed(pool: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kw: Any) -> Any:
        owner = current.get()
        if owner is None:
            return submit(pool, fn, *args, **kw)
        context = copy_context()
        token = current.set(None)  # a thread that the pool starts is the pool's, not the run's
        try:
            return submit(pool, context.run, helping, owner, fn, *args, **kw)
        finally:
            current.reset(token)

    return routed


# -- logging and warnings ---------------------------------------------------------------


class _Muted:
    """A run while handlers show a record that its log has already: what they print vanishes."""

    pending = False

    def __init__(self, owner: Life) -> None:
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._owner, name)

    def stream(self, level: int) -> _Muted:
        return self

    def write(self, text: str) -> None:
        return

    def flush(self) -> None:
        return


_formatter = logging.Formatter()


def _call_handlers(call: Callable[..., None]) -> Callable[..., None]:
    def routed(logger: logging.Logger, record: logging.LogRecord) -> None:
        owner = current.get()
        if owner is None or not _captured(logger, owner):
            call(logger, record)
            return
        source = record.name
        name = getattr(record, "jupyter_flows_source", None)
        _log(owner, record.levelno, name or source, record)
        token = current.set(cast(Any, _Muted(owner)))
        try:
            call(logger, record)
        finally:
            current.reset(token)
        if owner.pending:
            checkpoints.heed(owner, forced=False, frame=_frame_that_logs())

    return routed


def _frame_that_logs() -> FrameType | None:
    """Return the frame that called `logging`, which has nothing to clean up here."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") in (__name__, "logging"):
        frame = frame.f_back
    return frame


def _captured(logger: logging.Logger, owner: Any) -> bool:
    own = logger.name.startswith("jupyter_flows.")
    return own or owner.stream(STDERR) is not None


def _log(owner: Any, level: int, source: str, record: logging.LogRecord) -> None:
    try:
        message = record.getMessage()
    except Exception as error:  # as `logging` itself, which prints such an error
        message = f"{record.msg!r} cannot be formatted: {error}"
    if record.exc_info:
        message = f"{message}\n{_formatter.formatException(record.exc_info)}"
    if owner.flow_run is not owner.listed:
        source = source_within(owner.name, source)
    for line in message.split("\n"):
        owner.flow_run.log.add(level, source, line)


def _show_warning(show: Callable[..., None]) -> Callable[..., None]:
    def routed(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        owner = current.get()
        if owner is None or file is not None or owner.stream(STDERR) is None:
            show(message, category, filename, lineno, file, line)
            return
        text = warnings.formatwarning(message, category, filename, lineno, line).rstrip("\n")
        for part in text.split("\n"):
            owner.flow_run.log.add(logging.WARNING, "warnings", part)

    return routed


# -- sleep, input, breakpoint -----------------------------------------------------------


def _rebind_sleep() -> None:
    """Let modules that said ``from time import sleep`` earlier have the new one too.

    The standard library keeps the real one: its code was not written to be
    stopped inside.
    """
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if name != "__main__" and (top in sys.stdlib_module_names or top == "jupyter_flows"):
            continue
        names = getattr(module, "__dict__", {})
        for key, value in list(names.items()):
            if value is checkpoints.real_sleep:
                names[key] = checkpoints.sleep


def _input(ask: Callable[..., str]) -> Callable[..., str]:
    def routed(prompt: object = "", /) -> str:
        owner = current.get()
        if owner is None or owner.stream(STDOUT) is None:
            return ask(prompt)
        return ask_for_input(owner, str(prompt))

    return routed


def _breakpointhook(hook: Callable[..., Any]) -> Callable[..., Any]:
    def routed(*args: Any, **kwargs: Any) -> Any:
        if current.get() is None:
            return hook(*args, **kwargs)
        raise NobodyToAsk(
            "breakpoint() cannot stop in a background run, as the debugger could not be "
            "talked to. Call the function in a plain cell to debug it."
        )

    return routed

"""Where what a command says is shown: in the log of its run, or on this process's streams.

Guarantees:

- A line in the log names the program, and the task that has run it.
- A stream that is closed, or cannot show what comes, costs the command nothing.

A sink is for one thread at a time.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TextIO

from jupyter_flows.engine.life import Life
from jupyter_flows.engine.runs import STDOUT, FlowRun
from jupyter_flows.records import source_within

Argument = str | os.PathLike[str]


class Sink(Protocol):
    """Takes what a command says on one of its streams, as it comes."""

    def write(self, text: str, /) -> object: ...

    def close(self) -> None: ...


def name_of(command: str | Sequence[Argument]) -> str:
    """What the log calls a command: its program."""
    if isinstance(command, str):
        try:
            words = shlex.split(command, comments=True)
        except ValueError:  # a quote that is not closed: let the shell say so
            words = command.split()
        command = [word for word in words if "=" not in word]
    return Path(command[0]).name if command else "command"


def sinks_of(name: str, owner: Life | None) -> Callable[[int], Sink]:
    """Return what makes the sink of a command's stdout or stderr, given which it is."""
    if owner is None or owner.stream(STDOUT) is None:
        return lambda level: _Shown(sys.stdout if level == STDOUT else sys.stderr)
    run = owner.flow_run
    source = name if owner is run else source_within(owner.name, name)
    return lambda level: _Logged(run, source)


class _Logged:
    """The log of a run."""

    def __init__(self, run: FlowRun, source: str) -> None:
        self._run = run
        self._writer = run.open_stream(source)
        self.write = self._writer.write

    def close(self) -> None:
        self._run.close_stream(self._writer)


class _Shown:
    """A stream of this process."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # it was closed, or cannot show such characters
            self._stream = None

    def close(self) -> None:
        return

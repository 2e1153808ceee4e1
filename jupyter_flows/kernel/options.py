"""What can be written after ``%%flow`` and ``%flows``: one table to read, explain and complete it.

A line that cannot be read raises `UsageError` of one line: the magic's name, what is
wrong, and where to look. Nothing has been done then.
"""

from __future__ import annotations

import argparse
import inspect
import keyword
import re
import shlex
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NoReturn, TypeVar

from IPython.core.error import UsageError

from jupyter_flows.engine.executors import BACKGROUND
from jupyter_flows.engine.options import checked_metadata
from jupyter_flows.errors import FlowsError
from jupyter_flows.states import StateType

RERUNS = ("enqueue", "replace", "reject", "parallel")
ACTIONS = ("list", "show", "logs", "wait", "cancel", "pause", "resume", "kill", "replay")
F = TypeVar("F", bound=Callable[..., object])

LONGEST_TIME = 1e9  # seconds: some thirty years


class Options(argparse.ArgumentParser):
    """The options of one magic."""

    def __init__(self, magic: str) -> None:
        self.known: list[argparse.Action] = []
        super().__init__(
            prog=magic,
            add_help=False,
            allow_abbrev=False,
            formatter_class=partial(argparse.HelpFormatter, max_help_position=26, width=88),
        )

    def add_argument(self, *names: Any, **details: Any) -> argparse.Action:
        """Add an option or a word that the magic takes."""
        action = super().add_argument(*names, **details)
        self.known.append(action)
        return action

    def error(self, message: str) -> NoReturn:
        """Refuse a line."""
        what = message.removeprefix("argument ")
        raise UsageError(
            f"{self.prog}: {' '.join(what.split())}. See {self.prog}? for its options."
        )

    def read(self, line: str) -> argparse.Namespace:
        """Read what is written after the magic's name."""
        try:
            words = shlex.split(_without_comment(line))
        except ValueError:
            self.error(f"a quote is not closed in {line.strip()!r}")
        return self.parse_args(words)

    def names(self) -> list[str]:
        """Return all options, such as ``--tag``."""
        return [name for action in self.known for name in action.option_strings]

    def takes(self, word: str) -> argparse.Action | None:
        """Return the option `word` if a value is to follow it."""
        for action in self.known:
            if word in action.option_strings and action.nargs != 0:
                return action
        return None

    def explain(self, magic: F) -> F:
        """Put the options into a magic's docstring, which ``%%flow?`` shows."""
        summary, _, rest = inspect.cleandoc(magic.__doc__ or "").partition("\n\n")
        magic.__doc__ = f"{summary}\n\n{self.format_help()}\n{rest}"
        return magic


def one_line(magic: str, error: FlowsError) -> UsageError:
    """Return an error of ours as one line of the magic's."""
    return UsageError(f"{magic}: {' '.join(str(error).split())}")


_COMMENTED = re.compile(r"""(?:[^'"#\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*"|(?<=\S)\#)*""")


def _without_comment(line: str) -> str:
    found = _COMMENTED.match(line)
    end = 0 if found is None else found.end()
    return line[:end] if line[end : end + 1] == "#" else line


def _number(text: str, convert: Callable[[str], float], what: str, most: float) -> float:
    try:
        value = convert(text)
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        raise argparse.ArgumentTypeError(f"needs {what}, 0 or more, not {text!r}")
    return value


def _seconds(text: str) -> float:
    return _number(text, float, "a number of seconds", LONGEST_TIME)


def _count(text: str) -> int:
    return int(_number(text, int, "a whole number", 1_000_000))


def _moment(text: str) -> datetime | timedelta:
    """Read a time: how long ago, such as ``90``, ``15m`` or ``2h``, or a date and time."""
    found = _AGO.fullmatch(text)
    if found is not None and float(found[1]) <= LONGEST_TIME:
        return timedelta(seconds=float(found[1]) * _UNITS[found[2]])
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"needs how long ago, such as 90 (seconds), 15m, 2h or 1d, or a time such as "
            f"2026-01-31T12:00, not {text!r}"
        ) from None


_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"needs KEY=VALUE, not {text!r}")
    try:
        checked_metadata({name: value})
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removesuffix(".")) from None
    return name, value


def _variable(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"needs the name of a variable, not {text!r}")
    return text


def _options(magic: str, arguments: Sequence[tuple[tuple[str, ...], dict[str, Any]]]) -> Options:
    options = Options(magic)
    for names, details in arguments:
        options.add_argument(*names, **details)
    return options


_SWITCH = argparse.BooleanOptionalAction

FLOW_CELL = _options(
    "%%flow",
    [
        (
            ("name",),
            {"nargs": "?", "default": "cell", "help": "The flow's name; in quotes, with spaces."},
        ),
        (
            ("--on",),
            {
                "choices": tuple(BACKGROUND),
                "help": "The worker: a thread, an event loop of its own, a process, or the "
                "kernel's loop.",
            },
        ),
        (
            ("--timeout",),
            {
                "type": _seconds,
                "metavar": "SECONDS",
                "help": "After which it has failed; the clock stands still while it is paused.",
            },
        ),
        (
            ("--retries",),
            {"type": _count, "metavar": "N", "help": "How many attempts may follow a failed one."},
        ),
        (
            ("--retry-delay",),
            {"type": _seconds, "metavar": "SECONDS", "help": "How long to wait before each."},
        ),
        (
            ("--tag",),
            {
                "action": "append",
                "default": [],
                "metavar": "WORD",
                "help": "A word to find its runs by; repeatable.",
            },
        ),
        (
            ("--meta",),
            {
                "action": "append",
                "default": [],
                "type": _pair,
                "metavar": "KEY=VALUE",
                "help": "A value to find its runs by; repeatable.",
            },
        ),
        (
            ("--grace",),
            {
                "type": _seconds,
                "metavar": "SECONDS",
                "help": "How long a cancel waits for a checkpoint or await before it interrupts.",
            },
        ),
        (
            ("--wait",),
            {"action": _SWITCH, "help": "Wait here, print its log, and fail if it fails."},
        ),
        (
            ("--log-prints",),
            {"action": _SWITCH, "help": "Make a log of what it prints, or let that pass."},
        ),
        (
            ("--out",),
            {"type": _variable, "metavar": "NAME", "help": "Bind the FlowRun to this name."},
        ),
        (
            ("--on-rerun",),
            {
                "choices": RERUNS,
                "help": "When the cell is run while its run is active: wait for that one, "
                "cancel it, refuse, or run both.",
            },
        ),
        (("--view",), {"action": _SWITCH, "help": "Show the run below the cell, or do not."}),
    ],
)

FLOWS = _options(
    "%flows",
    [
        (
            ("action",),
            {"nargs": "?", "default": "list", "choices": ACTIONS, "help": "What to do: list."},
        ),
        (
            ("ids",),
            {"nargs": "*", "metavar": "id", "help": "Ids of runs, or unique beginnings of them."},
        ),
        (
            ("--state",),
            {
                "action": "append",
                "type": str.upper,
                "choices": tuple(map(str, StateType)),
                "metavar": "STATE",
                "help": "Only runs in this state; repeatable.",
            },
        ),
        (
            ("--name",),
            {"action": "append", "metavar": "NAME", "help": "Only runs of this name; repeatable."},
        ),
        (
            ("--tag",),
            {"action": "append", "metavar": "WORD", "help": "Only runs with this tag; repeatable."},
        ),
        (
            ("--meta",),
            {
                "action": "append",
                "type": _pair,
                "metavar": "KEY=VALUE",
                "help": "Only runs with this value; repeatable.",
            },
        ),
        (
            ("--since",),
            {
                "type": _moment,
                "metavar": "TIME",
                "help": "Only runs made then or later: so long ago, such as 90 (seconds), 15m or "
                "2h, or a time such as 2026-01-31T12:00.",
            },
        ),
        (("--until",), {"type": _moment, "metavar": "TIME", "help": "Or earlier."}),
        (("--all",), {"action": "store_true", "help": "All runs that have not ended."}),
        (
            ("--timeout",),
            {
                "type": _seconds,
                "metavar": "SECONDS",
                "help": "wait: how long at most. The runs go on.",
            },
        ),
        (
            ("--input",),
            {
                "metavar": "JSON",
                "help": "resume: what a run that waits for input is to have; text, if it is text. "
                "Beside it the id is text: {name} is not replaced.",
            },
        ),
    ],
)

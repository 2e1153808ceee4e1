"""The control protocol: what may be asked of a kernel, and what it answers.

A client sends ``flows_request`` on the kernel's *control channel* and gets one
``flows_reply``. Both are Jupyter messages with a JSON object as content:

    request  {"protocol": 1, "action": "logs", "run": "<id>", "start": 0, "stop": 200}
    reply    {"protocol": 1, "status": "ok", "lines": [...], "first": 0, "count": 1204}
    reply    {"protocol": 1, "status": "error", "ename": "UnknownRun", "evalue": "..."}

While somebody watches a run, the kernel also publishes ``flows_changed`` on
IOPub, at most `CHANGES_PER_SECOND` times a second a run:

    {"protocol": 1, "run": {RunRecord}, "lines": [...]}

where `lines` is the newest of the log that was not published before, as many as
`MAX_PUSHED_LINES` and `MAX_PUSHED_CHARACTERS` allow; a watcher that wants the
lines between asks for them by number.

Rules:

- The actions are an allow-list, `ACTIONS`: each a class whose fields are all that
  a request may hold. `parse` checks every one of them and raises `BadRequest`
  with one line that says what is wrong; nothing has been done then.
- A reply to any action that acts on a run holds its `RunRecord` as ``run``.
- Runs are named by their whole id: a stale view can never act on another run.
- The server's REST API answers with the same objects.

Standard library only.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from jupyter_flows.errors import BadRequest

PROTOCOL = 1
REQUEST = "flows_request"
REPLY = "flows_reply"
CHANGED = "flows_changed"

CHANGES_PER_SECOND = 20  # so that a run never floods a browser: design figure, see the README
MAX_LINES = 2_000  # lines in one reply: a screen shows about 50
MAX_PUSHED_LINES = 200  # lines in one push
MAX_PUSHED_CHARACTERS = 20_000  # in one push, for all that is watched: under 0.5 MB/s
MAX_LINE_CHARACTERS = 20_000  # a longer line is cut in replies and pushes, and says so
MAX_TASKS = 1_000  # tasks in one reply
MAX_OUTPUTS = 50  # rich outputs in one reply
MAX_STACKS = 100  # stacks in one reply
MAX_INPUT_CHARACTERS = 100_000  # of what a person answers, as JSON
WATCH_SECONDS = 60.0  # how long a watch lasts unless renewed

Check = Callable[[Any], str | None]


def _text(longest: int) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return "must be text"
        if len(value) > longest:
            return f"must be no longer than {longest:,} characters"
        return None

    return check


def _whole(most: int) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        if not 0 <= value <= most:
            return f"must be between 0 and {most:,}"
        return None

    return check


def _optional(inner: Check) -> Check:
    return lambda value: None if value is None else inner(value)


def _seconds(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number of seconds"
    if not 0 <= value <= 1e9:
        return "must be between 0 and 1,000,000,000 seconds"
    return None


def _reason(value: Any) -> str | None:
    complaint = _text(1_000)(value)
    if complaint is None and (not value or value == "timeout"):
        return "must say why, in words"
    return complaint


def _json(longest: int) -> Check:
    def check(value: Any) -> str | None:
        try:
            length = len(json.dumps(value))
        except (TypeError, ValueError, RecursionError):
            return "must be JSON"
        return f"must be no longer than {longest:,} characters" if length > longest else None

    return check


_ID = _text(64)
_NUMBER = _whole(2**53 - 1)  # what JavaScript can count to


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Ask who is there: version, protocol and the `KernelRecord`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRuns:
    """Ask for this kernel's runs, newest first, as ``runs``."""

    limit: int = field(default=100, metadata={"check": _whole(1_000)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """Ask for one run as it is now, as ``run``."""

    run: str = field(metadata={"check": _ID})


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """Ask for the lines `start` to before `stop`, as ``lines``, with ``first`` and ``count``.

    Lines that are no longer in memory come from the store.
    """

    run: str = field(metadata={"check": _ID})
    start: int = field(default=0, metadata={"check": _NUMBER})
    stop: int = field(default=2**53 - 1, metadata={"check": _NUMBER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """Ask for the tasks `start` to before `stop`, as ``tasks``."""

    run: str = field(metadata={"check": _ID})
    start: int = field(default=0, metadata={"check": _NUMBER})
    stop: int = field(default=2**53 - 1, metadata={"check": _NUMBER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Ask for the rich outputs that changed after `since`, as ``outputs``.

    Each is ``{number, change, data, metadata}``; `number` is its place and
    `change` the count to ask from next. ``numbers`` lists all that are there, in
    their order: what is not among them was cleared.
    """

    run: str = field(metadata={"check": _ID})
    since: int = field(default=0, metadata={"check": _NUMBER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Transitions:
    """Ask for every move of the run, as ``transitions``."""

    run: str = field(metadata={"check": _ID})


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Ask to be told of changes for `seconds`; answered like `Show`, with the log's tail."""

    run: str = field(metadata={"check": _ID})
    seconds: float = field(default=WATCH_SECONDS, metadata={"check": _seconds})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Ask a run to stop; `reason` is kept, in words, and told of it."""

    run: str = field(metadata={"check": _ID})
    reason: str | None = field(default=None, metadata={"check": _optional(_reason)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Stop a run by force now, without waiting for the grace that a cancel gives it."""

    run: str = field(metadata={"check": _ID})


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """Give a run up whose code cannot be stopped: what it still does is dropped."""

    run: str = field(metadata={"check": _ID})


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Ask where a run's code is, as ``stacks``: one for each thread, coroutine and process.

    ``count`` says how many there are, if more than travel.
    """

    run: str = field(metadata={"check": _ID})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Ask a run to hold still."""

    run: str = field(metadata={"check": _ID})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Let a paused run go on; `input` answers a run that waits for input.

    What fits is told by the `schema` of what the run is `waiting` for; text is asked
    for where that has none. What does not fit is refused with `InvalidInput`, and the
    run waits on. `question` is the `number` of what is answered, so that no answer
    comes to a question that its giver has not read; 0 only lifts a pause.
    """

    run: str = field(metadata={"check": _ID})
    input: Any = field(default=None, metadata={"check": _json(MAX_INPUT_CHARACTERS)})
    question: int | None = field(default=None, metadata={"check": _optional(_NUMBER)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Let a run that waits for an earlier run of its cell cancel that one and begin."""

    run: str = field(metadata={"check": _ID})


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Do a run that has ended again; the reply's ``run`` is the new one."""

    run: str = field(metadata={"check": _ID})


Request = (
    Hello
    | ListRuns
    | Show
    | Logs
    | Tasks
    | Outputs
    | Transitions
    | Watch
    | Cancel
    | Kill
    | Abandon
    | Where
    | Pause
    | Resume
    | Replace
    | Replay
)

ACTIONS: Mapping[str, type[Request]] = {
    "hello": Hello,
    "list": ListRuns,
    "show": Show,
    "logs": Logs,
    "tasks": Tasks,
    "outputs": Outputs,
    "transitions": Transitions,
    "watch": Watch,
    "cancel": Cancel,
    "kill": Kill,
    "abandon": Abandon,
    "where": Where,
    "pause": Pause,
    "resume": Resume,
    "replace": Replace,
    "replay": Replay,
}


def parse(content: Any) -> Request:
    """Read the content of a ``flows_request``.

    Raises:
        BadRequest: it is not one that the protocol knows; says why in one line.
    """
    if not isinstance(content, dict):
        raise BadRequest("A flows_request holds a JSON object.")
    protocol = content.get("protocol")
    if protocol != PROTOCOL or isinstance(protocol, bool):
        raise BadRequest(
            f"This kernel speaks protocol {PROTOCOL}, not {_short(protocol)}. "
            "Use the same version of jupyter_flows on both sides."
        )
    action = content.get("action")
    kind = ACTIONS.get(action) if isinstance(action, str) else None
    if kind is None:
        raise BadRequest(f"Unknown action {_short(action)}. Known: {', '.join(ACTIONS)}.")
    known = {spec.name: spec for spec in fields(kind)}
    unknown = [name for name in content if name not in known and name not in ("protocol", "action")]
    if unknown:
        raise BadRequest(f"The action {action!r} has no field {_short(unknown[0])}.")
    for name, spec in known.items():
        if name not in content:
            if spec.default is MISSING:
                raise BadRequest(f"The action {action!r} needs the field {name!r}.")
            continue
        complaint = spec.metadata["check"](content[name])
        if complaint:
            raise BadRequest(f"The field {name!r} of {action!r} {complaint}.")
    return kind(**{name: content[name] for name in known if name in content})


def ok(**content: Any) -> dict[str, Any]:
    """Make the content of a reply."""
    return {"protocol": PROTOCOL, "status": "ok", **content}


def cut(message: str) -> str:
    """Shorten a line that is too long to travel, and say so."""
    over = len(message) - MAX_LINE_CHARACTERS
    return message if over <= 0 else f"{message[:MAX_LINE_CHARACTERS]} … ({over:,} more characters)"


def refused(error: BaseException) -> dict[str, Any]:
    """Make the content of a reply that says what went wrong."""
    return {
        "protocol": PROTOCOL,
        "status": "error",
        "ename": type(error).__name__,
        "evalue": str(error),
    }


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "…"

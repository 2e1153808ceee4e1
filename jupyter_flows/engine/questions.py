"""What a run asks a person, and how an answer is read.

Rules:

- An answer is JSON, whoever gives it: so it means the same from Python, a magic, the
  control channel or a browser, and may travel to the process that asks.
- It is read by whoever gives it, before anything has changed, so that a bad one is
  refused to that person's face. What cannot be read raises `InvalidInput`.
- Reading may call validators of the user's: no lock is held then.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import PurePath
from typing import Any
from uuid import UUID

from jupyter_flows.errors import InvalidInput
from jupyter_flows.messages import MAX_INPUT_CHARACTERS
from jupyter_flows.records import Waiting

Read = Callable[[str], Any]
"""Makes of an answer, as JSON, what the code that asked gets; raises `InvalidInput`."""


class Question:
    """What a run asks a person, and the answer to come."""

    __slots__ = ("answered", "read", "value", "waiting")

    def __init__(self, waiting: Waiting, read: Read | None = None) -> None:
        self.waiting = waiting
        self.read = read or partial(read_plainly, waiting)
        self.answered = False
        self.value: Any = None


def read_plainly(waiting: Waiting, text: str) -> str | None:
    """Read the answer to a question that has no schema: a go-ahead, or a line of text."""
    answer = json.loads(text)
    if waiting.kind == "approval":
        if answer is not None:
            raise InvalidInput(
                "The run waits for approval, not for input: resume it without. It waits on."
            )
        return None
    if not isinstance(answer, str | None):
        raise InvalidInput(
            f"The run waits for a line of text, not for a {type(answer).__name__}. It waits on."
        )
    return answer or ""


def as_json(run_input: Any) -> str:
    """Write an answer as JSON: None, if there is none, as ``null``.

    Raises:
        InvalidInput: it cannot be written as JSON, or is too long.
    """
    try:
        text = json.dumps(run_input, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"The input cannot be written as JSON: {error}.") from None
    if len(text) > MAX_INPUT_CHARACTERS:
        raise InvalidInput(
            f"The input is {len(text):,} characters long as JSON, more than "
            f"{MAX_INPUT_CHARACTERS:,}. Put it into a file, and answer with its name."
        )
    return text


def _plain(value: Any) -> Any:
    """Say how JSON writes what it does not know: as pydantic does."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, UUID | Decimal | PurePath):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no form there")

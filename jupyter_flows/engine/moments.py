"""Times as users write them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TypeAlias

Moment: TypeAlias = datetime | timedelta | float
"""A time: a `datetime` (without a zone it is local time), or how long ago, in seconds or as
a `timedelta`."""


def seconds_since_epoch(name: str, value: Moment | None) -> float | None:
    """Return a time that was given as the argument `name`.

    Raises:
        TypeError: it is none.
    """
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"{name} must be a datetime, or how long ago, in seconds or as a timedelta, "
            f"not {value!r}."
        )
    return time.time() - value

"""Numbers as users write them. A bool, which Python takes for 0 or 1, is a slip: it is none."""

from __future__ import annotations

from math import isfinite
from typing import Any, TypeGuard


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that is neither infinite nor NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number, such as a count."""
    return isinstance(value, int) and not isinstance(value, bool)

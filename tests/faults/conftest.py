"""How often each fault is repeated, and how its figures are written."""

from collections.abc import Callable
from statistics import median

import pytest

from tests.repeats import FULL


@pytest.fixture(scope="session")
def times() -> Callable[[int, int], int]:
    """Return how often to repeat: the first number, or in full the second."""
    return lambda short, full: full if FULL else short


def milliseconds(seconds: list[float]) -> str:
    """Describe durations by their median and their 99th percentile."""
    if not seconds:
        return "none"
    late = sorted(seconds)[int(len(seconds) * 0.99)]
    return f"median {median(seconds) * 1e3:.2f} ms, 99 % within {late * 1e3:.2f} ms"

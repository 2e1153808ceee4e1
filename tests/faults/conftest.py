"""How often each fault is repeated, and the figures at the end."""

import sys
from collections.abc import Callable
from statistics import median

import pytest

from tests.repeats import FULL

_figures: list[str] = []


@pytest.fixture(scope="session")
def times() -> Callable[[int, int], int]:
    """Return how often to repeat: the first number, or in full the second."""
    return lambda short, full: full if FULL else short


@pytest.fixture(scope="session")
def figure() -> Callable[[str], None]:
    """Print a line at the end of the session."""
    return _figures.append


def milliseconds(seconds: list[float]) -> str:
    """Describe durations by their median and their 99th percentile."""
    if not seconds:
        return "none"
    late = sorted(seconds)[int(len(seconds) * 0.99)]
    return f"median {median(seconds) * 1e3:.2f} ms, 99 % within {late * 1e3:.2f} ms"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        version = sys.version.split()[0]
        counts = "full counts" if FULL else "short counts; JUPYTER_FLOWS_FULL=1 for the full ones"
        terminalreporter.section(f"faults on Python {version}, {counts}")
        for line in _figures:
            terminalreporter.write_line(line)

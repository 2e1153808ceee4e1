"""How figures are measured: in turns with their yardstick, the median of rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure, beside its yardstick and the bar it is to meet."""

    what: str
    ours: float
    unit: str
    yardstick: float | None = None
    bar: str = ""
    met: bool | None = None

    @property
    def ratio(self) -> float | None:
        """Ours in yardsticks."""
        return None if self.yardstick is None else self.ours / self.yardstick


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes, in seconds."""
    begun = perf_counter()
    work()
    return perf_counter() - begun


def in_turns(
    ours: Callable[[], object], yardstick: Callable[[], object], rounds: int = 7
) -> tuple[float, float]:
    """Return the median seconds of both, taken in turns after one round to warm up."""
    ours(), yardstick()
    pairs = [(seconds(ours), seconds(yardstick)) for _ in range(rounds)]
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)


def paired_ratio(
    ours: Callable[[], object], yardstick: Callable[[], object], rounds: int = 15
) -> float:
    """Return the median of the ratios of runs made side by side."""
    ours(), yardstick()
    return median(seconds(ours) / seconds(yardstick) for _ in range(rounds))

"""What a flow's or task's author decided about its runs, checked where it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

from jupyter_flows.engine.limits import Concurrency


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the author of a flow or task decided about its runs."""

    timeout_seconds: float | None = None
    retries: int = 0
    retry_delay_seconds: float | Sequence[float] | Callable[[int], Sequence[float]] = 0.0
    log_prints: bool = True
    cancel_grace_seconds: float = 1.0  # from the ask until it is interrupted
    kill_grace_seconds: float = 30.0  # from the ask until it is stopped by force, as in Prefect
    concurrency: tuple[Concurrency, ...] = ()  # how many of its runs may be active at once

    def __post_init__(self) -> None:
        timeout, retries = self.timeout_seconds, self.retries
        if timeout is not None and (not is_number(timeout) or timeout <= 0):
            raise ValueError(f"timeout_seconds must be a number above 0, not {timeout!r}.")
        if not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries must be 0 or more, and whole, not {retries!r}.")
        for name in ("cancel_grace_seconds", "kill_grace_seconds"):
            grace = getattr(self, name)
            if not is_number(grace) or grace < 0:
                raise ValueError(f"{name} must be a number of seconds, 0 or more, not {grace!r}.")
        delays = self.retry_delay_seconds
        if not callable(delays):
            for delay in [delays] if isinstance(delays, int | float) else delays:
                if not is_number(delay) or delay < 0:
                    raise ValueError(f"retry_delay_seconds must be 0 or more, not {delay!r}.")

    def chosen(self) -> dict[str, Any]:
        """Return all of it by name, but what a call decides: whether prints are logged."""
        names = [field.name for field in fields(self) if field.name != "log_prints"]
        return {name: getattr(self, name) for name in names}

    def retry_delay(self, attempt: int) -> float:
        """Return how long to wait, in seconds, after the failed `attempt` (from 1)."""
        delay = self.retry_delay_seconds
        if callable(delay):
            delay = delay(self.retries)
        if isinstance(delay, int | float):
            return float(delay)
        return float(delay[min(attempt, len(delay)) - 1]) if delay else 0.0


def is_number(value: Any) -> bool:
    """Whether a value is a number that is neither infinite nor NaN."""
    return isinstance(value, int | float) and isfinite(value)

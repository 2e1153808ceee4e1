"""What a flow's or task's author decided about its runs, checked where it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from inspect import Parameter, Signature, signature
from random import random
from typing import Any, Protocol, TypeVar

from jupyter_flows.engine.limits import Concurrency
from jupyter_flows.engine.numbers import is_number, is_whole
from jupyter_flows.engine.texts import sendable

F = TypeVar("F", bound=Callable[..., Any])


class TaskRunner(Protocol):
    """Bounds how many of the tasks that a run submits are at work at once."""

    max_workers: int | None


RetryDelay = float | Sequence[float] | Callable[[int], Sequence[float]]
RetryCondition = Callable[[Any, Any, Any], Any]
"""Is given the flow or task, its run and the FAILED state; says whether to try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the author of a flow or of a task decided about its runs."""

    timeout_seconds: float | None = None
    retries: int = 0
    retry_delay_seconds: RetryDelay = 0.0
    retry_jitter_factor: float | None = None
    retry_condition_fn: RetryCondition | None = None
    concurrency: tuple[Concurrency, ...] = ()  # how many of its runs may be active at once

    def __post_init__(self) -> None:
        timeout, retries = self.timeout_seconds, self.retries
        if timeout is not None and (not is_number(timeout) or timeout <= 0):
            raise ValueError(f"timeout_seconds must be a number above 0, not {timeout!r}.")
        if not is_whole(retries) or retries < 0:
            raise ValueError(f"retries must be 0 or more, and whole, not {retries!r}.")
        jitter = self.retry_jitter_factor
        if jitter is not None and (not is_number(jitter) or jitter < 0):
            raise ValueError(f"retry_jitter_factor must be a number, 0 or more, not {jitter!r}.")
        condition = self.retry_condition_fn
        if condition is not None and not callable(condition):
            raise TypeError(f"retry_condition_fn must be a function, not {condition!r}.")
        delays = self.retry_delay_seconds
        if not callable(delays):
            for delay in delays if isinstance(delays, Iterable) else [delays]:
                if not is_number(delay) or delay < 0:
                    raise ValueError(f"retry_delay_seconds must be 0 or more, not {delay!r}.")

    def chosen(self) -> dict[str, Any]:
        """Return all of it by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def retry_delay(self, attempt: int) -> float:
        """Return how long to wait, in seconds, after the failed `attempt` (from 1).

        With a jitter of f it is chance, up to 1 + f times as long; on average as long.
        """
        delay = self.retry_delay_seconds
        if callable(delay):
            delay = delay(self.retries)
        if not isinstance(delay, int | float):
            delay = delay[min(attempt, len(delay)) - 1] if delay else 0.0
        if self.retry_jitter_factor:
            delay *= (1 + self.retry_jitter_factor) * random() ** self.retry_jitter_factor
        return float(delay)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOptions(Options):
    """What the author of a flow decided about its runs."""

    persist_result: bool | None = None  # whether results of its tasks are kept
    log_prints: bool = True
    task_runner: TaskRunner | None = None  # how many submitted tasks run at once
    cancel_grace_seconds: float = 1.0  # from the ask until it is interrupted
    kill_grace_seconds: float = 30.0  # from the ask until it is stopped by force, as in Prefect

    def __post_init__(self) -> None:
        Options.__post_init__(self)
        for name in ("cancel_grace_seconds", "kill_grace_seconds"):
            grace = getattr(self, name)
            if not is_number(grace) or grace < 0:
                raise ValueError(f"{name} must be a number of seconds, 0 or more, not {grace!r}.")
        runner: Any = self.task_runner
        if runner is not None and not hasattr(runner, "max_workers"):
            raise TypeError(
                f"task_runner must be a ThreadPoolTaskRunner, made with (...), not {runner!r}."
            )

    def chosen(self) -> dict[str, Any]:
        """Return all of it by name, but what a call decides: whether prints are logged."""
        chosen = Options.chosen(self)
        del chosen["log_prints"]
        return chosen


def refuse_unknown(made: type, options: Iterable[str]) -> None:
    """Raise if a flow or task is to be made with an option that there is not.

    Raises:
        TypeError: it is; the error says which was probably meant.
    """
    known = _names_of(made)
    unknown = [name for name in options if name not in known]
    if not unknown:
        return
    meant = [each for name in unknown for each in get_close_matches(name, known, 1)]
    kind = made.__name__.lower()
    raise TypeError(
        f"A {kind} has no option {', '.join(map(repr, unknown))}: "
        + (f"did you mean {', '.join(map(repr, meant))}?" if meant else f"see help({kind}).")
    )


def shows_options_of(made: type) -> Callable[[F], F]:
    """Let a decorator tell what a flow or task is made with, to help and to completion."""

    def show(decorator: F) -> F:
        function, *options = signature(made).parameters.values()
        function = function.replace(kind=Parameter.POSITIONAL_ONLY, default=None)
        shown: Any = decorator
        shown.__signature__ = Signature([function, *options])
        return decorator

    return show


@cache
def _names_of(made: type) -> tuple[str, ...]:
    """Return the options that a flow or task is made with."""
    return tuple(name for name in signature(made).parameters if name != "fn")


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Make the delays of retries double each time, for ``retry_delay_seconds``.

    Args:
        backoff_factor: the first delay, in seconds.
    """
    if not is_number(backoff_factor) or backoff_factor < 0:
        raise ValueError(f"backoff_factor must be a number, 0 or more, not {backoff_factor!r}.")

    def delays(retries: int) -> list[float]:
        return [backoff_factor * 2**i for i in range(retries)]

    return delays


MOST_METADATA = 100  # entries: they travel with every change of a run
LONGEST_METADATA = 1_000  # characters of a name or a value


def checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Return what is said of runs beside their tags, checked.

    Raises:
        ValueError: it is not a mapping of texts to texts, or too much.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise ValueError(f"metadata must be a dict of texts, not {type(metadata).__name__}.")
    for each in (*metadata, *metadata.values()):
        if not isinstance(each, str) or len(each) > LONGEST_METADATA:
            raise ValueError(
                f"metadata must hold texts of at most {LONGEST_METADATA:,} characters, not "
                f"{each!r:.60}."
            )
    if len(metadata) > MOST_METADATA:
        raise ValueError(f"metadata may have {MOST_METADATA} entries, not {len(metadata):,}.")
    return {sendable(name): sendable(value) for name, value in metadata.items()}

"""How much happens at once: slots of limits that have a name, and limits on runs.

Prefect has its two forms in `jupyter_flows.concurrency.sync` and `.asyncio`; here one
name serves for both.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from jupyter_flows.engine import admission, ports, slots
from jupyter_flows.engine.current import called_from_async, current, loop_of
from jupyter_flows.engine.limits import Concurrency, ConcurrencyStrategy
from jupyter_flows.errors import WouldDeadlock


class concurrency:  # noqa: N801
    """Let only so many blocks of code be entered at once, in all kernels of the user.

    ::

        set_concurrency_limit("database", 3)  # once; it is kept

        with concurrency("database"):         # async with, in async code
            query()

    Where no slot is free the block waits, in the order in which blocks came; a cancel
    or a pause of the run takes hold meanwhile, and the run says what it waits for. The
    slot is given back when the block is left, and at the latest when the run has ended;
    one of a kernel that died is taken from it at once. As in Prefect, a name that nobody
    has set a limit for is not limited. Without the extension, in plain Python, limits
    hold within the process.

    Args:
        names: the limit, or several, of each of which slots are needed.
        occupy: how many slots of each.
        timeout_seconds: how long to wait at most; None, the default, is for ever.
        strict: whether a name without a limit is an error.

    Raises:
        AcquireConcurrencySlotTimeoutError: a `TimeoutError`: there was no slot in time.
        ConcurrencySlotAcquisitionError: `strict`, and there is no such limit.
        StoreUnavailable: it cannot be told how many slots are taken.
        ValueError: the limit has fewer slots than `occupy`.
        WouldDeadlock: the code has all slots itself, or ``with`` would block its event loop.
    """

    def __init__(
        self,
        names: str | Sequence[str],
        occupy: int = 1,
        timeout_seconds: float | None = None,
        *,
        strict: bool = False,
    ) -> None:
        named = [names] if isinstance(names, str) else list(names)
        if not all(isinstance(name, str) and name for name in named):
            raise TypeError(f"names must be a text or a list of texts, not {names!r}.")
        if not isinstance(occupy, int) or occupy < 1:
            raise ValueError(f"occupy must be 1 or more, and whole, not {occupy!r}.")
        if timeout_seconds is not None and (
            not isinstance(timeout_seconds, int | float) or not timeout_seconds >= 0
        ):
            raise ValueError(f"timeout_seconds must be 0 or more, not {timeout_seconds!r}.")
        self._names = list(dict.fromkeys(named))
        self._occupy = occupy
        self._seconds = timeout_seconds
        self._strict = strict
        self._entered: dict[Any, list[slots.Slots | None]] = {}  # by whose code entered it

    def __enter__(self) -> concurrency:
        frame, owner = sys._getframe(1), current.get()
        if called_from_async(owner, frame) or (owner is not None and loop_of(owner) is not None):
            raise WouldDeadlock(
                "`with concurrency()` would block the event loop while it waits: "
                "use `async with concurrency()`."
            )
        taken = slots.take(
            self._names, self._occupy, self._seconds, strict=self._strict, frame=frame
        )
        self._entered.setdefault(slots.here(), []).append(taken)
        return self

    def __exit__(self, *_: Any) -> None:
        whose = slots.here()
        taken = self._entered[whose].pop()
        if not self._entered[whose]:
            del self._entered[whose]
        if taken is not None:
            taken.leave()

    async def __aenter__(self) -> concurrency:
        taken = await slots.take_async(
            self._names, self._occupy, self._seconds, strict=self._strict
        )
        self._entered.setdefault(slots.here(), []).append(taken)
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.__exit__()


def set_concurrency_limit(name: str, limit: int | None) -> None:
    """Set how many slots a limit has that `concurrency` takes slots of.

    It is kept in the store, for all kernels of the user, until it is set anew; in plain
    Python, without the extension, it is this process's.

    Args:
        name: the limit's.
        limit: how many; None lifts the limit.

    Raises:
        StoreUnavailable: it cannot be kept.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"name must be a text, not {name!r}.")
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        raise ValueError(f"limit must be 0 or more, and whole, or None, not {limit!r}.")
    ports.leases.set_limit(name, limit)
    slots.look()


def concurrency_limits() -> dict[str, int]:
    """Return the limits that are set, with how many slots each has."""
    return dict(ports.leases.limits())


def set_tag_limit(tag: str, limit: Concurrency | int | None) -> None:
    """Limit how many task runs, and how many flow runs, with a tag are active in this kernel.

    The two are counted apart, so that a flow's tasks never wait for the flow.

    Args:
        tag: the tag.
        limit: how many, or a `Concurrency`; None lifts the limit.
    """
    if isinstance(limit, int):
        limit = Concurrency(limit)
    if limit is not None and not isinstance(limit, Concurrency):
        raise TypeError(f"limit must be a Concurrency, a number or None, not {limit!r}.")
    admission.set_tag_limit(tag, limit)


def set_max_runs(max_runs: int | None) -> None:
    """Limit how many runs are active in the background of this kernel at once.

    Further ones wait, and begin in the order in which they were started. What a run
    itself starts or calls works under its slot, and what a cell calls in the foreground
    needs none.

    Args:
        max_runs: how many; None lifts the limit.
    """
    if max_runs is not None and (not isinstance(max_runs, int) or max_runs < 1):
        raise ValueError(f"max_runs must be 1 or more, and whole, or None, not {max_runs!r}.")
    admission.set_max_runs(max_runs)


__all__ = [
    "Concurrency",
    "ConcurrencyStrategy",
    "concurrency",
    "concurrency_limits",
    "set_concurrency_limit",
    "set_max_runs",
    "set_tag_limit",
]

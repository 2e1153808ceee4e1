"""Progress bars of a run, as its code makes them.

    for page in progress(pages, description="page"):      # counts by itself
        ...

    with progress(total=len(data), description="rows") as bar:
        for chunk in data:
            bar.update(len(chunk))

    progress.update()        # one step more on the innermost bar

Bars nest: one that begins while another goes on is shown within that. Each step is a
checkpoint, where a cancel or a pause takes hold. Outside of runs nothing is shown, and
the loop is the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Generic, TypeVar

from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.current import current
from jupyter_flows.engine.progress import Bar, current_bar
from jupyter_flows.engine.task_runs import TaskRun
from jupyter_flows.engine.tqdm_bars import is_shown

T = TypeVar("T")


class ProgressBar(Generic[T]):
    """One progress bar: what `progress` returns. To iterate over, once, or to update by hand."""

    def __init__(self, iterable: Any, total: float | None, description: str) -> None:
        self._bar = _begin(description, total)
        self._outer: Bar | None = None
        self._iterator = None
        self._async_iterator = None
        if iterable is None:
            self._enter()
        elif hasattr(iterable, "__aiter__"):
            self._async_iterator = aiter(iterable)
        else:
            self._iterator = iter(iterable)
        self._steps: Iterator[T] | None = None

    def update(self, n: float = 1) -> None:
        """Take `n` steps more. Any thread of the run."""
        if self._bar is not None:
            self._bar.add(n)
        checkpoints.pass_by()

    def close(self) -> None:
        """Say that it has come to its end. Harmless when it has."""
        if self._bar is not None and self._bar.ended is None:
            self._bar.end()
        if current_bar.get() is self._bar and self._bar is not None:
            current_bar.set(self._outer)

    def _enter(self) -> None:
        if self._bar is not None:
            self._outer = current_bar.get()
            current_bar.set(self._bar)

    def __enter__(self) -> ProgressBar[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[T]:
        if self._iterator is None:
            raise TypeError("This bar was given nothing to iterate over: use `update`.")
        return _steps(self, self._iterator)

    def __next__(self) -> T:
        if self._steps is None:
            self._steps = iter(self)
        return next(self._steps)

    def __aiter__(self) -> AsyncIterator[T]:
        if self._async_iterator is None:
            raise TypeError("This bar was given nothing to iterate over with `async for`.")
        return _async_steps(self, self._async_iterator)


def _steps(bar: ProgressBar[T], iterator: Iterator[T]) -> Iterator[T]:
    shown = bar._bar
    bar._enter()
    try:
        for each in iterator:
            checkpoints.pass_by()
            yield each
            if shown is not None:
                shown.done += 1
    finally:
        bar.close()


async def _async_steps(bar: ProgressBar[T], iterator: AsyncIterator[T]) -> AsyncIterator[T]:
    shown = bar._bar
    bar._enter()
    try:
        async for each in iterator:
            checkpoints.pass_by()
            yield each
            if shown is not None:
                shown.done += 1
    finally:
        bar.close()


class _Progress:
    """Makes progress bars, and updates the innermost."""

    def __call__(
        self,
        iterable: Any = None,
        *,
        total: float | None = None,
        description: str = "progress",
    ) -> ProgressBar[Any]:
        """Return a bar in the run's view: to iterate over, or to update by hand.

        Args:
            iterable: what to iterate over, with ``for`` or, if it is async, ``async
                for``; without it the bar is updated by hand, and closed at the end or
                by a ``with`` block.
            total: how many steps there will be; `len(iterable)` by default, if it has
                one. Without a total the bar shows the count and the rate.
            description: what the bar is called.
        """
        if total is None:
            total = length(iterable)
        return ProgressBar(iterable, total, description)

    def update(self, n: float = 1) -> None:
        """Take `n` steps more on the innermost bar of the code that calls it.

        Where there is none, the run gets a bar of its own, without a total. A bar that
        is iterated over counts by itself.
        """
        bar = current_bar.get()
        owner = current.get()
        if bar is None and owner is not None:
            bar = owner.flow_run.bars.counter("progress")
        if bar is not None:
            bar.add(n)
        checkpoints.pass_by()

    def __reduce__(self) -> str:
        """Travel to other processes by its name."""
        return "progress"


progress = _Progress()


def _begin(description: str, total: float | None) -> Bar | None:
    owner = current.get()
    if owner is None:
        return None
    task = owner.listed
    of = task.name if isinstance(task, TaskRun) else ""
    return owner.flow_run.bars.begin(description, total, of=of)


CHEAP_STEPS = 100_000
"""A loop of more steps is watched from outside, as counting them would slow it down."""


def progress_of_loop(iterable: Iterable[Any], description: str) -> Iterable[Any]:
    """Show a cell's top-level loop over something sized, without cost for a tight one."""
    total = length(iterable)
    if current.get() is None or total is None or is_shown(iterable):
        return iterable
    if total <= CHEAP_STEPS:
        return iter(progress(iterable, total=total, description=description))
    iterator = iter(iterable)
    if hasattr(iterator, "__length_hint__"):
        bar = _begin(description, total)
        if bar is not None:
            bar.watch_iterator(iterator)
    return iterator


def length(iterable: Any) -> float | None:
    """Return how many elements something has, if it knows."""
    try:
        return len(iterable)
    except Exception:
        return None

"""`tags`: words for the runs that a block of code starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from jupyter_flows.engine.current import current_tags


@contextmanager
def tags(*new_tags: str) -> Iterator[set[str]]:
    """Give tags to all runs of flows and tasks that are started within::

        with tags("nightly", "eu"):
            etl("2026-01-01")

    They are added to those of the flow or task, and to those of a block around this one.
    """
    token = current_tags.set(current_tags.get() | checked_tags(new_tags))
    try:
        yield set(current_tags.get())
    finally:
        current_tags.reset(token)


def checked_tags(tags: Iterable[str]) -> frozenset[str]:
    """Return tags as a set.

    Raises:
        TypeError: they are no texts, or one text in the place of many.
    """
    if not isinstance(tags, Iterable):
        raise TypeError(f"tags are several texts, such as ['nightly'], not {tags!r}.")
    if isinstance(tags, str):
        raise TypeError(f"tags are several texts, such as [{tags!r}], not one.")
    found = frozenset(tags)
    for each in found:
        if not isinstance(each, str):
            raise TypeError(f"A tag is a text, not {each!r}.")
    return found

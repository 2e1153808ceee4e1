"""Whose turn it is: who of those that wait in line for slots gets them.

The rule, for limits of every kind:

- One that waits gets all the slots that it wants, of all limits, or none yet.
- Of two that want slots of the same limit the first in line gets them first, also
  where the other wants fewer: nobody starves. What lacks slots of one limit does not
  hold up others at another.

Pure: no locks, no clocks. Standard library only.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")
L = TypeVar("L", bound=Hashable)


def whose_turn(line: Iterable[tuple[T, Mapping[L, int]]], free: Mapping[L, float]) -> Iterator[T]:
    """Yield those in line that are to get what they want now.

    Args:
        line: who waits, the first first, each with how many slots of which limit it
            wants: one of one at least.
        free: how many slots are free of each limit that anybody wants; `math.inf` has no end.
    """
    left = dict(free)
    exhausted = {limit for limit, count in left.items() if count <= 0}
    for who, wants in line:
        if len(exhausted) == len(left):
            return
        lacking = [limit for limit, count in wants.items() if left[limit] < count]
        if not lacking:
            yield who
        for limit in lacking or wants:
            left[limit] = 0 if lacking else left[limit] - wants[limit]
            if left[limit] <= 0:
                exhausted.add(limit)

"""Marks on the arguments of a call that say how they are taken: Prefect's."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Annotation(Generic[T]):
    """The base of all marks: holds a value, which the function is given without it."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def unwrap(self) -> T:
        """Return the value without its mark."""
        return self.value

    def rewrap(self, value: Any) -> Any:
        """Return another value with the same mark."""
        return type(self)(value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class unmapped(Annotation[T]):  # noqa: N801
    """Mark an argument of `Task.map` that every task gets whole."""

    __slots__ = ()


class allow_failure(Annotation[T]):  # noqa: N801
    """Mark a future, or what holds futures, whose failure does not keep the task from running.

    The task is given the exception in the place of the result.
    """

    __slots__ = ()


class quote(Annotation[T]):  # noqa: N801
    """Mark an argument that is not searched for futures: it is given as it is.

    That saves time where a collection is large.
    """

    __slots__ = ()

    def unquote(self) -> T:
        """Return the value without its mark."""
        return self.value

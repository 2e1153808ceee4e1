"""Code and values that travel: pickled by cloudpickle, and what cannot be is named.

Functions and classes of the notebook or script (``__main__``) travel by value, with
the variables that their code uses; those of modules are imported where they arrive.
"""

from __future__ import annotations

import dis
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any, Protocol

import cloudpickle

from jupyter_flows.errors import NotPortable

_GLOBAL = frozenset({"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS", "DELETE_NAME"})


class Portable(Protocol):
    """A body that can run in another process."""

    @property
    def is_async(self) -> bool:
        """Whether its result is to be awaited."""

    def dump(self) -> bytes:
        """Return it pickled, as a function, its arguments and its named arguments.

        Raises:
            NotPortable: something of it cannot be pickled; it is named.
        """

    def hear(self, data: bytes) -> None:
        """Take what it tells on the way (`ChildRun.tell`)."""

    def accept(self, value: Any) -> Any:
        """Take what the function returned there; return the run's result."""


class Call:
    """A call of a function, as a flow's run is."""

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        is_async: bool,
        names: Mapping[str, Any],
    ) -> None:
        self.is_async = is_async
        self._call = (function_of(fn), args, dict(kwargs), dict(names))
        self._names = names

    def dump(self) -> bytes:
        """Return it pickled.

        Raises:
            NotPortable: a parameter, or a variable that the function uses, cannot be.
        """
        named = {f"The parameter {name!r}": value for name, value in self._names.items()}
        return dumps(self._call, {**named, "The flow's function": self._call[0]})

    def hear(self, data: bytes) -> None:
        """It tells nothing."""

    def accept(self, value: Any) -> Any:
        """Return it as it is."""
        return value


class _Imported:
    """A function that is a flow's or task's, found where its module has it."""

    def __init__(self, module: str, name: str) -> None:
        self.place = (module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function()(*args, **kwargs)

    def function(self) -> Callable[..., Any]:
        """Return the function, whose module is imported for that."""
        __import__(self.place[0])
        found: Any = sys.modules[self.place[0]]
        for part in self.place[1].split("."):
            found = getattr(found, part)
        fn: Callable[..., Any] = found.fn
        return fn


def called_by(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the flow's function, which what `function_of` has returned calls."""
    return fn.function() if isinstance(fn, _Imported) else fn


def function_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return what stands for a flow's function, which its module's name does not lead to."""
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "")
    if getattr(find(module, name), "fn", None) is fn:
        return _Imported(str(module), name)
    return fn


def find(module: Any, name: str) -> Any:
    """Return what an imported module, not ``__main__``, has under a dotted name; or None."""
    if module == "__main__" or not isinstance(module, str):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def pickled(value: Any) -> tuple[bytes | None, str]:
    """Return a value pickled; or None, and why it cannot be."""
    buffer = io.BytesIO()
    try:
        _Pickler(buffer).dump(value)
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    return buffer.getvalue(), ""


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Sends more than cloudpickle does.

    That is exceptions whose ``__init__`` takes something else than what they show, and
    the names of files and cells that code is from, by which tracebacks find its lines:
    cloudpickle 3.1.3 and later leaves them out.
    """

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, CodeType):
            return _in_file, (_Anonymous(obj), obj.co_filename)
        if isinstance(obj, BaseException) and type(obj).__reduce__ is BaseException.__reduce__:
            return _remade, (type(obj), obj.args, vars(obj))
        return super().reducer_override(obj)


class _Anonymous:
    """Code as cloudpickle sends it, and as it arrives."""

    __slots__ = ("code",)

    def __init__(self, code: CodeType) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return cloudpickle.Pickler.dispatch_table[CodeType](self.code)


def _in_file(code: CodeType, file: str) -> CodeType:
    return code.replace(co_filename=file)


def _remade(
    kind: type[BaseException], args: tuple[Any, ...], attributes: Mapping[str, Any]
) -> BaseException:
    try:
        error = kind(*args)
    except TypeError:
        error = kind.__new__(kind, *args)
        error.args = args
    vars(error).update(attributes)
    return error


def dumps(value: Any, parts: Mapping[str, Any]) -> bytes:
    """Pickle `value`, or say which of its `parts`, given by what to call them, cannot be.

    Raises:
        NotPortable: it cannot be pickled.
    """
    data, why = pickled(value)
    if data is not None:
        return data
    found = (_culprit(label, part, set()) for label, part in parts.items())
    raise NotPortable(next(filter(None, found), f"It cannot be sent to a process: {why}"))


def _culprit(label: str, value: Any, seen: set[int]) -> str | None:
    """Say what cannot be pickled: the value, or a variable that a function uses."""
    data, why = pickled(value)
    if data is not None:
        return None
    seen.add(id(value))
    for name, used in _variables(getattr(value, "fn", value)):
        if id(used) not in seen:
            who = getattr(value, "__name__", label)
            found = _culprit(f"The variable {name!r}, which {who!r} uses,", used, seen)
            if found is not None:
                return found
    return (
        f"{label} cannot be sent to a process, being a {type(value).__name__}: {why}. "
        "Make it there, or run on='thread'."
    )


def _variables(function: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(function, FunctionType):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not bound yet
            continue
    for name in names_used(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def names_used(code: CodeType) -> list[str]:
    """Return the global names that code reads or deletes, functions in it included."""
    found: dict[str, None] = {}
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBAL:
            found[instruction.argval] = None
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found.update(dict.fromkeys(names_used(constant)))
    return list(found)

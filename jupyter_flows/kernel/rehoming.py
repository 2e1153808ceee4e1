"""Moves what a cell defined from the cell's namespace onto the notebook's.

A function finds its globals in the dict it was defined in, and Python offers no
way to change that. So when a cell's names are published, each function that was
defined in the cell gets a *twin* with the same code, defaults, attributes and
closure cells, whose globals are the notebook's; and every reference to the
function is replaced by one to its twin.

Rules:

1. Only functions whose ``__globals__`` *is* the cell's namespace get a twin; one
   function, one twin, so that two names of a function stay two names of one.
2. What can be changed keeps its identity and is changed in place: classes of the
   notebook (methods, properties, nested classes), instances (``__dict__`` and
   slots: a flow's ``fn``, a ``cached_property``, a widget's callbacks), lists,
   dicts, sets, deques, partials, closure cells, attributes of functions.
3. What cannot be changed is made anew when it holds a function of the cell:
   tuples, frozensets, bound methods, properties, static and class methods, and
   functions with an ``lru_cache``, whose cache begins empty.
4. The search starts from the values given, functions and classes first, looks
   into containers of at most `WIDEST` items, and stops after `MOST` references:
   publishing must be quick beside a large data set.

What it does not reach keeps working on the cell's own namespace, as it was at
the end of the cell: running threads, suspended generators and coroutines,
weak references, the insides of compiled objects (`atexit`, pydantic's validators),
library modules and classes that the cell patched.

Call it from one thread; others may go on using the objects.
"""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

WIDEST = 10_000  # items of a container that is looked into
MOST = 50_000  # references followed

T = TypeVar("T")
See = Callable[[Any], Any]  # given what an object holds, says what it shall hold

_LEAVES = frozenset(  # hold no function that could be replaced
    [
        *(bool, int, float, complex, str, bytes, bytearray, memoryview, range, slice, type(None)),
        *(types.ModuleType, types.CodeType, types.FrameType, types.TracebackType),
        *(types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType),
        *(types.BuiltinFunctionType, types.MethodWrapperType, types.WrapperDescriptorType),
        *(types.MethodDescriptorType, types.ClassMethodDescriptorType),
        *(types.GetSetDescriptorType, types.MemberDescriptorType),
    ]
)
_lru_cached = type(functools.lru_cache(lambda: None))
_REMADE = (
    *(tuple, frozenset, property, staticmethod, classmethod),
    *(types.MethodType, _lru_cached),
)


def rehome(values: Iterable[Any], old: dict[str, Any], new: dict[str, Any]) -> Callable[[T], T]:
    """Move the functions that `values` hold from the globals `old` to `new`.

    Returns what tells for each of the values what stands in its place now: its
    twin, a copy that holds twins, or the value itself.
    """
    found = _explore(values)
    twins: dict[int, Any] = {
        id(thing): _twin(thing, new)
        for thing in found.values()
        if type(thing) is types.FunctionType and thing.__globals__ is old
    }
    moved = [*twins.values()]

    def see(thing: T) -> T:
        key = id(thing)
        if key in twins:
            return twins[key]  # type: ignore[no-any-return]
        if key in found and issubclass(type(thing), _REMADE):
            twins[key] = thing  # where it holds itself
            twins[key] = _through(thing, see)
            return twins[key]  # type: ignore[no-any-return]
        return thing

    if moved:
        for thing in (*moved, *found.values()):
            if id(thing) not in twins and not issubclass(type(thing), _REMADE):
                _through(thing, see)
    return see


def _explore(values: Iterable[Any]) -> dict[int, Any]:
    """What can be reached from the values and was looked into, by identity."""
    known: dict[int, Any] = {}
    explored: dict[int, Any] = {}
    queue: deque[Any] = deque()
    followed = 0

    def see(thing: T) -> T:
        nonlocal followed
        followed += 1
        kind = type(thing)
        if kind not in _LEAVES and id(thing) not in known:
            known[id(thing)] = thing
            if issubclass(kind, types.FunctionType | type):
                queue.appendleft(thing)
            else:
                queue.append(thing)
        return thing

    for value in values:
        see(value)
    while queue and followed < MOST:
        thing = queue.popleft()
        explored[id(thing)] = thing
        _through(thing, see)
    return explored


def _twin(function: types.FunctionType, home: dict[str, Any]) -> types.FunctionType:
    twin = types.FunctionType(
        function.__code__, home, function.__name__, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__qualname__ = function.__qualname__
    twin.__module__ = function.__module__
    twin.__doc__ = function.__doc__
    twin.__dict__.update(function.__dict__)
    # From 3.14 on annotations are made when somebody asks, by a function.
    for name in ("__type_params__", "__annotate__"):
        if hasattr(function, name):
            setattr(twin, name, getattr(function, name))
    if not hasattr(function, "__annotate__"):
        twin.__annotations__ = function.__annotations__
    return twin


def _through(thing: Any, see: See) -> Any:
    """Let `see` replace what `thing` holds; returns `thing`, or its remade copy."""
    kind = type(thing)  # isinstance() would ask a proxy for the class of its target
    if issubclass(kind, types.FunctionType):
        _function(thing, see)
    elif issubclass(kind, type):
        if thing.__module__ == "__main__":
            _class(thing, see)
    elif issubclass(kind, _REMADE):
        return _remade(thing, see)
    else:
        if issubclass(kind, dict):
            _dict(thing, see)
        elif issubclass(kind, list | deque):
            _list(thing, see)
        elif issubclass(kind, set):
            _set(thing, see)
        elif issubclass(kind, functools.partial):
            _partial(thing, see)
        _instance(thing, see)
    return thing


def _function(function: types.FunctionType, see: See) -> None:
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # an empty cell
            held = cell.cell_contents
            if (shall := see(held)) is not held:
                cell.cell_contents = shall
    for name in ("__defaults__", "__kwdefaults__", "__annotate__"):
        held = getattr(function, name, None)
        if held is not None and (shall := see(held)) is not held:
            setattr(function, name, shall)
    _dict(function.__dict__, see)


def _class(cls: type, see: See) -> None:
    for base in (type(cls), *cls.__bases__):
        see(base)
    for name, held in list(vars(cls).items()):
        if (shall := see(held)) is not held:
            # past the metaclass: an Enum forbids what is no change of value here
            with suppress(TypeError, AttributeError):
                type.__setattr__(cls, name, shall)


def _instance(thing: Any, see: See) -> None:
    see(type(thing))
    with suppress(AttributeError):  # it has none
        attributes = object.__getattribute__(thing, "__dict__")
        if type(attributes) is dict:
            _dict(attributes, see)
    for cls in type(thing).__mro__:
        if "__slots__" in vars(cls):
            for slot in list(vars(cls).values()):
                if type(slot) is types.MemberDescriptorType:
                    with suppress(AttributeError):  # empty, or read-only
                        held = slot.__get__(thing)
                        if (shall := see(held)) is not held:
                            slot.__set__(thing, shall)


def _dict(held: dict[Any, Any], see: See) -> None:
    if len(held) > WIDEST:
        return
    items = list(dict.items(held))
    for key, value in items:
        if (shall := see(value)) is not value:
            dict.__setitem__(held, key, shall)
    if any(see(key) is not key for key, _ in items):
        changed = {see(key): see(value) for key, value in items}  # keeps the order
        held.clear()
        held.update(changed)


def _list(held: list[Any] | deque[Any], see: See) -> None:
    if len(held) > WIDEST:
        return
    for index, value in enumerate(held.copy()):
        if (shall := see(value)) is not value:
            with suppress(IndexError):  # another thread took items out
                if held[index] is value:
                    held[index] = shall


def _set(held: set[Any], see: See) -> None:
    if len(held) > WIDEST:
        return
    for value in held.copy():
        if (shall := see(value)) is not value:
            held.discard(value)
            held.add(shall)


def _partial(held: functools.partial[Any], see: See) -> None:
    state = (held.func, held.args, held.keywords)
    shall = tuple(see(part) for part in state)
    if any(new is not old for new, old in zip(shall, state, strict=True)):
        held.__setstate__((*shall, held.__dict__))  # type: ignore[attr-defined]


def _remade(thing: Any, see: See) -> Any:
    kind = type(thing)
    if issubclass(kind, tuple | frozenset):
        parts = list(thing) if len(thing) <= WIDEST else []
    elif issubclass(kind, property):
        parts = [thing.fget, thing.fset, thing.fdel]
    elif issubclass(kind, types.MethodType):
        parts = [thing.__func__, thing.__self__]
    else:
        parts = [thing.__wrapped__]
    shall = [see(part) for part in parts]
    if all(new is old for new, old in zip(shall, parts, strict=True)):
        return thing
    if issubclass(kind, tuple):
        return tuple.__new__(kind, shall)
    if issubclass(kind, frozenset):
        return frozenset.__new__(kind, shall)
    if issubclass(kind, property):
        fget, fset, fdel = shall
        return kind(fget, fset, fdel, thing.__doc__)
    if issubclass(kind, _lru_cached):
        return _cached_like(thing, *shall)
    return kind(*shall)


def _cached_like(cached: Any, function: Any) -> Any:
    new = functools.lru_cache(**cached.cache_parameters())(function)
    vars(new).update(vars(cached) | {"__wrapped__": function})
    return new

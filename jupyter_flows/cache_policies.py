"""Cache policies: what makes two task runs the same, so that the second need not run.

Prefect's names. A policy computes a key from a task run; task runs with one key have one
result. Policies are combined with ``+``, and ``- "parameter"`` leaves a parameter out.

    INPUTS            what the task is called with
    TASK_SOURCE       the code of its function
    FLOW_PARAMETERS   what its flow was called with
    RUN_ID            the flow run: results are found again in it alone, by a retry of it
    DEFAULT           INPUTS + TASK_SOURCE + RUN_ID
    NO_CACHE, NONE    nothing is kept

Other than in Prefect, the keys of a policy are the task's own: two tasks that are called
with the same inputs do not take each other's results. Those of a ``cache_key_fn`` are as
it gives them, so that tasks may share them, as there.

Inputs are hashed by joblib: sets, dicts and arrays have one hash in every process, which
their pickles have not. A function among them counts as its code and what that refers to,
not as its name, which may stand for other code tomorrow.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType, MethodType
from typing import Any


@dataclass(frozen=True, slots=True)
class TaskRunContext:
    """What a policy and a ``cache_key_fn`` know of a task run.

    Attributes:
        task: the task.
        task_run: its run; the flow run's that it is, outside of flows.
        parameters: what the task is called with, by name, defaults included.
    """

    task: Any
    task_run: Any
    parameters: Mapping[str, Any]


class CachePolicy:
    """The base of all policies."""

    @classmethod
    def from_cache_key_fn(
        cls, cache_key_fn: Callable[[TaskRunContext, dict[str, Any]], str | None]
    ) -> CacheKeyFnPolicy:
        """Return the policy that asks a function for the key."""
        return CacheKeyFnPolicy(cache_key_fn)

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """Return the key of a task run; None lets it have none, so that it is not cached.

        Args:
            task_ctx: the task and its run.
            inputs: what the task is called with.
            flow_parameters: what its flow was called with.
            kwargs: nothing yet.
        """
        raise NotImplementedError

    def __add__(self, other: CachePolicy) -> CachePolicy:
        if not isinstance(other, CachePolicy):
            return NotImplemented
        if isinstance(other, _NoCache):
            return self
        return CompoundCachePolicy((self, other))

    def __sub__(self, other: str) -> CachePolicy:
        if not isinstance(other, str):
            raise TypeError(f"What is left out is the name of a parameter, not {other!r}.")
        return self


@dataclass(frozen=True)
class CacheKeyFnPolicy(CachePolicy):
    """Asks a function, which is given the context and the parameters, for the key."""

    cache_key_fn: Callable[[TaskRunContext, dict[str, Any]], str | None]

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """Return what the function does."""
        return self.cache_key_fn(task_ctx, inputs)


@dataclass(frozen=True)
class CompoundCachePolicy(CachePolicy):
    """Several policies at once: what makes a difference to one of them makes one."""

    policies: tuple[CachePolicy, ...]

    def __post_init__(self) -> None:
        """Take compounds apart, and make one of several policies about inputs."""
        flat: list[CachePolicy] = []
        for policy in self.policies:
            flat += policy.policies if isinstance(policy, CompoundCachePolicy) else (policy,)
        about_inputs = [policy for policy in flat if isinstance(policy, Inputs)]
        if about_inputs:
            left_out = frozenset().union(*(policy.exclude for policy in about_inputs))
            flat = [policy for policy in flat if not isinstance(policy, Inputs)]
            flat.append(Inputs(left_out))
        object.__setattr__(self, "policies", tuple(flat))

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """Return a hash of the keys of all that have one."""
        keys = [
            policy.compute_key(task_ctx, inputs, flow_parameters, **kwargs)
            for policy in self.policies
        ]
        return None if keys == [None] * len(keys) else hash_of(keys)

    def __sub__(self, other: str) -> CachePolicy:
        return CompoundCachePolicy(tuple(policy - other for policy in self.policies))


@dataclass(frozen=True)
class _NoCache(CachePolicy):
    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        return None

    def __add__(self, other: CachePolicy) -> CachePolicy:
        return other

    def __reduce__(self) -> str:
        """Be the same one everywhere."""
        return "NO_CACHE"


@dataclass(frozen=True)
class TaskSource(CachePolicy):
    """The code of the task's function: not of what it calls. Comments make no difference."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """Return a hash of the code; None where the function has none, being written in C."""
        fn = getattr(task_ctx.task.fn, "__func__", task_ctx.task.fn)
        code = getattr(fn, "__code__", None) or getattr(type(fn).__call__, "__code__", None)
        return None if code is None else hash_of(_plain_code(code))


@dataclass(frozen=True)
class FlowParameters(CachePolicy):
    """What the flow was called with."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """Return a hash of them; None if there are none."""
        return hash_of(flow_parameters) if flow_parameters else None


@dataclass(frozen=True)
class RunId(CachePolicy):
    """The flow run that the task run belongs to."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """Return its id."""
        return str(task_ctx.task_run.flow_run.id)


@dataclass(frozen=True)
class Inputs(CachePolicy):
    """What the task is called with, less the parameters that are left out."""

    exclude: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Take any collection of names."""
        object.__setattr__(self, "exclude", frozenset(self.exclude))

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """Return a hash of them; None if there are none.

        Raises:
            ValueError: one cannot be hashed; says which, and what to do.
        """
        if not inputs:
            return None
        hashed = {}
        for name, value in inputs.items():
            if name not in self.exclude:
                try:
                    hashed[name] = hash_of(value)
                except Exception as error:
                    raise ValueError(
                        f"The parameter {name!r} cannot be hashed, being a "
                        f"{type(value).__name__}: {error}. Leave it out "
                        f"(cache_policy=INPUTS - {name!r}), or give a cache_key_fn."
                    ) from error
        return hash_of(hashed)

    def __sub__(self, other: str) -> CachePolicy:
        super().__sub__(other)
        return Inputs(self.exclude | {other})


INPUTS = Inputs()
NONE = NO_CACHE = _NoCache()
TASK_SOURCE = TaskSource()
FLOW_PARAMETERS = FlowParameters()
RUN_ID = RunId()
DEFAULT = INPUTS + TASK_SOURCE + RUN_ID


def task_input_hash(context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    """Return a key of the task, its code and what it is called with: a ``cache_key_fn``."""
    code = TASK_SOURCE.compute_key(context, parameters, {})
    return hash_of([name_of(context.task), code, parameters])


def key_of(policy: CachePolicy, context: TaskRunContext) -> str | None:
    """Return the key under which the result of a task run is kept, if it is to be.

    Raises:
        TypeError: the policy gives something else than a text.
        Exception: whatever it raises.
    """
    flow_parameters = dict(context.task_run.flow_run.parameters)
    key = policy.compute_key(context, dict(context.parameters), flow_parameters)
    if key is None or isinstance(policy, CacheKeyFnPolicy):
        if not isinstance(key, str | None):
            raise TypeError(f"a key is a text, not {key!r}")
        return key
    return f"{name_of(context.task)}/{key}"


def name_of(task: Any) -> str:
    """Return what tells a task from others, in every process."""
    return f"{task.fn.__module__}.{task.fn.__qualname__}/{task.name}"


def hash_of(value: Any) -> str:
    """Return a hash of a value that is the same in every process.

    Raises:
        Exception: it cannot be pickled.
    """
    result: str = _hasher("numpy" in sys.modules)("sha1").hash(value)
    return result


@cache
def _hasher(with_arrays: bool) -> Any:
    from joblib import hashing

    base: Any = hashing.NumpyHasher if with_arrays else hashing.Hasher

    class Hasher(base):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if not isinstance(value, FunctionType):
                return NotImplemented
            used = [cell.cell_contents for cell in value.__closure__ or ()]
            return tuple, ((_plain_code(value.__code__), value.__defaults__, used),)

    return Hasher


def _plain_code(code: CodeType) -> tuple[Any, ...]:
    """Return what a code object does, without where it stands."""
    constants = [
        _plain_code(constant) if isinstance(constant, CodeType) else constant
        for constant in code.co_consts
    ]
    return (code.co_code, constants, code.co_names)


def bound_instance(fn: Any) -> dict[str, Any]:
    """Return what a method is called on, as the parameter that it is."""
    return {"self": fn.__self__} if isinstance(fn, MethodType) else {}

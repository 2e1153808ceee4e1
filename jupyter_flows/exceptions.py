"""Errors under the names that Prefect's users import."""

from jupyter_flows.errors import (
    CancelledRun,
    CrashedRun,
    FailedRun,
    FlowPauseTimeout,
    FlowsError,
    MappingLengthMismatch,
    MappingMissingIterable,
    MissingResult,
    NotInARun,
    NotPaused,
    ParameterError,
    ReservedArgumentError,
    UnknownRun,
    UpstreamTaskError,
)

MissingContextError = NotInARun
NotPausedError = NotPaused
ObjectNotFound = UnknownRun
ParameterBindError = ParameterError
ParameterTypeError = ParameterError
PrefectException = FlowsError
UnfinishedRun = MissingResult

__all__ = [
    "CancelledRun",
    "CrashedRun",
    "FailedRun",
    "FlowPauseTimeout",
    "MappingLengthMismatch",
    "MappingMissingIterable",
    "MissingContextError",
    "MissingResult",
    "NotPausedError",
    "ObjectNotFound",
    "ParameterBindError",
    "ParameterTypeError",
    "PrefectException",
    "ReservedArgumentError",
    "UnfinishedRun",
    "UpstreamTaskError",
]

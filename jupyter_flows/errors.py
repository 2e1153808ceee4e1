"""Every error that jupyter_flows raises on purpose.

Each says what happened and what to do about it. All but `RunCancellation` are
ordinary exceptions below `FlowsError`, so that one `except` catches what went
wrong in the tool while a cancel can still pass through user code.
"""

import shlex
import signal
from subprocess import CalledProcessError


class FlowsError(Exception):
    """The base of all errors that jupyter_flows raises."""


class RunCancellation(BaseException):
    """A cancel, raised inside the sync body of a run.

    It derives from `BaseException` so that a loop with ``except Exception:``
    does not swallow it, as `asyncio.CancelledError` and `KeyboardInterrupt` do.

    Attributes:
        run_id: the id of the run or task run that is to stop.
        reason: why: ``user``, ``timeout``, ``parent``, ``concurrency`` or
            ``shutdown``.
    """

    def __init__(self, run_id: str, reason: str) -> None:
        super().__init__(f"cancelled by {reason}")
        self.run_id = run_id
        self.reason = reason


class RunEnded(FlowsError):
    """The base of what `FlowRun.result()` raises where there is no result."""


class CancelledRun(RunEnded):
    """A run was cancelled, so it has no result."""


class FailedRun(RunEnded):
    """A run failed without an exception of its own, so it has no result."""


class CrashedRun(RunEnded):
    """A run was ended from outside its code, so it has no result."""


class NonRetryableException(FlowsError):  # Hatchet's name
    """Raised in the body of a flow or task: it has failed, and no retry would help."""


class MissingResult(FlowsError):
    """A run has no result yet, or its result is no longer in memory."""


class FlowPauseTimeout(FlowsError):
    """Nobody resumed a paused run in time."""


class IllegalTransition(FlowsError):
    """A run was asked for a move that the table of states does not have."""


class UnknownRun(FlowsError):
    """No run has this id."""


class AmbiguousRun(FlowsError):
    """More than one run has an id that begins like this."""


class NotPaused(FlowsError):
    """Only a paused run can be resumed."""


class InvalidInput(FlowsError, ValueError):
    """An answer that does not fit what a run waits for. Nothing has changed: it waits on."""


class NotActive(FlowsError):
    """The run has ended, so there is nothing left to control."""


class NotReplayable(FlowsError):
    """A run cannot be done anew: its flow is not defined in a live kernel."""


class NotInARun(FlowsError, RuntimeError):
    """This call makes sense only inside a running flow or task."""


class NotAFlow(FlowsError):
    """Something that is no flow was given where a flow is needed."""


class NoSuchWorker(FlowsError):
    """`on` names a worker that does not exist or does not fit the flow."""


class NotPortable(FlowsError):
    """Something that a run in a process needs, or returned, cannot be pickled."""


class ParameterError(FlowsError, TypeError):
    """A flow was called with parameters that it does not take."""


class ReservedArgumentError(FlowsError, TypeError):
    """A flow or task has a parameter whose name means something in every call."""


class RunNameError(FlowsError):
    """The name of a run cannot be made as its author said."""


class UpstreamTaskError(FlowsError):
    """A task was not run, as what it waits for has not completed."""


class MappingLengthMismatch(FlowsError, ValueError):
    """A task is to be mapped over arguments of different lengths."""


class MappingMissingIterable(FlowsError, ValueError):
    """A task is to be mapped, and no argument can be iterated over."""


class CommandFailed(FlowsError, CalledProcessError):
    """A command of `run_process` ended with an exit code other than 0.

    Attributes:
        returncode: the exit code; below 0 the signal that ended it.
        cmd: the command.
        stdout: what it said there.
        stderr: likewise.
    """

    def __str__(self) -> str:
        name = self.cmd if isinstance(self.cmd, str) else shlex.join(self.cmd)
        how = _how_it_ended(self.returncode)
        last = (self.stderr or "").rstrip()[-500:].rpartition("\n")[2]
        return f"The command {name!r} {how}{': ' + last if last else '.'}"


def _how_it_ended(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was ended by signal {-returncode}"


class BadRequest(FlowsError):
    """A control request that cannot be read; nothing was done."""


class WouldDeadlock(FlowsError):
    """Waiting here could never end: it would block the loop, or wait for its own slot."""


class ConcurrencyKeyError(FlowsError):
    """The key of a `Concurrency` cannot be told for a run's parameters."""


class ConcurrencySlotAcquisitionError(FlowsError):
    """`concurrency` was to be strict, and nobody has set a limit of this name."""


class AcquireConcurrencySlotTimeoutError(FlowsError, TimeoutError):
    """No slot has become free in time."""


class NobodyToAsk(FlowsError):
    """A run asked for input where nobody can answer."""


class StoreUnavailable(FlowsError):
    """The store of past runs cannot be read or written; runs go on in memory."""

"""`run_process`: a command that belongs to a run.

    process      a command and its threads
    awaiting     waiting for one on an event loop
    holds        what is asked of a run reaches its commands
    sinks        where what a command says is shown
    descendants  the processes of commands, and how they are told to end
    system       what the system tells about processes
    guard        the program beside this process that ends its commands when it is gone
    link         this process's end of the conversation with it

The caller waits in the engine, where a cancel, a timeout and a pause reach it;
threads of the engine read what the command says. What happens to the run happens
to the command: a pause suspends it, a cancel terminates it.

Guarantees:

- A run is PAUSED only when its commands are suspended, and goes on before they do.
- When a cancel is raised in the code, nothing of the command is left: all its
  processes were sent SIGTERM, and after a grace SIGKILL.
- Within a shield, and in a cleanup, a command is left to end, unless the run is
  killed.
- However it ends, it is reaped, and its threads and pipes are gone.
- It ends with this process, also when that is killed by SIGKILL (not on Windows).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jupyter_flows.commands.awaiting import run_async
from jupyter_flows.commands.holds import part_of
from jupyter_flows.commands.process import Order, Process
from jupyter_flows.commands.sinks import Argument, name_of, sinks_of
from jupyter_flows.engine import checkpoints
from jupyter_flows.engine.current import called_from_async, current
from jupyter_flows.engine.numbers import is_number
from jupyter_flows.engine.pausing import wait_in_run
from jupyter_flows.engine.shielding import shield
from jupyter_flows.engine.waiting import Waiter

GRACE = 5.0  # seconds between SIGTERM and SIGKILL


def run_process(
    command: str | Sequence[Argument],
    *,
    stream_output: bool = True,
    cwd: Argument | None = None,
    env: Mapping[str, str] | None = None,
    input: str | bytes | None = None,
    check: bool = True,
    grace: float = GRACE,
) -> Any:
    """Run a command to its end, and show what it says in the run's log as it comes.

    In async code the call is to be awaited. A cancel or a timeout of the run ends
    the command with all processes that it has started, by SIGTERM first; a pause
    suspends it. Outside of runs its output goes to stdout and stderr.

    Args:
        command: the program and its arguments, as a list; or a text, which a shell
            reads (``shell=True``): pipes, variables and wildcards work then, and
            what comes from others must be quoted by `shlex.quote`.
        stream_output: show each line as it comes.
        cwd: the directory to run it in.
        env: its whole environment; this process's by default.
        input: what it reads on its stdin, which is empty by default.
        check: raise `CommandFailed` if it ends with an exit code other than 0.
        grace: seconds between SIGTERM and SIGKILL; a cancel that says a shorter
            one (``run.cancel(grace=...)``, the kernel's shutdown) is heeded.

    Returns:
        A `subprocess.CompletedProcess` with `args`, `returncode`, `stdout` and
        `stderr`, both as text. Bytes that are no UTF-8 become �.

    Raises:
        CommandFailed: it failed; also a `subprocess.CalledProcessError`.
        FileNotFoundError: there is no such program.
        RunCancellation: the run is to stop, in sync code.
        asyncio.CancelledError: likewise, in async code.
    """
    if not is_number(grace) or grace < 0:
        raise ValueError(f"grace must be a number of seconds, 0 or more, not {grace!r}.")
    owner, frame = current.get(), sys._getframe(1)
    order = Order(
        command=command if isinstance(command, str) else [os.fspath(each) for each in command],
        cwd=cwd,
        env=env,
        input=input.encode() if isinstance(input, str) else input,
        grace=grace,
        sink=sinks_of(name_of(command), owner) if stream_output else None,
    )
    if called_from_async(owner, frame):
        return run_async(order, owner, check)
    if owner is not None and owner.pending:
        checkpoints.heed(owner, forced=False, frame=frame)
    process = Process(order)
    try:
        process.start()
        with part_of(owner, process):
            if owner is None:
                waiter = Waiter()
                process.on_end(waiter.wake)
                waiter.wait()
            else:
                heed = partial(checkpoints.raise_if_due, owner, frame, forced=False)
                wait_in_run(owner.flow_run, lambda: process.ended, process.on_end, heed=heed)
    except BaseException:
        with shield():
            process.stop(owner)
        raise
    return process.result(check)

"""What is asked of a run reaches its commands: a pause, a resume, a kill.

Guarantees:

- A run is PAUSED only when its commands are suspended, and goes on before they do.
- Within a shield, and in a cleanup, nothing that is asked reaches a command.
- What a command was held for is over when the wait for it is: nothing is counted on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from jupyter_flows.commands.process import Process
from jupyter_flows.engine.life import Life
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.shielding import in_shield


@contextmanager
def part_of(owner: Life | None, process: Process) -> Iterator[None]:
    """Let what is asked of a run reach a process while it runs."""
    if owner is None or in_shield():
        yield
        return
    hold = _Hold(owner, process)
    chain = owner.flow_run.chain
    for run in chain:
        run.book.waiters.add(hold)
    try:
        hold.wake()
        yield
    finally:
        for run in chain:
            run.book.waiters.discard(hold)
        hold.end()


class _Hold:
    """Suspends a process while one of its runs is held, and counts it as going on else."""

    def __init__(self, owner: Life, process: Process) -> None:
        self._owner = owner
        self._process = process
        self._lock = threading.Lock()
        self._counted: tuple[FlowRun, ...] = ()  # the runs in whose books it goes on
        self._suspended = False
        self._ended = False

    def wake(self) -> None:
        """Look at what is asked. Any thread."""
        with self._lock:
            while not self._ended:
                if self._owner.killed:
                    self._process.descendants.kill()
                    return
                if not any(run.held for run in self._owner.flow_run.chain):
                    if self._counted or self._goes_on():
                        return
                elif self._suspended:
                    return
                else:
                    self._process.descendants.suspend()
                    self._suspended = True
                    self._stands_still()

    def end(self) -> None:
        """The process has ended, or is to be stopped."""
        with self._lock:
            self._ended = True
            self._stands_still()

    def _goes_on(self) -> bool:
        """Let the process go on, unless one of its runs is held again."""
        for run in self._owner.flow_run.chain:
            if not run.start_command():
                self._stands_still()
                return False
            self._counted += (run,)
        if self._suspended:
            self._process.descendants.resume()
            self._suspended = False
        return True

    def _stands_still(self) -> None:
        counted, self._counted = self._counted, ()
        for run in counted:
            run.end_command()

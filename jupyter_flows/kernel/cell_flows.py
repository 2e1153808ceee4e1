"""A cell as a flow: from its text and options to a run.

All of this is called on the main thread, by the magic, but for what a run itself
does, and for replays, which any thread may start. The names of the last `KEPT` cell
runs are kept for a look; those of older ones are let go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from jupyter_flows.bars import progress_of_loop
from jupyter_flows.engine.executors import for_background
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.errors import FlowsError
from jupyter_flows.flows import Flow
from jupyter_flows.kernel import figures, reruns
from jupyter_flows.kernel.cells import CellBody
from jupyter_flows.states import AwaitingConcurrencySlot, Pending, StateType

if TYPE_CHECKING:
    from jupyter_flows.engine.processes.pickling import Portable

KEPT = 20  # cell runs whose names are kept: they may hold much memory

_kept: deque[tuple[FlowRun, CellBody]] = deque()
_keeping = Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOptions:
    """The options of one ``%%flow``."""

    name: str
    on: str | None
    timeout: float | None
    retries: int
    retry_delay: float
    tags: Iterable[str]
    metadata: Mapping[str, str]
    grace: float
    kill_grace: float
    log_prints: bool
    on_rerun: str
    loop_progress: bool


def start(
    shell: InteractiveShell,
    source: str,
    options: CellOptions,
    *,
    cell: str | None,
    raw_cell: str,
    first_line: int,
) -> FlowRun:
    """Start a cell's run, or let it wait for the one before.

    Args:
        shell: the notebook's IPython.
        source: the text below the ``%%flow`` line.
        options: what was chosen on that line.
        cell: the front end's id of the cell, if it has one.
        raw_cell: the whole cell.
        first_line: the line of it at which `source` begins.

    Raises:
        SyntaxError: the cell cannot be compiled.
        NoSuchWorker: the worker does not run such code.
        NotActive: an earlier run is active and ``on_rerun`` is ``reject``.
        NotPortable: a variable that the code uses cannot be sent to its process.
    """
    body = CellBody(
        shell,
        source,
        name=options.name,
        cell_id=cell,
        raw_cell=raw_cell,
        first_line=first_line,
        progress=progress_of_loop if options.loop_progress else None,
    )
    for_background(options.on, is_async=body.is_async)  # says what is wrong with it
    return _start(shell, body, options, cell=cell, key=cell or f"{options.name}\n{source}")


def _start(
    shell: InteractiveShell,
    body: CellBody,
    options: CellOptions,
    *,
    cell: str | None,
    key: str,
    replays: FlowRun | None = None,
) -> FlowRun:
    """Start a run of what a cell was compiled to; any thread, for a replay.

    `key` stands for the cell: of two runs with the same key one is the cell run again.
    """
    executor = for_background(options.on, is_async=body.is_async)
    earlier = reruns.active_run_of(key)
    if earlier is not None and options.on_rerun == "reject":
        raise reruns.refuse(earlier)
    waits = earlier is not None and options.on_rerun in ("enqueue", "replace")

    def begin() -> None:
        """Take the snapshot of the notebook's names anew."""
        body.begin()
        run.namespace = executor.names(body.namespace)

    flow = _flow_of(body, options, begin)
    run = flow.make_run(
        executor,
        cell=cell,
        replays=replays,
        waiting_state=AwaitingConcurrencySlot(reruns.WAITS) if waits else Pending(),
    )
    run.again = lambda ended: _start(
        shell, body.again(), options, cell=cell, key=key, replays=ended
    )
    run.namespace = executor.names(body.namespace)
    _keep(run, body)
    context = copy_context()  # of this cell, whoever launches the run

    def launch() -> None:
        flow.launch(
            run,
            on_completed=lambda result: body.publish(),
            portable=lambda: _portable(shell, body, options),
            after_waiting=begin,  # the notebook has changed since the cell was run
        )

    def launch_later() -> None:
        try:
            context.run(launch)
        except FlowsError:  # which the run has ended with: there is no cell to raise it in
            return

    def close() -> None:
        if run.state.type is not StateType.COMPLETED:
            body.close()

    run.on_done(close)
    reruns.remember(key, run)
    if waits and earlier is not None:
        reruns.launch_after(earlier, run, launch_later)
        if options.on_rerun == "replace":
            reruns.replace(run)
    else:
        launch()
    return run


def _flow_of(body: CellBody, options: CellOptions, begin: Callable[[], None]) -> Flow[[], Any]:
    attempts = 0

    def begin_again() -> None:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            begin()

    def call() -> Any:
        begin_again()
        try:
            return body.call()
        finally:
            figures.show_left_over()

    async def acall() -> Any:
        begin_again()
        try:
            return await body.acall()
        finally:
            figures.show_left_over()

    return Flow(
        acall if body.is_async else call,
        name=options.name,
        tags=options.tags,
        metadata=options.metadata,
        retries=options.retries,
        retry_delay_seconds=options.retry_delay,
        timeout_seconds=options.timeout or None,  # 0 is none, for %config
        log_prints=options.log_prints,
        cancel_grace_seconds=options.grace,
        kill_grace_seconds=options.kill_grace,
        validate_parameters=False,
    )


def _portable(shell: InteractiveShell, body: CellBody, options: CellOptions) -> Portable:
    from jupyter_flows.kernel.portable import CellCall

    return CellCall(shell, body, progress=options.loop_progress)


def _keep(run: FlowRun, body: CellBody) -> None:
    """Keep the names of the last runs; let go of those of runs that ended before them."""
    with _keeping:
        _kept.append((run, body))
        surplus = len(_kept) - KEPT
        let_go = [pair for pair in _kept if pair[0].state_is_final()][: max(surplus, 0)]
        for old in let_go:
            _kept.remove(old)
    for old in let_go:
        old[0].namespace = {}
        old[1].release()

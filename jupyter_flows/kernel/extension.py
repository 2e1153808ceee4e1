"""Brings the parts together in a kernel: the engine, the store, the view, the magics.

`load` is what ``%load_ext jupyter_flows`` calls. It is harmless when called again.

The store's writer and the kernel's identity belong to the process: they outlast
`unload`, as runs that go on are still kept.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import platform
import sys
from typing import Any
from uuid import uuid4

import psutil
from IPython.core.interactiveshell import InteractiveShell

from jupyter_flows.config import FlowsConfig
from jupyter_flows.engine import asking, capture, ending, ports
from jupyter_flows.engine.admission import set_max_runs
from jupyter_flows.engine.current import current
from jupyter_flows.engine.executors import callers_loop
from jupyter_flows.engine.leases import OwnLeases
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.history.leases import Leases
from jupyter_flows.history.results import folder_beside
from jupyter_flows.history.store import Store
from jupyter_flows.history.writer import Writer
from jupyter_flows.kernel import (
    completion,
    figures,
    inputs,
    log_options,
    prompt,
    rich,
    routing,
    tracebacks,
)
from jupyter_flows.kernel.archive import StoreArchive
from jupyter_flows.kernel.channel import ControlChannel
from jupyter_flows.kernel.control import Control
from jupyter_flows.kernel.display import MakeWidget, Views
from jupyter_flows.kernel.magics import FlowMagics
from jupyter_flows.kernel.watching import Watcher
from jupyter_flows.records import KernelRecord, LogLine

SHUTDOWN_SECONDS = 1.2  # for cleanups: of the 2 s that Jupyter leaves, the rest is for ending
FLUSH_SECONDS = 5.0  # how long a cell waits for lines that are on their way to the store
STORE_SECONDS = 1.0  # how long a locked store may keep the control channel waiting

_PREPARATION = "jupyter_flows.kernel.in_process:make_ready"


class Extension:
    """What is loaded into one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._kernel: Any = getattr(shell, "kernel", None)
        self._config = FlowsConfig.instance(parent=shell)
        self._record = _this_process(self._kernel)
        self._watcher = Watcher()
        self._writer = _writer(self._config, self._record)
        self._leases = _leases_of(self._config, self._record)
        store = self._config.store
        self._archive = StoreArchive(lambda: Store(store, wait_seconds=STORE_SECONDS))
        control = Control(self._record, self._watcher, self._archive)
        self._views = Views(shell, _widget_maker(self._kernel, control, self._config))
        self._magics = FlowMagics(shell, self._config, self._views)
        self._channel = None if self._kernel is None else ControlChannel(self._kernel, control)

    def load(self) -> None:
        """Put everything in place."""
        ports.history = self._writer
        keep_seconds = self._config.keep_days * 86_400
        ports.results_at = (str(folder_beside(self._config.store)), keep_seconds)
        ports.kernel_id = self._record.id
        ports.kept_lines = self._kept_lines
        ports.kept_run = self._archive.find
        ports.leases = self._leases
        set_max_runs(self._config.max_runs)
        self._config.observe(_take_max_runs, "max_runs")
        ports.show_error = tracebacks.formatter(self._shell)
        ports.show_file = tracebacks.file_namer(self._shell)
        ports.listeners.append(self._watcher.moved)
        asking.can_ask = self._can_ask
        asking.show = self._views.show_asking
        capture.install()
        prompt.install(self._shell)
        log_options.apply(self._config)
        rich.install(self._shell)
        figures.install()
        ports.process_preparations.append(_PREPARATION)
        try:
            callers_loop.main_loop = asyncio.get_running_loop()
        except RuntimeError:
            callers_loop.main_loop = None
        if self._channel is not None:
            self._channel.open()
            inputs.install(self._kernel)
            _wrap_shutdown(self._kernel)
        self._formatters().for_type(FlowRun, lambda run, *_, **__: self._views.bundle(run))
        self._magics.register()
        completion.install(self._shell)
        self._configurables().append(self._config)
        atexit.register(shut_down)

    def unload(self) -> None:
        """Take everything back that can be taken back; runs go on, without a view."""
        atexit.unregister(shut_down)
        self._config.unobserve(_take_max_runs, "max_runs")
        set_max_runs(None)
        self._configurables().remove(self._config)
        FlowsConfig.clear_instance()
        log_options.withdraw(self._config)
        completion.uninstall(self._shell)
        self._magics.unregister()
        self._formatters().pop(FlowRun)
        if self._channel is not None:
            self._channel.close()
            inputs.uninstall(self._kernel)
        rich.uninstall(self._shell)
        routing.uninstall(self._shell)
        ports.process_preparations.remove(_PREPARATION)
        ports.listeners.remove(self._watcher.moved)
        asking.can_ask = asking.refuse_alone
        asking.show = lambda run: None
        ports.history = ports.NoHistory()
        ports.results_at = None
        ports.kept_lines, ports.kept_run = ports.no_lines, ports.no_run
        ports.leases = OwnLeases()
        ports.show_error = ports.plain_traceback
        ports.show_file = str

    def _can_ask(self, run: FlowRun, kind: str) -> str | None:
        """Say why nobody can answer a run: in a terminal or in CI, while its call blocks all."""
        if not asking.is_foreground(run) or not (self._config.wait or self._kernel is None):
            return None
        what = "the prompt" if self._kernel is None else "this cell, and cells wait for their runs"
        return asking.BLOCKED.format(name=run.name, what=what)

    def _kept_lines(self, run_id: str, start: int, stop: int) -> list[LogLine]:
        self._writer.flush(FLUSH_SECONDS)
        return self._archive.lines(run_id, start, stop)

    def _configurables(self) -> list[Any]:
        """What ``%config`` knows."""
        known: list[Any] = self._shell.configurables
        return known

    def _formatters(self) -> Any:
        formatter: Any = self._shell.display_formatter
        return formatter.mimebundle_formatter


_loaded: Extension | None = None


def load(shell: InteractiveShell) -> None:
    """Load the extension into a shell, once."""
    global _loaded
    if _loaded is None:
        _loaded = Extension(shell)
        _loaded.load()


def unload(shell: InteractiveShell) -> None:
    """Unload it."""
    global _loaded
    if _loaded is not None:
        _loaded.unload()
        _loaded = None


def shut_down() -> None:
    """Cancel the active runs, give their cleanups time, and keep what they did."""
    ending.stop_runs(SHUTDOWN_SECONDS)
    for leases in _leases.values():
        leases.close()
    for writer in _writers.values():
        writer.close(SHUTDOWN_SECONDS)


def _take_max_runs(change: Any) -> None:
    set_max_runs(change["new"])


def _wrap_shutdown(kernel: Any) -> None:
    """Stop the runs while the kernel's event loop, which some of them need, still runs."""
    shutdown = kernel.control_handlers["shutdown_request"]
    if hasattr(shutdown, _WRAPPED):
        return

    def stop_then_shut_down(*request: Any) -> Any:
        ending.stop_runs(SHUTDOWN_SECONDS)
        return shutdown(*request)

    setattr(stop_then_shut_down, _WRAPPED, True)
    kernel.control_handlers["shutdown_request"] = stop_then_shut_down


_WRAPPED = "_jupyter_flows_wrapped"

# -- what belongs to the process ------------------------------------------------------

_records: dict[int, KernelRecord] = {}  # by process id: a forked child is another kernel
_writers: dict[str, Writer] = {}  # by path
_leases: dict[str, Leases] = {}  # by path


def _this_process(kernel: Any) -> KernelRecord:
    pid = os.getpid()
    if pid not in _records:
        _records[pid] = KernelRecord(
            id=str(uuid4()),
            pid=pid,
            process_started=psutil.Process().create_time(),
            host=platform.node(),
            connection_file=getattr(getattr(kernel, "parent", None), "abs_connection_file", None),
        )
    return _records[pid]


def _writer(config: FlowsConfig, record: KernelRecord) -> Writer:
    if config.store not in _writers:
        _writers[config.store] = Writer(
            config.store,
            record,
            _tell_trouble,
            keep_seconds=config.keep_days * 86_400,
            keep_bytes=config.keep_bytes,
        )
    return _writers[config.store]


def _leases_of(config: FlowsConfig, record: KernelRecord) -> Leases:
    if config.store not in _leases:
        _leases[config.store] = Leases(config.store, record)
    return _leases[config.store]


def _tell_trouble(text: str) -> None:
    """Say once, below the cell that is being run, that past runs are not kept."""
    token = current.set(None)
    try:
        print(f"jupyter_flows: {text}", file=sys.stderr, flush=True)
    finally:
        current.reset(token)


def _widget_maker(kernel: Any, control: Control, config: FlowsConfig) -> MakeWidget:
    if kernel is None:
        return lambda run, model_id: None
    from jupyter_flows.kernel.widget import maker

    make_widget = maker(control)
    return lambda run, model_id: make_widget(run, model_id) if config.widget else None

"""Brings the parts together in a kernel: the engine, the store, the view, the magics.

`load` is what ``%load_ext jupyter_flows`` calls. It is harmless when called again.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import platform
import sys
import warnings
from typing import Any
from uuid import uuid4

import psutil
from IPython.core.interactiveshell import InteractiveShell

from jupyter_flows.config import FlowsConfig
from jupyter_flows.engine import asking, capture, ports, registry
from jupyter_flows.engine.executors import callers_loop
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.history.store import Store
from jupyter_flows.history.writer import Writer
from jupyter_flows.kernel import figures, rich, tracebacks
from jupyter_flows.kernel.archive import StoreArchive
from jupyter_flows.kernel.channel import ControlChannel
from jupyter_flows.kernel.control import Control
from jupyter_flows.kernel.display import Views
from jupyter_flows.kernel.magics import FlowMagics
from jupyter_flows.kernel.watching import Watcher
from jupyter_flows.records import KernelRecord

SHUTDOWN_SECONDS = 1.5  # for cleanups: Jupyter leaves 2 s before it sends SIGTERM


class Extension:
    """What is loaded into one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.config = FlowsConfig.instance(parent=shell)
        kernel: Any = getattr(shell, "kernel", None)
        self.record = _this_process(kernel)
        self.watcher = Watcher()
        self.writer = Writer(
            self.config.store,
            self.record,
            _tell_trouble,
            keep_seconds=self.config.keep_days * 86_400,
            keep_bytes=self.config.keep_bytes,
        )
        self.archive = StoreArchive(lambda: Store(self.config.store))
        self.control = Control(self.record, self.watcher, self.archive)
        self.channel = None if kernel is None else ControlChannel(kernel, self.control)
        self.views = Views(shell, _widget_maker(kernel, self.control))

    def load(self) -> None:
        """Put everything in place."""
        ports.history = self.writer
        ports.kernel_id = self.record.id
        ports.show_error = tracebacks.formatter(self.shell)
        ports.listeners.append(self.watcher.moved)
        asking.can_ask = self._why_nobody_can_answer
        capture.install()
        rich.install(self.shell)
        figures.install()
        try:
            callers_loop.main_loop = asyncio.get_running_loop()
        except RuntimeError:
            callers_loop.main_loop = None
        if self.channel is not None:
            self.channel.open()
        formatters: Any = self.shell.display_formatter
        formatters.mimebundle_formatter.for_type(FlowRun, self._bundle)
        self.shell.register_magics(FlowMagics(self.shell, self.config, self.views))
        atexit.register(self.shut_down)

    def unload(self) -> None:
        """Take everything back that can be taken back; runs go on, without a view."""
        atexit.unregister(self.shut_down)
        if self.channel is not None:
            self.channel.close()
        rich.uninstall(self.shell)
        ports.listeners.remove(self.watcher.moved)
        ports.history = ports.NoHistory()
        ports.show_error = ports.plain_traceback
        self.writer.close(SHUTDOWN_SECONDS)

    def shut_down(self) -> None:
        """Cancel the active runs, give their cleanups time, and keep what they did."""
        runs = registry.active()
        for run in runs:
            run.cancel("shutdown")
        for run in runs:
            run.wait(SHUTDOWN_SECONDS / len(runs))
        self.writer.close(SHUTDOWN_SECONDS)

    def _bundle(self, run: FlowRun, *_: Any, **__: Any) -> Any:
        return self.views.bundle(run)

    def _why_nobody_can_answer(self, run: FlowRun, kind: str) -> str | None:
        return None


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


def _this_process(kernel: Any) -> KernelRecord:
    process = psutil.Process()
    connection_file = None
    if kernel is not None:
        connection_file = getattr(kernel.parent, "abs_connection_file", None)
    return KernelRecord(
        id=str(uuid4()),
        pid=os.getpid(),
        process_started=process.create_time(),
        host=platform.node(),
        connection_file=connection_file,
    )


def _tell_trouble(text: str) -> None:
    """Say once that past runs are not kept; runs themselves go on."""
    print(f"jupyter_flows: {text}", file=sys.__stderr__)
    warnings.warn(text, stacklevel=1)


def _widget_maker(kernel: Any, control: Control) -> Any:
    if kernel is None:
        return lambda run: None
    from jupyter_flows.kernel.widget import maker

    return maker(control)

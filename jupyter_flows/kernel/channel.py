"""The kernel's control channel: requests in, replies and pushes out.

ipykernel calls `_handle` on its control thread, one request at a time, also while
a cell is busy. Pushes are published from the watcher's thread: ipykernel's IOPub
socket hands them to its own thread. Every client hears them, so one watch a run
serves all.

ipykernel says "busy" and "idle" around each request, and front ends take the
"idle" for the kernel's. While a cell runs, "busy" is therefore said once more
after it. The lock makes sure that this is never said after the cell's own "idle".
"""

from __future__ import annotations

import asyncio
from threading import Lock
from typing import Any

from jupyter_flows import messages
from jupyter_flows.kernel.control import Control

_WHO = "the control channel"


class ControlChannel:
    """Serves ``flows_request`` on one ipykernel."""

    def __init__(self, kernel: Any, control: Control) -> None:
        self._kernel = kernel
        self._control = control
        self._lock = Lock()
        self._cells: list[Any] = []  # the requests of cells that run, the newest last
        self._events = {"pre_execute": self._cell_begins, "post_execute": self._cell_ends}

    def open(self) -> None:
        """Begin to answer."""
        self._kernel.control_handlers[messages.REQUEST] = self._handle
        for event, heard in self._events.items():
            self._kernel.shell.events.register(event, heard)

    def close(self) -> None:
        """Answer no more."""
        self._kernel.control_handlers.pop(messages.REQUEST, None)
        for event, heard in self._events.items():
            self._kernel.shell.events.unregister(event, heard)

    def _handle(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        send = self._kernel.session.send
        reply = self._control.answer(parent.get("content"), _WHO, self._publish)
        try:
            send(stream, messages.REPLY, reply, parent, ident)
        except (TypeError, ValueError) as error:  # an output that JSON cannot hold
            send(stream, messages.REPLY, messages.refused(error), parent, ident)
        asyncio.get_running_loop().call_soon(self._say_busy)

    def _publish(self, content: dict[str, Any]) -> None:
        self._send_on_iopub(messages.CHANGED, content, None)

    def _send_on_iopub(self, kind: str, content: dict[str, Any], parent: Any) -> None:
        kernel = self._kernel
        kernel.session.send(
            kernel.iopub_socket,
            kind,
            content,
            parent=parent,
            ident=f"kernel.{kernel.ident}.{kind}".encode(),
        )

    # -- whether a cell is busy -------------------------------------------------------

    def _cell_begins(self) -> None:
        with self._lock:
            self._cells.append(self._kernel.get_parent("shell"))

    def _cell_ends(self) -> None:
        with self._lock:
            if self._cells:
                self._cells.pop()

    def _say_busy(self) -> None:
        with self._lock:
            if self._cells:
                self._send_on_iopub("status", {"execution_state": "busy"}, self._cells[-1])

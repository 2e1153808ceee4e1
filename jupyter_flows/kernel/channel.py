"""The kernel's control channel: requests in, replies and pushes out.

ipykernel calls `_handle` on its control thread, one request at a time, also while
a cell is busy. Pushes are published from the watcher's thread: ipykernel's IOPub
socket hands them to its own thread.
"""

from __future__ import annotations

from typing import Any

from jupyter_flows import messages
from jupyter_flows.kernel.control import Control


class ControlChannel:
    """Serves ``flows_request`` on one ipykernel."""

    def __init__(self, kernel: Any, control: Control) -> None:
        self._kernel = kernel
        self._control = control

    def open(self) -> None:
        """Begin to answer."""
        self._kernel.control_handlers[messages.REQUEST] = self._handle

    def close(self) -> None:
        """Answer no more."""
        self._kernel.control_handlers.pop(messages.REQUEST, None)

    def _handle(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        kernel = self._kernel
        header = parent["header"]

        def publish(content: dict[str, Any]) -> None:
            kernel.session.send(
                kernel.iopub_socket,
                messages.CHANGED,
                content,
                parent={"header": header},
                ident=f"kernel.{kernel.ident}.{messages.CHANGED}".encode(),
            )

        who = f"control {header.get('session', '')}"
        reply = self._control.answer(parent.get("content"), who, publish)
        kernel.session.send(stream, messages.REPLY, reply, parent, ident)

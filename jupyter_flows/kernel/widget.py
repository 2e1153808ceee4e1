"""The view as a widget, for front ends without the labextension.

Where the front end gives a widget its kernel connection, the view talks to the
kernel's control channel by itself. Elsewhere it sends its requests here, through
the widget's comm, where they are answered when the kernel has time for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.kernel.control import Control
from jupyter_flows.kernel.display import MakeWidget, snapshot_of

_STATIC = Path(__file__).parent.parent / "static"


class FlowRunWidget(anywidget.AnyWidget):
    """Shows one run."""

    _esm = _STATIC / "widget.js"
    _css = _STATIC / "widget.css"

    run_id = traitlets.Unicode().tag(sync=True)
    snapshot = traitlets.Dict().tag(sync=True)

    def __init__(self, run: FlowRun, control: Control, model_id: str | None) -> None:
        super().__init__(run_id=run.id, snapshot=snapshot_of(run), model_id=model_id)
        self._control = control
        self.on_msg(self._answer)

    def _answer(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        reply = self._control.answer(content.get("content"), f"widget {self.model_id}", self._push)
        self.send({"type": "reply", "token": content.get("token"), "content": reply})

    def _push(self, content: dict[str, Any]) -> None:
        self.send({"type": "changed", "content": content})


def maker(control: Control) -> MakeWidget:
    """Return what makes a run's widget and returns its model's id."""

    def make(run: FlowRun, model_id: str | None) -> str | None:
        if not (_STATIC / "widget.js").exists():
            return None
        return str(FlowRunWidget(run, control, model_id).model_id)

    return make

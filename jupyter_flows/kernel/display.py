"""How a run is shown: one bundle for every front end.

The bundle's *data* is constant, as far as the flow's name is: no id, no time, so
that a notebook does not change when it is run again. What the run is, is in the
*metadata*, for the view in JupyterLab and Notebook 7. Next to it lies the widget,
for front ends without the labextension, and text for those without either. The
widget's model id is the same whenever the notebook is run from its beginning.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import NAMESPACE_OID, uuid5
from weakref import WeakSet

from IPython.core.interactiveshell import InteractiveShell

from jupyter_flows import messages
from jupyter_flows.engine import ports
from jupyter_flows.engine.current import current
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.kernel.watching import newest_that_fit

MIME = "application/vnd.jupyter-flows.run+json"
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
TAIL = 50  # lines of the log in a saved notebook


def data_of(run: FlowRun) -> dict[str, Any]:
    """Return the constant part of a run's bundle."""
    name = html.escape(run.name)
    return {
        MIME: {"version": messages.PROTOCOL, "name": run.name},
        "text/plain": repr(run),
        "text/html": f"<code>&lt;FlowRun &#x27;{name}&#x27;&gt;</code>",
    }


def metadata_of(run: FlowRun) -> dict[str, Any]:
    """Return the part that says what the run is now."""
    return {MIME: snapshot_of(run)}


def snapshot_of(run: FlowRun) -> dict[str, Any]:
    """Return the run as it is now and the tail of its log."""
    record = run.record()
    lines = run.log.read(record.log_count - TAIL, record.log_count)
    return {
        "run": record.as_json(),
        "lines": newest_that_fit(lines, messages.MAX_PUSHED_CHARACTERS),
        "kernel": ports.kernel_id,
    }


MakeWidget = Callable[[FlowRun, str | None], str | None]

_displays: Counter[str] = Counter()  # how often each cell has shown a run in this process


class Views:
    """Shows runs in one IPython shell.

    `make_widget` makes the widget of a run, with a model id if one is given, and
    returns that id; it returns None where there are no widgets.
    """

    def __init__(self, shell: InteractiveShell, make_widget: MakeWidget) -> None:
        self._shell = shell
        self._make_widget = make_widget
        self._stale: WeakSet[FlowRun] = WeakSet()  # shown, and not yet as they ended

    def bundle(self, run: FlowRun) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return data and metadata of a run, as IPython's formatters do."""
        data = data_of(run)
        model_id = self._make_widget(run, self._model_id())
        if model_id is not None:
            data[WIDGET_MIME] = {"version_major": 2, "version_minor": 1, "model_id": model_id}
        return data, metadata_of(run)

    def show(self, run: FlowRun) -> None:
        """Show a run in the cell that is being run."""
        data, metadata = self.bundle(run)
        self._stale.add(run)
        self._publish(run, data, metadata)

    def show_asking(self, run: FlowRun) -> None:
        """Show a foreground run in the cell that calls it, once: it asks a person."""
        if run in self._stale:
            return
        token = current.set(None)  # else it would be part of its own output
        try:
            self.show(run)
        finally:
            current.reset(token)

    def update(self, run: FlowRun) -> None:
        """Bring up to date what `show` showed, for front ends that save it."""
        if run.state_is_final():
            self._stale.discard(run)
        self._publish(run, data_of(run), metadata_of(run), update=True)

    def update_all(self) -> None:
        """Bring up to date all runs that were shown before they had ended."""
        for run in list(self._stale):
            self.update(run)

    def _publish(self, run: FlowRun, *bundle: dict[str, Any], **options: Any) -> None:
        publisher: Any = self._shell.display_pub
        publisher.publish(*bundle, transient={"display_id": run.id}, **options)

    def _model_id(self) -> str | None:
        """Return an id that the next run of the same notebook gives to this display too."""
        try:
            parent = self._shell.get_parent()  # type: ignore[attr-defined]
            cell = parent["metadata"].get("cellId") or parent["content"]["code"]
        except Exception:  # not displayed by a cell of a front end
            return None
        _displays[cell] += 1
        return uuid5(NAMESPACE_OID, f"{cell}\n{_displays[cell]}").hex

"""Runs the notebooks and writes them back with what they show:

    python tests/notebooks/refresh.py [NOTEBOOK ...]

Without arguments all of `notebooks/`. They are executed as in CI, with
``JUPYTER_FLOWS_WAIT=1``, by a fresh kernel each and with a store of their own. A
notebook whose cells fail is left as it was.

A cell that shows what it showed before keeps its outputs as they are, and its views
the runs that they hold: executing again changes only what has changed. What is
written is the normal form:

- the kernel is `python3`, whatever is installed here; no versions, no cell timings;
- of cells the metadata keeps the tags, of outputs it keeps what a view holds of its
  run: how it ended and the last lines of its log, also where the cell did not wait;
- no widgets: those of a kernel that is gone cannot be shown;
- a stream that came in pieces is one output; a traceback, which names files of this
  machine, is empty, and in logs those files lose the beginning of their paths.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from jupyter_flows.history import Store

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = REPOSITORY / "notebooks"
RUN = "application/vnd.jupyter-flows.run+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
LINES_KEPT = 5  # of the log of a run
SECONDS_A_CELL = 120
HERE = sorted({sys.prefix, sys.base_prefix, str(REPOSITORY)}, key=len, reverse=True)


def main(paths: list[Path]) -> None:
    """Execute each notebook and write it back."""
    os.environ["JUPYTER_FLOWS_WAIT"] = "1"
    for path in paths or sorted(NOTEBOOKS.glob("*.ipynb")):
        before = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder) / "flows.sqlite"
            os.environ["JUPYTER_FLOWS_STORE"] = str(store)
            after = nbformat.read(path, as_version=4)
            client = NotebookClient(after, timeout=SECONDS_A_CELL, kernel_name="python3")
            client.execute(cwd=str(path.parent))
            with Store(store) as opened:
                _tell_how_runs_ended(after, opened)
        changed = _keep_what_is_the_same(before, normal_form(after))
        nbformat.write(after, path)
        print(f"{path.name}: {changed} cells show something else")


def normal_form(notebook: NotebookNode) -> NotebookNode:
    """Change a notebook to what is to be committed of it, and return it."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = _in_one_piece(cell.outputs)
            for output in cell.outputs:
                _strip(output)
    return notebook


def _in_one_piece(outputs: list[NotebookNode]) -> list[NotebookNode]:
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def _strip(output: NotebookNode) -> None:
    if output.output_type == "error":
        output.traceback = []
    if "metadata" in output:
        saved = output.metadata.get(RUN)
        output.metadata = nbformat.from_dict({RUN: _without_paths(saved)} if saved else {})
        output.data.pop(WIDGET, None)


def _without_paths(value: Any) -> Any:
    if isinstance(value, str):
        for path in HERE:
            value = value.replace(path, "…")
    elif isinstance(value, dict):
        return {key: _without_paths(each) for key, each in value.items()}
    elif isinstance(value, list):
        return [_without_paths(each) for each in value]
    return value


def _views(cell: NotebookNode) -> list[NotebookNode]:
    """What the views among a cell's outputs hold of their runs."""
    outputs = cell.get("outputs", ())
    return [output.metadata[RUN] for output in outputs if RUN in output.get("metadata", {})]


def _tell_how_runs_ended(notebook: NotebookNode, store: Store) -> None:
    for cell in notebook.cells:
        for saved in _views(cell):
            record = store.run(saved.run.id)
            assert record is not None, f"The store has no run of cell {cell.id!r}."
            first = max(record.log_count - LINES_KEPT, 0)
            lines = [
                [line.number, line.time, line.level, line.source, line.message]
                for line in store.lines(record.id, first, record.log_count).lines
            ]
            kept = {"run": record.as_json(), "lines": lines}
            saved.update(nbformat.from_dict(json.loads(json.dumps(kept))))


def _keep_what_is_the_same(before: NotebookNode, after: NotebookNode) -> int:
    """Leave alone the outputs of cells that show what they did; return how many do not."""
    known = {cell.id: cell for cell in before.cells}
    changed = 0
    for cell in after.cells:
        if cell.cell_type == "code":
            if _shown(cell) == _shown(known[cell.id]):
                cell.outputs = known[cell.id].outputs
            else:
                changed += 1
    return changed


def _shown(cell: NotebookNode) -> Any:
    outputs = [{**output, "metadata": None, "execution_count": None} for output in cell.outputs]
    return cell.source, outputs, [saved.run.state_name for saved in _views(cell)]


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]])

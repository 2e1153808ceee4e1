"""Runs the notebooks and writes them back with what they show:

    python tests/notebooks/refresh.py [NOTEBOOK ...]

Without arguments all of `notebooks/`. They are executed as in CI, with
``JUPYTER_FLOWS_WAIT=1``, by a fresh kernel each and with a store of their own. A
notebook whose cells fail is left as it was.

What is written is the normal form, so that running them again changes only what
changed:

- the kernel is `python3`, whatever is installed here; no versions, no cell timings;
- of cells the metadata keeps the tags; outputs have none, which in a run's view would
  hold its id and times;
- no widgets: those of a kernel that is gone cannot be shown;
- a stream that came in pieces is one output; a traceback, which names files of this
  machine, is empty.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SECONDS_A_CELL = 120


def main(paths: list[Path]) -> None:
    """Execute each notebook and write it back."""
    os.environ["JUPYTER_FLOWS_WAIT"] = "1"
    for path in paths or sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            os.environ["JUPYTER_FLOWS_STORE"] = str(Path(folder) / "flows.sqlite")
            NotebookClient(
                notebook,
                timeout=SECONDS_A_CELL,
                kernel_name="python3",
                resources={"metadata": {"path": str(path.parent)}},
            ).execute()
        nbformat.write(normal_form(notebook), path)
        print(f"{path.name}: {len(notebook.cells)} cells")


def normal_form(notebook: NotebookNode) -> NotebookNode:
    """Change a notebook to what is to be committed of it, and return it."""
    notebook.metadata = NotebookNode(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
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
        output.metadata = NotebookNode()
        output.data.pop(WIDGET, None)


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]])

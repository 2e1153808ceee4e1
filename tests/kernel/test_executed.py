"""Notebooks that are executed without a front end, as in CI."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from jupyter_flows.kernel.display import MIME, WIDGET_MIME

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Executes cells as a notebook and returns it."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("JUPYTER_FLOWS_STORE", str(tmp_path / "flows.sqlite"))

    def run(*sources: str, wait: bool) -> Any:
        monkeypatch.setenv("JUPYTER_FLOWS_WAIT", "1" if wait else "0")
        cells = [nbformat.v4.new_code_cell(each) for each in ("%load_ext jupyter_flows", *sources)]
        notebook = nbformat.v4.new_notebook(cells=cells)
        NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
        return notebook

    return run


CELL = "%%flow train\nfor i in range(100): print('epoch', i)\nbest = 7"


def test_what_is_saved_is_the_same_each_time(execute: Any) -> None:
    """A notebook executed twice in CI differs only in metadata, and holds no widget."""
    first, second = (execute(CELL, "best", wait=True) for _ in range(2))
    for notebook in (first, second):
        assert "widgets" not in notebook.metadata
        view, text = notebook.cells[1].outputs
        assert WIDGET_MIME not in view.data
        assert text.text == "".join(f"epoch {i}\n" for i in range(100))
        assert view.metadata[MIME]["run"]["state_type"] == "COMPLETED"
        assert notebook.cells[2].outputs[0].data["text/plain"] == "7"
    assert first.cells[1].outputs[0].data == second.cells[1].outputs[0].data


def test_a_failing_flow_fails_its_cell(execute: Any) -> None:
    """A notebook executed in CI stops at the cell whose run failed."""
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute("%%flow bad\n1 / 0", "print('never')", wait=True)


def test_the_barrier_ends_a_notebook_with_its_runs_ended(execute: Any) -> None:
    """`%flows wait` in the last cell lets the saved views show how the runs ended."""
    notebook = execute(
        "import time",
        "%%flow slow\nfor i in range(20): print(i); time.sleep(0.02)",
        "%flows wait",
        wait=False,
    )
    (view,) = notebook.cells[2].outputs
    assert view.metadata[MIME]["run"]["state_type"] == "COMPLETED"
    assert view.metadata[MIME]["lines"][-1][4] == "19"
    assert not notebook.cells[3].outputs

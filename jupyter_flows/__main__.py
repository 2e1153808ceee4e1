"""``python -m jupyter_flows NOTEBOOK``: run notebooks headless, as CI does.

Every ``%%flow`` cell waits for its run. What ran, and how each run ended, is
printed at the end; the exit code is 0 if every cell succeeded. The notebooks are
left as they are, and the runs are kept apart from the user's own.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jupyter_flows.config import WAIT_VARIABLE
from jupyter_flows.history.store import Store
from jupyter_flows.records import RunRecord


def main(arguments: list[str] | None = None) -> int:
    """Run the notebooks named on the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jupyter_flows", description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    options = parser.parse_args(arguments)
    for path in options.notebooks:
        if not path.is_file():
            parser.error(f"there is no notebook {path}")
    return max([_run(path) for path in options.notebooks])


def _run(path: Path) -> int:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    print(f"{path}: running", flush=True)
    begun = time.monotonic()
    failure = ""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "flows.sqlite"
        environment = {**os.environ, WAIT_VARIABLE: "1", "JUPYTER_FLOWS_STORE": str(store)}
        client = NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}})
        try:
            client.execute(env=environment)
        except CellExecutionError as error:
            failure = str(error)
        runs = _stored_runs(store)
    for run in runs:
        print(f"  {run.name:32.32} {run.state_name:12} {_seconds(run):8.2f} s  {run.on}")
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    ending = "a cell failed" if failure else "every cell succeeded"
    elapsed = time.monotonic() - begun
    print(f"{path}: {cells} cells, {len(runs)} runs, {elapsed:.1f} s, {ending}")
    if failure:
        print(failure, file=sys.stderr)
    return 1 if failure else 0


def _stored_runs(path: Path) -> list[RunRecord]:
    if not path.exists():
        return []
    with Store(path) as store:
        return sorted(store.runs(limit=1_000), key=lambda run: run.created)


def _seconds(run: RunRecord) -> float:
    if run.started is None or run.ended is None:
        return 0.0
    return run.ended - run.started - run.paused_seconds


if __name__ == "__main__":
    sys.exit(main())

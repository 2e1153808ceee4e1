"""The user's guide is executed: as in CI, as a person does it, and compared by nbval."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest

from jupyter_flows.history import Store
from jupyter_flows.records import RunRecord
from jupyter_flows.states import TERMINAL
from tests.repeats import in_full

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
GUIDE = [
    "cancelling",
    "coming_from_prefect",
    "concurrency",
    "logs_and_output",
    "pausing_for_approval",
    "quickstart",
    "tasks_and_retries",
]
PROCESS_SECONDS = 400

pytestmark = pytest.mark.timeout(2 * PROCESS_SECONDS)
of_each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)

Run = subprocess.CompletedProcess[str]
Call = Callable[..., Run]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The file in which the runs of a test are kept."""
    return tmp_path / "flows.sqlite"


@pytest.fixture
def call(store: Path) -> Call:
    """Runs a module as a program, as in CI (`wait`) or as a person does."""

    def call(module: str, *arguments: str | Path, wait: bool, cwd: Path = REPOSITORY) -> Run:
        environment = os.environ | {
            "JUPYTER_FLOWS_STORE": str(store),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        }
        environment.pop("JUPYTER_FLOWS_WAIT", None)
        if wait:
            environment["JUPYTER_FLOWS_WAIT"] = "1"
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PROCESS_SECONDS,
            check=False,
        )

    return call


def runs_of(store: Path) -> list[RunRecord]:
    with Store(store) as opened:
        return opened.runs(limit=1_000)


def write(path: Path, *cells: str) -> Path:
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(made, path)
    return path


def execute(call: Call, path: Path, *, wait: bool) -> Run:
    """Execute a notebook and write what it shows into it."""
    return call("jupyter", "execute", "--inplace", path, wait=wait, cwd=path.parent)


def copy_of(notebook: Path, folder: Path) -> Path:
    copy = folder / notebook.name
    copy.write_bytes(notebook.read_bytes())
    return copy


def test_the_guide_is_complete() -> None:
    """The guide is these notebooks, no more and no fewer."""
    assert [path.stem for path in NOTEBOOKS] == GUIDE


@of_each_notebook
@pytest.mark.parametrize("wait", [True, False], ids=["as in CI", "as a person"])
def test_every_cell_runs_and_every_run_ends(
    notebook: Path, wait: bool, call: Call, store: Path, tmp_path: Path
) -> None:
    """From top to bottom no cell fails or hangs, and no run is left for the kernel to end."""
    done = execute(call, copy_of(notebook, tmp_path), wait=wait)
    assert done.returncode == 0, done.stdout
    runs = runs_of(store)
    assert runs
    left = [run.name for run in runs if run.state_type not in TERMINAL or run.reason == "shutdown"]
    assert not left
    crashed = [run.name for run in runs if run.state_type == "CRASHED"]
    assert not crashed


@pytest.mark.parametrize("time", ["first", pytest.param("second", marks=in_full)])
def test_nbval_finds_what_the_notebooks_hold(time: str, call: Call) -> None:
    """Run again and again, the notebooks show what they hold, with nothing sanitized."""
    done = call("pytest", "--nbval", "notebooks/", "-q", "-p", "no:cacheprovider", wait=True)
    assert done.returncode == 0, done.stdout


def test_a_changed_number_is_noticed(call: Call, tmp_path: Path) -> None:
    """Every cell that shows a number fails under nbval when that number is another."""
    expected = set()
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for number, cell in enumerate(code):
            if any(change_a_number(output) for output in cell.outputs):
                expected.add(f"{path.stem}:{number}")
        nbformat.write(notebook, tmp_path / path.name)
    assert len(expected) >= len(NOTEBOOKS)

    report = tmp_path / "report.xml"
    done = call(
        "pytest", "--nbval", ".", "-q", "--rootdir=.", f"--junitxml={report}",
        wait=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert failed_cells(report) == expected


def change_a_number(output: Any) -> bool:
    """Change the last digit of a text that is shown; say whether there is one."""
    if output.output_type == "stream":
        holder, key = output, "text"
    elif output.output_type == "execute_result":
        holder, key = output.data, "text/plain"
    else:
        return False
    changed = re.sub(r"\d(?=\D*\Z)", lambda digit: str(9 - int(digit[0])), holder[key])
    if changed == holder[key]:
        return False
    holder[key] = changed
    return True


def failed_cells(report: Path) -> set[str]:
    """Read which cells failed: as ``notebook:number``."""
    failed = set()
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            notebook = case.attrib["classname"].removesuffix(".ipynb")
            failed.add(f"{notebook}:{case.attrib['name'].split()[-1]}")
    return failed


@of_each_notebook
def test_notebooks_are_in_their_normal_form(notebook: Path) -> None:
    """What is committed is what `refresh.py` writes: executing again makes no other changes."""
    normal_form = runpy.run_path(str(Path(__file__).with_name("refresh.py")))["normal_form"]
    held = notebook.read_text(encoding="utf-8")
    read = nbformat.reads(held, as_version=4)
    assert nbformat.writes(normal_form(read)).rstrip("\n") == held.rstrip("\n")


@of_each_notebook
def test_outputs_hold_nothing_of_their_machine_and_time(notebook: Path) -> None:
    """No output holds a time, an id, an address, or a path."""
    telling = {
        "time": r"\d\d:\d\d:\d\d",
        "id": r"[0-9a-f]{8}-[0-9a-f]{4}-",
        "address": r"0x[0-9a-f]{5,}",
        "path": r"(?<![\w.<])/(?:\w+/)+\w|[A-Z]:\\",
        "kernel": r"ipykernel",
    }
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", "")})
            shown = "\n".join(str(data[kind]) for kind in data if kind.startswith("text/"))
            for what, pattern in telling.items():
                assert not re.search(pattern, shown), f"{cell.id} holds a {what}: {shown}"


@of_each_notebook
def test_every_cell_is_compared(notebook: Path) -> None:
    """Every code cell has been executed, and none asks nbval to look away."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.execution_count, f"nbval skips {cell.id}, which was not executed"
            assert "NBVAL" not in cell.source
            assert not cell.metadata.get("tags")


def test_a_flow_that_fails_fails_its_cell(call: Call, store: Path, tmp_path: Path) -> None:
    """Where cells wait for their runs, a failing run fails its cell and the notebook with it."""
    path = write(
        tmp_path / "failing.ipynb",
        "%load_ext jupyter_flows",
        "%%flow divide\nprint('about to divide')\n1 / 0",
        "print('never reached')",
    )
    done = execute(call, path, wait=True)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stdout
    assert [(run.name, run.state_type) for run in runs_of(store)] == [("divide", "FAILED")]


def test_a_flow_that_waits_for_a_person_fails_its_cell(
    call: Call, store: Path, tmp_path: Path
) -> None:
    """A waiting cell whose run asks for approval fails at once, and says what to do."""
    path = write(
        tmp_path / "asking.ipynb",
        "%load_ext jupyter_flows\nfrom jupyter_flows import pause_flow_run",
        "%%flow ask\npause_flow_run()",
    )
    done = execute(call, path, wait=True)
    assert done.returncode != 0
    assert "--no-wait" in done.stdout
    assert [run.state_type for run in runs_of(store)] == ["CANCELLED"]

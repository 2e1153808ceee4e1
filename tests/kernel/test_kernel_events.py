"""What happens to a kernel and not to its runs: interrupt, shutdown, restart, its end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from jupyter_flows.commands.descendants import MARK
from jupyter_flows.history import Store

REPOSITORY = Path(__file__).parents[2]
WORKERS = ["thread", "async", "main", "process"]
COUNTS = {  # bodies that go on for ever, by what they are doing
    "sleeps": "import time\nwhile True:\n    n += 1; time.sleep(0.01)",
    "computes": "while True:\n    n += 1",
    "awaits": "import asyncio\nwhile True:\n    n += 1; await asyncio.sleep(0.01)",
    "commands": (
        "from jupyter_flows import run_process\n"
        "run_process('while :; do echo on; sleep 0.01; done')"
    ),
    "awaited-commands": (
        "from jupyter_flows import run_process\n"
        "await run_process('while :; do echo on; sleep 0.01; done')"
    ),
}
FITTING = [
    ("thread", "sleeps"),
    ("thread", "computes"),
    ("thread", "commands"),
    ("async", "awaits"),
    ("async", "computes"),
    ("async", "awaited-commands"),
    ("main", "awaits"),
    ("main", "awaited-commands"),
    ("process", "sleeps"),
    ("process", "commands"),
]


def begin(kernel: Any, name: str, on: str, body: str) -> str:
    """Start a run of a cell, and return its id once it runs."""
    if on in ("async", "main") and "await" not in body:
        body = f"import asyncio\nawait asyncio.sleep(0)\n{body}"
    ran = kernel.run(f"%%flow {name} --on {on} --no-view\nn = 0\nprint('begun')\n{body}")
    assert ran["error"] is None, ran
    run: str = kernel.latest()
    until(lambda: count(kernel, run) > 0)
    return run


def count(kernel: Any, run: str) -> int:
    """How many lines there are in the log of a run."""
    lines: int = kernel.control("show", run=run)["run"]["log_count"]
    return lines


@pytest.mark.parametrize("cell", ["idle", "a sync cell", "an async cell"])
def test_an_interrupt_leaves_runs_alone(new_kernel: Callable[..., Any], cell: str) -> None:
    """Interrupting the kernel ends the cell that is busy, and touches no background run."""
    kernel = new_kernel()
    runs = {f"{on}-{what}": begin(kernel, f"{on}-{what}", on, COUNTS[what]) for on, what in FITTING}
    request = None
    if cell == "a sync cell":
        request = kernel.begin("import time\nprint('busy')\ntime.sleep(3600)")
    elif cell == "an async cell":
        request = kernel.begin("import asyncio\nprint('busy')\nawait asyncio.sleep(3600)")
    if request is not None:
        kernel.hear_until(lambda _: "busy" in kernel.outcome(request)["text"])
    kernel.manager.interrupt_kernel()
    if request is not None:
        error = kernel.finish(request)["error"]["ename"]
        assert error in ("KeyboardInterrupt", "CancelledError")
    for _ in range(5):
        kernel.manager.interrupt_kernel()
    assert kernel.run("1 + 1")["result"] == "2"
    for which, run in runs.items():
        assert kernel.state(run) == "RUNNING", which
        if "commands" in which:
            before = count(kernel, run)
            until(lambda run=run, before=before: count(kernel, run) > before)
    kernel.run("from jupyter_flows import runs\n[run.cancel(grace=0) for run in runs.list()]")
    for which, run in runs.items():
        assert kernel.until(run, "CANCELLED", "CRASHED")["state_type"] == "CANCELLED", which


BODIES = {  # twenty runs, each with a cleanup; what they do is stopped by different means
    "thread sleeps": ("thread", "import time\ntime.sleep(3600)"),
    # before Python 3.12 a loop is out of reach that is the first thing after `try:`
    "thread computes": ("thread", "n += 1\nwhile True: n += 1"),
    "thread commands": (
        "thread",
        "from jupyter_flows import run_process as p\np('while sleep 0.01; do echo on; done | cat')",
    ),
    "thread command that is stubborn": (
        "thread",
        "from jupyter_flows import run_process as p\np(\"trap '' TERM; sleep 3600; sleep 3600\")",
    ),
    "thread in a helper": (
        "thread",
        "import time\ndef inner():\n    global n\n    while True: n += 1\ninner()",
    ),
    "async awaits": ("async", "await asyncio.sleep(3600)"),
    "async computes": ("async", "await asyncio.sleep(0)\nwhile True: n += 1"),
    "async commands": (
        "async",
        "from jupyter_flows import run_process\nawait run_process(['sleep', '3600'])",
    ),
    "main awaits": ("main", "await asyncio.sleep(3600)"),
    "main commands": (
        "main",
        "from jupyter_flows import run_process\nawait run_process('sleep 3600 | cat')",
    ),
}
CLEANED = "open({path!r}, 'w').close(); print('cleaned')"


def start_twenty(kernel: Any, folder: Path) -> dict[str, str]:
    """Start two runs of each kind; each makes a file, named after it, in its `finally`."""
    runs = {}
    for which, (on, body) in BODIES.items():
        for number in range(2):
            name = f"{which} {number}"
            indented = body.replace("\n", "\n    ")
            cleanup = CLEANED.format(path=str(folder / name))
            runs[name] = begin(
                kernel,
                "cleans",
                on,
                f"import asyncio\ntry:\n    {indented}\nfinally:\n"
                + ("    await asyncio.sleep(0.05)\n" if on in ("async", "main") else "")
                + f"    {cleanup}",
            )
    return runs


@pytest.mark.skipif(sys.version_info < (3, 12), reason="busy loops may be out of reach there")
@pytest.mark.parametrize("how", ["shutdown", "restart"])
def test_the_end_of_a_kernel_cleans_up_twenty_runs(
    new_kernel: Callable[..., Any], tmp_path: Path, how: str
) -> None:
    """Shutdown and restart run the `finally` of all runs in time, and leave no process."""
    kernel = new_kernel()
    folder = tmp_path / "cleaned"
    folder.mkdir()
    runs = start_twenty(kernel, folder)
    assert len(runs) == 20
    until(lambda: len(commands()) >= 8)
    kernel_process = psutil.Process(kernel.pid)
    began = time.monotonic()
    if how == "shutdown":
        kernel.manager.shutdown_kernel()
        took = time.monotonic() - began
    else:
        kernel.manager.restart_kernel()
        took = time.monotonic() - began
    assert sorted(each.name for each in folder.iterdir()) == sorted(runs)
    assert not kernel_process.is_running() or how == "restart"
    assert commands() == []
    assert took < 3, "Jupyter was not kept waiting"
    with Store(kernel.store) as store:
        for name, run in runs.items():
            record = store.run(run)
            assert record is not None
            assert (record.state_type, record.reason) == ("CANCELLED", "shutdown"), name
            assert "cleaned" in [line.message for line in store.lines(run).lines], name


def test_a_run_in_a_process_ends_with_its_kernel(
    new_kernel: Callable[..., Any], tmp_path: Path
) -> None:
    """A shutdown runs the `finally` of a process run, and leaves nothing of it."""
    path = tmp_path / "cleaned"
    kernel = new_kernel()
    run = begin(
        kernel,
        "cleans",
        "process",
        f"try:\n    n += 1\n    while True: n += 1\nfinally:\n    {CLEANED.format(path=str(path))}",
    )
    below = psutil.Process(kernel.pid).children(recursive=True)
    kernel.manager.shutdown_kernel()
    assert path.exists()
    until(lambda: not any(each.is_running() for each in below))
    with Store(kernel.store) as store:
        assert store.run(run).state_type == "CANCELLED"


def test_a_run_that_was_cancelled_before_is_hurried(
    new_kernel: Callable[..., Any], tmp_path: Path
) -> None:
    """A grace that goes beyond the kernel's end does not cost a run its cleanup."""
    path = tmp_path / "cleaned"
    kernel = new_kernel()
    run = begin(
        kernel,
        "slow",
        "thread",
        f"try:\n    n += 1\n    while True: n += 1\nfinally:\n    {CLEANED.format(path=str(path))}",
    )
    kernel.run("from jupyter_flows import runs\n[run.cancel(grace=600) for run in runs.list()]")
    assert kernel.state(run) == "CANCELLING"
    kernel.manager.shutdown_kernel()
    assert path.exists()
    with Store(kernel.store) as store:
        record = store.run(run)
        assert (record.state_type, record.reason) == ("CANCELLED", "user")


def test_a_command_in_a_cleanup_does_not_outlive_the_kernel(
    new_kernel: Callable[..., Any],
) -> None:
    """A command that nothing may stop, in a `finally` or a shield, ends with the kernel."""
    kernel = new_kernel()
    begin(
        kernel,
        "tidies",
        "thread",
        "from jupyter_flows import run_process, shield\n"
        "with shield():\n    run_process(['sleep', '3600'])",
    )
    until(lambda: len(commands()) == 1)
    kernel.manager.shutdown_kernel()
    until(lambda: commands() == [])


def test_a_notebook_that_is_executed_ends_with_its_runs(tmp_path: Path) -> None:
    """At the end of `jupyter execute` the runs that are left clean up, and leave no process."""
    cleaned = [str(tmp_path / name) for name in ("sleeps", "computes", "commands")]
    bodies = ["time.sleep(3600)", "while True: pass", "run_process('yes | cat')"]
    flows = [
        f"%%flow left --no-view\ntry:\n    print('begun')\n    {body}\nfinally: open({path!r}, 'w')"
        for body, path in zip(bodies, cleaned, strict=True)
    ]
    first = "%load_ext jupyter_flows\nimport time\nfrom jupyter_flows import run_process, runs"
    last = "while not all(run.logs for run in runs.list()): time.sleep(0.01)"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in (first, *flows, last)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, tmp_path / "left.ipynb")
    executed = python(tmp_path, "-m", "jupyter", "execute", "left.ipynb")
    assert executed.returncode == 0, executed.stderr
    assert [path for path in cleaned if not Path(path).exists()] == []
    until(lambda: commands() == [])


SCRIPT = """
import asyncio, sys, time
from jupyter_flows import flow, run_process, runs

@flow
def computes():
    print("begun")
    try:
        n = 1
        while n: pass
    finally: open(sys.argv[1] + "/computes", "w")

@flow
def commands():
    print("begun")
    try: run_process("trap '' TERM; echo on; while :; do sleep 0.1; done")
    finally: open(sys.argv[1] + "/commands", "w")

@flow
async def awaits():
    print("begun")
    try: await run_process(["sleep", "3600"])
    finally:
        await asyncio.sleep(0.1)
        open(sys.argv[1] + "/awaits", "w")

left = [computes.start(), commands.start(), awaits.start()]
while not (all(run.logs for run in left) and len(left[1].logs) == 2): time.sleep(0.01)
"""


def test_a_script_that_ends_stops_its_runs(tmp_path: Path) -> None:
    """A plain script cancels what runs in the background as it ends, and waits for cleanups."""
    began = time.monotonic()
    ended = python(tmp_path, "-c", SCRIPT, str(tmp_path))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    made = {name for name in ("computes", "commands", "awaits") if (tmp_path / name).exists()}
    assert made == {"computes", "commands", "awaits"}
    assert time.monotonic() - began < 10
    assert commands() == []


def test_a_forked_child_does_not_wait_for_runs_of_its_parent(tmp_path: Path) -> None:
    """The end of a forked child is its own: the runs it has images of are its parent's."""
    source = (
        "import os, sys, time, warnings; from jupyter_flows import flow\n"
        "@flow\ndef lasts(): time.sleep(3600)\n"
        "run = lasts.start(); warnings.simplefilter('ignore')\n"
        "began = time.monotonic(); pid = os.fork()\n"
        "if not pid: sys.exit(0)\n"
        "os.waitpid(pid, 0); print(time.monotonic() - began < 3, run.state.name)"
    )
    ended = python(tmp_path, "-c", source)
    assert (ended.stdout, ended.stderr) == ("True Running\n", "")


def commands() -> list[psutil.Process]:
    """The processes of this test that commands have started."""
    found = []
    for each in psutil.process_iter():
        try:
            environment = each.environ()
            ours = environment.get("JUPYTER_FLOWS_TEST") == str(os.getpid())
            if ours and MARK in environment and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
        except psutil.Error:
            pass
    return found


@pytest.fixture(autouse=True)
def _own_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell the processes of these tests from others of this machine."""
    monkeypatch.setenv("JUPYTER_FLOWS_TEST", str(os.getpid()))


def python(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_FLOWS_STORE": str(folder / "flows.sqlite"),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def until(done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)

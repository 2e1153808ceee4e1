"""Loading, configuring, unloading and ending, in kernels and without."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyter_flows.history import Store

REPOSITORY = Path(__file__).parents[2]


def test_loading_twice_is_harmless(new_kernel: Callable[..., Any]) -> None:
    """`%load_ext` may be said again: nothing is installed twice and nothing is lost."""
    kernel = new_kernel()
    kernel.run("%load_ext jupyter_flows\nfrom jupyter_flows import load_ipython_extension")
    assert kernel.run("load_ipython_extension(get_ipython())")["error"] is None
    kernel.run("%%flow once --wait --no-view\ndisplay(1); print('line')")
    run = kernel.latest()
    assert kernel.lines(run) == ["line"]
    assert len(kernel.control("outputs", run=run)["outputs"]) == 1


def test_reloading_keeps_runs_and_their_history(new_kernel: Callable[..., Any]) -> None:
    """`%reload_ext` works; a run that was active goes on, controlled and kept as before."""
    kernel = new_kernel()
    kernel.run("import threading\ngo = threading.Event()")
    kernel.run(
        "%%flow lasts --no-view --out run\nprint('before'); go.wait(); print('after'); x = 1"
    )
    run = kernel.latest()
    kernel.until(run, "RUNNING")
    assert kernel.run("%reload_ext jupyter_flows")["error"] is None
    kernel.run("%%flow newer --wait --no-view\n1")
    assert kernel.state(run) == "RUNNING"
    assert kernel.run("go.set(); run.result(); x")["result"] == "1"
    with Store(kernel.store) as store:
        _until(lambda: [run.state_type for run in store.runs(10)] == ["COMPLETED"] * 2)
        assert [line.message for line in store.lines(run).lines] == ["before", "after"]
        assert len({each.kernel for each in store.runs(10)}) == 1


def test_unloading_takes_everything_back(new_kernel: Callable[..., Any]) -> None:
    """After `%unload_ext` the kernel is as it was: magics, doors, handlers, completions."""
    kernel = new_kernel()
    state = (
        "ip = get_ipython()\nstate = lambda: ("
        "sorted(ip.kernel.control_handlers), sorted(ip.magics_manager.magics['cell']),"
        "'user_ns' in vars(type(ip)), type(ip.user_module).__mro__, len(ip.configurables),"
        "ip.kernel.raw_input.__qualname__, __import__('getpass').getpass.__qualname__,"
        "ip.display_pub.publish.__qualname__, len(ip.Completer.custom_matchers),"
        "[len(v) for v in ip.events.callbacks.values()])\n"
    )
    kernel.run("%unload_ext jupyter_flows")
    kernel.run(state + "plain = state()")
    kernel.run("%load_ext jupyter_flows")
    kernel.run("%%flow once --wait\n1")
    assert kernel.run("state() == plain")["result"] == "False"
    kernel.run("%unload_ext jupyter_flows")
    assert kernel.run("state() == plain or (state(), plain)")["result"] == "True"
    fresh = "hasattr(type(ip), '_jupyter_flows') or state()[5], state()[7]"
    assert kernel.run(fresh)["result"] == ("('Kernel.raw_input', 'ZMQDisplayPublisher.publish')")
    assert kernel.run("%%flow\n1")["error"]["ename"] == "UsageError"


def test_every_default_can_be_configured(new_kernel: Callable[..., Any]) -> None:
    """`%config FlowsConfig.…` changes what the next cell does, and options override it."""
    kernel = new_kernel()
    assert "FlowsConfig" in kernel.run("%config")["text"]
    for line in ("wait = True", "view = False", "retries = 1", "tags = ['mine']"):
        assert kernel.run(f"%config FlowsConfig.{line}")["error"] is None
    kernel.run("tries = []")
    ran = kernel.run(
        "%%flow once --tag own\ntries.append(1)\nprint(len(tries))\n1 / (len(tries) - 1)"
    )
    assert (ran["text"].split("\n")[::2], ran["error"], ran["displays"]) == (["1", "2"], None, [])
    assert "retry 1 of 1" in ran["text"]
    record = kernel.control("list", limit=1)["runs"][0]
    assert (record["attempt"], record["tags"]) == (2, ["mine", "own"])
    ran = kernel.run("%%flow other --no-wait --view --retries 0\n1 / 0")
    assert (ran["error"], len(ran["displays"])) == (None, 1)


def test_a_config_file_sets_the_defaults(new_kernel: Callable[..., Any], tmp_path: Path) -> None:
    """What IPython's configuration says of `FlowsConfig` reaches the magics."""
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text("c.FlowsConfig.tags = ['from-file']\n")
    kernel = new_kernel(IPYTHONDIR=str(tmp_path / "ipython"))
    kernel.run("%%flow once --wait\n1")
    assert kernel.control("list")["runs"][0]["tags"] == ["from-file"]


def test_the_store_knows_how_to_reach_a_kernel(new_kernel: Callable[..., Any]) -> None:
    """What is kept of a kernel names its process and its connection file."""
    kernel = new_kernel()
    kernel.run("%%flow once --wait --no-view\n1")
    with Store(kernel.store) as store:
        _until(lambda: bool(store.runs(1)))
        record = store.kernel(store.runs(1)[0].kernel)
    assert record.pid == kernel.pid
    assert Path(record.connection_file) == Path(kernel.manager.connection_file)


@pytest.mark.parametrize("kind", ["directory", "garbage", "below a file"])
def test_a_store_that_cannot_be_used_is_said_once_and_stops_no_run(
    new_kernel: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    """Where runs cannot be kept the kernel says so in one line, once, and runs go on."""
    path = tmp_path / "bad"
    match kind:
        case "directory":
            path.mkdir()
        case "garbage":
            path.write_bytes(b"no database " * 1000)
        case "below a file":
            path.touch()
            path = path / "flows.sqlite"
    kernel = new_kernel(JUPYTER_FLOWS_STORE=str(path))
    told = ""
    for name in ("a", "b"):
        ran = kernel.run(f"%%flow {name} --wait --no-view\nfor i in range(20_000): print(i)")
        assert ran["error"] is None
        page = kernel.control("logs", run=kernel.latest(), start=19_999)
        assert [line[4] for line in page["lines"]] == ["19999"]
    kernel.hear_for(0.3)
    for message in kernel.heard:
        if message["msg_type"] == "stream" and message["content"]["name"] == "stderr":
            told += message["content"]["text"]
    assert told.startswith("jupyter_flows: ")
    assert told.endswith("Runs go on, and are kept in memory only.\n")
    assert told.count("\n") == 1


def test_a_killed_kernel_loses_at_most_a_moment(new_kernel: Callable[..., Any]) -> None:
    """After SIGKILL in mid-run older lines are in the store, and the run is found CRASHED."""
    kernel = new_kernel()
    kernel.run(
        "%%flow counts --no-view\nimport time\ni = 0\n"
        "while True:\n    print(i, time.time()); i += 1; time.sleep(0.001)"
    )
    run = kernel.latest()
    _until(lambda: kernel.control("show", run=run)["run"]["log_count"] > 500)
    killed = time.time()
    os.kill(kernel.pid, signal.SIGKILL)
    _until(lambda: kernel.manager.provisioner.process.poll() is not None)
    with Store(kernel.store) as store:
        lines = [line.message.split() for line in store.lines(run).lines]
        assert [int(number) for number, _ in lines] == list(range(len(lines)))
        assert float(lines[-1][1]) > killed - 0.25
        store.mark_crashed()
        assert store.run(run).state_type == "CRASHED"


@pytest.mark.parametrize("on", ["thread", "async", "main"])
def test_a_kernel_that_ends_runs_the_cleanups(
    new_kernel: Callable[..., Any], tmp_path: Path, on: str
) -> None:
    """A kernel's shutdown cancels its runs, whose `finally` blocks run and are kept."""
    path = tmp_path / "cleaned"
    wait = "time.sleep(3600)" if on == "thread" else "await asyncio.sleep(3600)"
    kernel = new_kernel()
    kernel.run(
        f"%%flow cleans --on {on} --no-view\nimport asyncio, time\ntry:\n    print('on'); {wait}\n"
        f"finally:\n    open({str(path)!r}, 'w').close(); print('cleaned')"
    )
    run = kernel.latest()
    kernel.until(run, "RUNNING")
    while not kernel.lines(run):
        pass
    kernel.manager.shutdown_kernel()
    assert path.exists()
    with Store(kernel.store) as store:
        assert [line.message for line in store.lines(run).lines] == ["on", "cleaned"]
        record = store.run(run)
        assert (record.state_type, record.reason) == ("CANCELLED", "shutdown")


def test_a_run_that_cannot_be_stopped_does_not_hold_up_a_shutdown(
    new_kernel: Callable[..., Any],
) -> None:
    """Jupyter's patience with a kernel that ends is not used up by a stuck run."""
    kernel = new_kernel()
    kernel.run("%%flow stuck --no-view\nimport threading\nthreading.Event().wait()")
    kernel.until(kernel.latest(), "RUNNING")
    began = time.monotonic()
    kernel.manager.shutdown_kernel()
    assert time.monotonic() - began < 2.5


def test_plain_python_needs_no_kernel(tmp_path: Path) -> None:
    """Without IPython flows run, in the foreground and the background, and end with the process."""
    source = (
        "from jupyter_flows import flow\n@flow\ndef f(x): return x + 1\n"
        "print(f(1), f.start(2).result())\nimport sys\n"
        "print([m for m in ('IPython', 'ipykernel', 'tornado') if m in sys.modules])"
    )
    ran = _python(source, tmp_path)
    assert ran.stdout == "2 3\n[]\n"
    assert ran.returncode == 0


def test_a_shell_that_nobody_types_into(tmp_path: Path) -> None:
    """The extension loads in a bare IPython, as programs make one, and its magics run there."""
    source = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_line_magic('load_ext', 'jupyter_flows')\n"
        "shell.run_cell('%%flow bare --wait --out run\\n40 + 2')\n"
        "shell.run_cell('print(run.result())')\n"
        "shell.run_line_magic('unload_ext', 'jupyter_flows')"
    )
    ran = _python(source, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "42"


def test_ipython_in_a_terminal(tmp_path: Path) -> None:
    """In a terminal the magics work, and a run is text."""
    source = (
        "from IPython.testing.globalipapp import start_ipython\nip = start_ipython()\n"
        "run = lambda text: ip.run_cell(text).raise_error()\n"
        "run('%load_ext jupyter_flows')\n"
        "run('%%flow one --out r\\nprint(6 * 7)\\nq = 5')\n"
        "run('r.result(), q')\nrun('%%flow two --wait\\nprint(8)')\nrun('r')\nrun('%flows')\n"
        "run('%unload_ext jupyter_flows')"
    )
    ran = _python(source, tmp_path)
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0, ran.stderr
    assert lines[:1] == ["<FlowRun 'one'>"]
    assert "8" in lines
    assert [line.split()[1:3] for line in lines[-2:]] == [
        ["two", "Completed"],
        ["one", "Completed"],
    ]


def test_a_terminal_session_ends_with_its_runs(tmp_path: Path) -> None:
    """Leaving IPython while a run is active ends at once, with the run's cleanup done."""
    path = tmp_path / "cleaned"
    master, terminal = pty.openpty()
    environment = _environment(tmp_path) | {"TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--quick"],
        stdin=subprocess.PIPE,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(
        "%load_ext jupyter_flows\n"
        "get_ipython().run_cell_magic('flow', 'x', "
        f'\'import time\\ntry: time.sleep(3600)\\nfinally: open("{path}", "w").close()\')\n'
        "import time; time.sleep(0.2)\nexit\n"
    )
    process.stdin.close()
    try:
        assert process.wait(20) == 0
    finally:
        process.kill()
        os.close(master)
        os.close(terminal)
    assert path.exists()


def _environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_FLOWS_STORE": str(tmp_path / "flows.sqlite"),
    }


def _python(source: str, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", source],
        env=_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _until(done: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)

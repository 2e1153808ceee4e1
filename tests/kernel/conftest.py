"""A real IPython in this process, and real kernels in processes of their own."""

import atexit
import builtins
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.manager import KernelManager
from traitlets.config import Config

from jupyter_flows.kernel import routing
from jupyter_flows.kernel.cells import CellBody

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """An IPython shell that is the current one, and this process's ``__main__``."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name in ("displayhook", "excepthook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    before = dict(vars(builtins))
    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config)
    yield shell
    routing.uninstall(shell)
    atexit.unregister(shell.atexit_operations)
    shell.atexit_operations()
    InteractiveShell.clear_instance()
    for name in set(vars(builtins)) - set(before):
        delattr(builtins, name)


@pytest.fixture
def cell(shell: InteractiveShell) -> Callable[[str], None]:
    """Runs a plain cell of the notebook; what it raises fails the test."""

    def run(source: str) -> None:
        shell.run_cell(source).raise_error()

    return run


@pytest.fixture
def flow_cell(shell: InteractiveShell) -> Callable[..., CellBody]:
    """Runs a cell to its end on a thread of its own, without publishing."""

    def run(source: str, **options: Any) -> CellBody:
        body = CellBody(shell, source, name="cell", **options)
        _on_a_thread(body.call)
        return body

    return run


@pytest.fixture
def on_a_thread() -> Callable[[Callable[[], Any]], Any]:
    """Gives what a call returns or raises on a thread without any context."""
    return _on_a_thread


def _on_a_thread(call: Callable[[], Any]) -> Any:
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    if failure:
        raise failure[0]
    return outcome[0]


class Kernel:
    """A kernel process; `run` gives a cell's output."""

    def __init__(self) -> None:
        self._manager = KernelManager(kernel_name="python3")
        path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
        self._manager.start_kernel(env=os.environ | {"PYTHONPATH": path})
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def run(self, source: str) -> dict[str, Any]:
        """Execute a cell: its printed ``text``, last ``result``, ``error``, ``payload``."""
        seen: dict[str, Any] = {"text": "", "result": None, "error": None}

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    seen["text"] += content["text"]
                case "execute_result":
                    seen["result"] = content["data"]["text/plain"]
                case "error":
                    seen["error"] = content

        reply = self._client.execute_interactive(source, timeout=60, output_hook=hear)
        return seen | {"payload": reply["content"].get("payload", [])}

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """One kernel for the tests of a module."""
    kernel = Kernel()
    yield kernel
    kernel.close()

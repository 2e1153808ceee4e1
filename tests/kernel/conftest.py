"""A real IPython in this process, and real kernels in processes of their own."""

import atexit
import builtins
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
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
    """A kernel process, and a client that sees all that it says."""

    def __init__(self, store: Path, **environment: str) -> None:
        self.store = store
        self.manager = KernelManager(kernel_name="python3")
        path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
        own = {"PYTHONPATH": path, "JUPYTER_FLOWS_STORE": str(store)}
        self.manager.start_kernel(env=os.environ | own | environment)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.heard: list[dict[str, Any]] = []  # all that came on IOPub

    @property
    def pid(self) -> int:
        """The id of its process."""
        pid: int = self.manager.provisioner.pid
        return pid

    def run(self, source: str, cell_id: str | None = None) -> dict[str, Any]:
        """Execute a cell: its printed ``text``, last ``result``, ``error``, ``displays``, …"""
        return self.finish(self.begin(source, cell_id))

    def begin(self, source: str, cell_id: str | None = None) -> str:
        """Send a cell, and return the id of its request."""
        content = {
            "code": source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        metadata = {} if cell_id is None else {"cellId": cell_id}
        message = self.client.session.msg("execute_request", content, metadata=metadata)
        self.client.shell_channel.send(message)
        request: str = message["header"]["msg_id"]
        return request

    def finish(self, request: str) -> dict[str, Any]:
        """Wait for a cell's end, and return what came of it."""
        self.hear_until(lambda message: _says(message, "idle") and _answers(message, request))
        reply = self._reply(self.client.get_shell_msg, request)["content"]
        seen = self.outcome(request) | {"payload": reply.get("payload", [])}
        if reply["status"] == "error" and seen["error"] is None:
            seen["error"] = reply  # a usage error is printed
        return seen

    def outcome(self, request: str) -> dict[str, Any]:
        """Return what has come of a cell until now."""
        seen: dict[str, Any] = {"text": "", "result": None, "error": None, "displays": []}
        for message in self.heard:
            if not _answers(message, request):
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    seen["text"] += content["text"]
                case "execute_result":
                    seen["result"] = content["data"]["text/plain"]
                    seen["displays"].append(content)
                case "display_data" | "update_display_data":
                    seen["displays"].append(content)
                case "error":
                    seen["error"] = content
        return seen

    def hear_until(self, enough: Callable[[dict[str, Any]], bool], seconds: float = 60) -> None:
        """Take messages from IOPub up to the one that is enough."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            assert left > 0, "not heard in time"
            try:
                message = self.client.get_iopub_msg(timeout=left)
            except Empty:
                continue
            self.heard.append(message)
            if enough(message):
                return

    def hear_for(self, seconds: float) -> list[dict[str, Any]]:
        """Take what comes on IOPub in this time."""
        count = len(self.heard)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self.heard.append(self.client.get_iopub_msg(timeout=left))
            except Empty:
                break
        return self.heard[count:]

    def ask(self, content: Any) -> dict[str, Any]:
        """Send a ``flows_request``, and return the content of its reply."""
        packed = content if isinstance(content, dict) else json.dumps(content)
        message = self.client.session.msg("flows_request", packed)
        self.client.control_channel.send(message)
        reply = self._reply(self.client.get_control_msg, message["header"]["msg_id"])
        answer: dict[str, Any] = reply["content"]
        return answer

    def control(self, action: str, **fields: Any) -> dict[str, Any]:
        """Ask for an action, which must be done; returns the reply."""
        reply = self.ask({"protocol": 1, "action": action, **fields})
        assert reply["status"] == "ok", reply
        return reply

    def latest(self) -> str:
        """Return the id of the newest run."""
        newest: str = self.control("list", limit=1)["runs"][0]["id"]
        return newest

    def state(self, run: str) -> str:
        """Return the type of a run's state."""
        state: str = self.control("show", run=run)["run"]["state_type"]
        return state

    def until(self, run: str, *states: str, seconds: float = 20) -> dict[str, Any]:
        """Wait until a run is in one of these states, and return its record."""
        deadline = time.monotonic() + seconds
        while True:
            record: dict[str, Any] = self.control("show", run=run)["run"]
            if record["state_type"] in states:
                return record
            assert time.monotonic() < deadline, f"{record['state_type']}, not {states}"
            time.sleep(0.01)

    def lines(self, run: str) -> list[str]:
        """Return a run's log, as far as it fits into one reply."""
        return [line[4] for line in self.control("logs", run=run)["lines"]]

    def complete(self, source: str) -> list[str]:
        """Return what Tab offers at the end of `source`."""
        request = self.client.complete(source)
        matches: list[str] = self._reply(self.client.get_shell_msg, request)["content"]["matches"]
        return matches

    def _reply(self, get: Callable[..., dict[str, Any]], request: str) -> dict[str, Any]:
        while True:
            message = get(timeout=60)
            if _answers(message, request):
                return message

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


def _answers(message: dict[str, Any], request: str) -> bool:
    return bool(message["parent_header"].get("msg_id") == request)


def _says(message: dict[str, Any], state: str) -> bool:
    return bool(message["content"].get("execution_state") == state)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel for the tests of a module."""
    kernel = Kernel(tmp_path_factory.mktemp("store") / "flows.sqlite")
    yield kernel
    kernel.close()


@pytest.fixture(scope="module")
def flows(kernel: Kernel) -> Kernel:
    """The module's kernel, with the extension loaded."""
    assert kernel.run("%load_ext jupyter_flows")["error"] is None
    return kernel


@pytest.fixture
def new_kernel(tmp_path: Path) -> Iterator[Callable[..., Kernel]]:
    """Starts kernels with environment variables of their own; the extension is loaded."""
    started: list[Kernel] = []

    def start(**environment: str) -> Kernel:
        kernel = Kernel(tmp_path / "flows.sqlite", **environment)
        started.append(kernel)
        assert kernel.run("%load_ext jupyter_flows")["error"] is None
        return kernel

    yield start
    for kernel in started:
        kernel.close()

"""A Jupyter server of one's own, with folders of its own, for tests in a browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat

TOKEN = "a-token-of-the-tests"


class Server:
    """A running JupyterLab or Notebook 7 server."""

    def __init__(self, folder: Path, app: str, *, labextension: bool = True) -> None:
        self.app = app
        self.folder = folder
        self.notebooks = folder / "notebooks"
        self.notebooks.mkdir(parents=True)
        self.store = folder / "flows.sqlite"
        self._log = (folder / "server.log").open("w")
        self.environment = environment = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
            "JUPYTER_FLOWS_STORE": str(self.store),
            "IPYTHONDIR": str(folder / "ipython"),
        }
        environment.pop("JUPYTER_FLOWS_WAIT", None)
        disabled = {"@jupyterlab/apputils-extension:announcements": True}
        if not labextension:
            disabled["jupyter-flows"] = True
        _write(
            folder / "config" / "labconfig" / "page_config.json", {"disabledExtensions": disabled}
        )
        self.port = _free_port()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab" if app == "lab" else "notebook",
                "--no-browser",
                "--allow-root",
                "--ip=127.0.0.1",
                f"--port={self.port}",
                f"--IdentityProvider.token={TOKEN}",
                f"--ServerApp.root_dir={self.notebooks}",
                "--LabApp.news_url=None",
                "--LabApp.extension_manager=readonly",
                "--expose-app-in-browser",
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._wait_until_up()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{self.url}/api?token={TOKEN}", timeout=2)
                return
            except OSError:
                time.sleep(0.1)
        log = (self.folder / "server.log").read_text()
        raise RuntimeError(f"The Jupyter server did not start:\n{log[-2000:]}")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def address(self, name: str) -> str:
        """Return the page of a notebook; in JupyterLab in a workspace with nothing else in it."""
        workspace = Path(name).stem
        page = f"lab/workspaces/{workspace}/tree" if self.app == "lab" else "notebooks"
        return f"{self.url}/{page}/{name}?token={TOKEN}"

    def api(self, path: str, method: str = "GET") -> Any:
        """Ask the server's REST API, as its user."""
        request = urllib.request.Request(
            f"{self.url}/{path}", method=method, headers={"Authorization": f"token {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            body = response.read()
        return json.loads(body) if body else None

    def run(self, run_id: str) -> dict[str, Any]:
        """Return what the store knows of a run."""
        found: dict[str, Any] = self.api(f"jupyter-flows/api/v1/runs/{run_id}")["run"]
        return found

    def shut_down_kernels(self) -> None:
        """End all kernels, and wait until they have ended."""

        def end(kernel: Mapping[str, Any]) -> None:
            try:
                self.api(f"api/kernels/{kernel['id']}", "DELETE")
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(end, self.api("api/kernels")))

    def write(
        self, name: str, cells: Sequence[str], metadata: Mapping[str, object] | None = None
    ) -> Path:
        """Write a notebook of code cells."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells]
        )
        notebook.metadata.update(
            {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            **(metadata or {}),
        )
        path = self.notebooks / name
        nbformat.write(notebook, path)
        return path

    def edit(self, name: str, change: Callable[[nbformat.NotebookNode], None]) -> None:
        """Change a notebook on the disk, by which it is no longer trusted."""
        path = self.notebooks / name
        notebook = nbformat.read(path, as_version=4)
        change(notebook)
        nbformat.write(notebook, path)

    def trust(self, name: str) -> None:
        """Trust a notebook, as its user does by the command line."""
        subprocess.run(
            [sys.executable, "-m", "jupyter", "trust", name],
            cwd=self.notebooks,
            env=self.environment,
            check=True,
            capture_output=True,
        )

    def stop(self) -> None:
        """End it and its kernels."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from jupyter_flows.history import Store

START_SECONDS = 60.0


@dataclass(frozen=True)
class Server:
    """A Jupyter server that is running, and the store that it reads."""

    url: str
    token: str
    store_path: Path

    def get(self, path: str, token: str | None = "right", **params: Any) -> requests.Response:
        sent = self.token if token == "right" else token
        headers = {"Authorization": f"token {sent}"} if sent else {}
        return requests.get(f"{self.url}{path}", params=params, headers=headers, timeout=30)

    def runs(self, path: str = "", **params: Any) -> requests.Response:
        return self.get(f"jupyter-flows/api/v1/runs{path}", **params)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Jupyter server of its own directories, on 127.0.0.1, with a base URL and a token."""
    home = tmp_path_factory.mktemp("server")
    token = secrets.token_hex(16)
    store_path = home / "store" / "flows.sqlite"
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_FLOWS_STORE": str(store_path),
        "JUPYTER_TOKEN": token,
    }
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--ip=127.0.0.1"]
    options = [
        "--port=0",
        "--ServerApp.base_url=/user/me/",
        "--ServerApp.jpserver_extensions={'jupyter_flows': True}",
        f"--ServerApp.root_dir={home}",
    ]
    if os.name != "nt" and os.getuid() == 0:
        options.append("--allow-root")
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, *options], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield Server(_url(home, process), token, store_path)
    finally:
        process.terminate()
        process.wait(30)


def _url(home: Path, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + START_SECONDS
    while True:
        text = (home / "log").read_text()
        assert process.poll() is None, text
        assert time.monotonic() < deadline, text
        for word in text.split():
            if word.startswith("http://127.0.0.1:") and "/user/me/" in word:
                return word.split("/user/me/")[0] + "/user/me/"
        time.sleep(0.05)


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    """The server's store, new for each test."""
    for file in server.store_path.parent.glob("flows.sqlite*"):
        file.unlink()
    with Store(server.store_path) as opened:
        yield opened

"""Figures of a real kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from jupyter_client.manager import start_new_kernel

from tests.benchmarks.measuring import Row

LINES = 200_000


@contextmanager
def kernel() -> Iterator[Any]:
    """Start a kernel with the extension loaded, and a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "JUPYTER_FLOWS_STORE": str(Path(folder) / "flows.sqlite")}
        manager, client = start_new_kernel(env=environment)
        try:
            run(client, "%load_ext jupyter_flows")
            yield client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def run(client: Any, code: str) -> str:
    """Run a cell and return what it printed."""
    printed: list[str] = []

    def hook(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            printed.append(message["content"]["text"])

    reply = client.execute_interactive(code, output_hook=hook, timeout=120)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(printed)


def request(client: Any, **content: Any) -> dict[str, Any]:
    """Send a control request and return the content of its reply."""
    message = client.session.msg("flows_request", {"protocol": 1, **content})
    client.control_channel.send(message)
    while True:
        reply = client.get_control_msg(timeout=10)
        if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
            answer: dict[str, Any] = reply["content"]
            return answer


_PRINTS = f"""
import time
def lines():
    begun = time.perf_counter()
    for i in range({LINES}):
        print("epoch", i)
    return {LINES} / (time.perf_counter() - begun)
"""


def prints() -> Iterator[Row]:
    """Compare captured prints, each kept, with ipykernel's own."""
    ours, theirs = [], []
    with kernel() as client:
        run(client, _PRINTS)
        for _ in range(5):
            theirs.append(float(run(client, "rate = lines()\nprint(rate)").split()[-1]))
            run(client, "%%flow prints --no-view --out run\nmine = lines()")
            ours.append(float(run(client, "run.wait(); print(mine, len(run.tasks))").split()[0]))
        kept = run(client, "print(run.log.count)")
    assert int(kept) == LINES
    mine, yardstick = median(ours), median(theirs)
    yield Row(
        what="a captured print, every line kept",
        ours=mine,
        yardstick=yardstick,
        unit="/s",
        bar="≥ 3 × ipykernel",
        met=mine >= 3 * yardstick,
    )


def loads() -> Iterator[Row]:
    """Time the import of the extension beyond what it is built on."""
    script = """
import time, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import ipykernel.kernelapp, ipywidgets, anywidget
begun = time.perf_counter()
shell.run_line_magic("load_ext", "jupyter_flows")
import jupyter_flows.kernel.widget
print((time.perf_counter() - begun) * 1e3)
"""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "JUPYTER_FLOWS_STORE": str(Path(folder) / "flows.sqlite")}
        took = [
            float(
                subprocess.run(
                    [sys.executable, "-c", script],
                    capture_output=True,
                    text=True,
                    check=True,
                    env=environment,
                ).stdout.split()[-1]
            )
            for _ in range(7)
        ]
    middle = median(took)
    yield Row(what="%load_ext", ours=middle, unit="ms", bar="≤ 150 ms", met=middle <= 150)


def traffic() -> Iterator[Row]:
    """Count what a watched run that prints in a tight loop sends to a front end."""
    with kernel() as client:
        run(client, "%%flow loud --no-view --out run\nwhile True: print('x' * 100)")
        (loud,) = request(client, action="list")["runs"]
        request(client, action="watch", run=loud["id"], seconds=30)
        count = size = 0
        begun = time.monotonic()
        while time.monotonic() - begun < 5:
            try:
                message = client.get_iopub_msg(timeout=0.2)
            except Exception:
                continue
            if message["msg_type"] == "flows_changed":
                count += 1
                size += len(json.dumps(message["content"]))
        request(client, action="cancel", run=loud["id"])
        elapsed = time.monotonic() - begun
    yield Row(
        what="pushes while it prints in a tight loop",
        ours=count / elapsed,
        unit="/s",
        bar="≤ 20/s",
        met=count / elapsed <= 20.5,
    )
    rate = size / elapsed / 1e6
    yield Row(what="their size", ours=rate, unit="MB/s", bar="≤ 1 MB/s", met=rate <= 1)


def prompt() -> Iterator[Row]:
    """Time a cell that starts an hour's work until the prompt is back."""
    took = []
    with kernel() as client:
        for i in range(10):
            begun = time.perf_counter()
            run(client, f"%%flow hour{i}\nimport time\ntime.sleep(3600)")
            took.append((time.perf_counter() - begun) * 1e3)
    middle = median(took)
    yield Row(
        what="%%flow until the prompt is back",
        ours=middle,
        unit="ms",
        bar="< 200",
        met=max(took) < 200,
    )

"""Cells that wait for their runs, as in CI."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest


def test_a_waiting_cell_prints_the_log_in_order_and_nothing_else(flows: Any) -> None:
    """With `--wait` the cell prints every line of the log, however many, in order."""
    ran = flows.run("%%flow counts --wait --no-view\nfor i in range(100_000): print('line', i)")
    assert ran["error"] is None
    assert ran["text"].splitlines() == [f"line {i}" for i in range(100_000)]
    shown = flows.run(f"%flows logs {flows.latest()}")["text"]
    assert shown == ran["text"]


def test_the_log_comes_while_the_run_goes_on(flows: Any) -> None:
    """A waiting cell shows lines before its run has ended."""
    request = flows.begin(
        "%%flow slow --wait --no-view\nimport time\nprint('early')\ntime.sleep(3600)"
    )
    flows.hear_until(lambda message: "early" in str(message["content"].get("text")), seconds=10)
    run = flows.latest()
    assert flows.state(run) == "RUNNING"
    flows.control("cancel", run=run)
    assert flows.finish(request)["error"]["ename"] == "CancelledRun"


def test_a_waiting_cell_fails_as_its_run_does_with_the_users_frames_alone(flows: Any) -> None:
    """The traceback of a failed waiting cell shows the notebook's cells and nothing of ours."""
    flows.run("def helper():\n    return 1 / 0")
    error = flows.run("\n\n%%flow fails --wait --no-view\nprint('x')\nhelper()")["error"]
    shown = "\n".join(error["traceback"])
    assert error["ename"] == "ZeroDivisionError"
    assert "helper" in shown
    for frame in ("jupyter_flows", "interactiveshell", "skipping hidden"):
        assert frame not in shown
    again = flows.run(
        "runs.list()[0].result()" if flows.run("from jupyter_flows import runs") else ""
    )
    assert "runs.list" in "\n".join(again["error"]["traceback"])


def test_a_run_cancelled_from_outside_fails_its_cell_in_one_line(flows: Any) -> None:
    """A cancel that came by a button fails the waiting cell, in one line."""
    request = flows.begin("%%flow long --wait --no-view\nimport time\ntime.sleep(3600)")
    run = _running(flows, "long")
    flows.control("cancel", run=run)
    error = flows.finish(request)["error"]
    assert error["ename"] == "CancelledRun"
    assert len("\n".join(error["traceback"]).splitlines()) == 1


def test_a_run_cancelled_by_a_cell_does_not_fail_its_cell(flows: Any) -> None:
    """Where the notebook's own code cancels a run, the cell that waits for it goes on."""
    ran = flows.run(
        "%%flow suicidal --wait --no-view\nfrom jupyter_flows import current_run, checkpoint\n"
        "current_run().cancel()\ncheckpoint()"
    )
    assert ran["error"] is None
    assert flows.state(flows.latest()) == "CANCELLED"


def test_a_timeout_fails_the_waiting_cell(flows: Any) -> None:
    """A run that took longer than its timeout fails the cell that waits for it."""
    error = flows.run("%%flow late --timeout 0.1 --wait --no-view\nimport time\ntime.sleep(3600)")[
        "error"
    ]
    assert error["ename"] == "TimeoutError"


@pytest.mark.parametrize("asks", ["pause_flow_run()", "input('Name? ')"])
def test_a_waiting_cell_never_hangs_for_a_person(flows: Any, asks: str) -> None:
    """A run that parks for approval or input fails the cell that waits for it at once."""
    began = time.monotonic()
    error = flows.run(
        f"%%flow asks --wait --no-view\nfrom jupyter_flows import pause_flow_run\n{asks}"
    )["error"]
    assert error["ename"] == "NobodyToAsk"
    assert "--no-wait" in error["evalue"]
    assert time.monotonic() - began < 5
    flows.until(flows.latest(), "CANCELLED")


def test_the_barrier_never_hangs_for_a_person(flows: Any) -> None:
    """`%flows wait` fails at once for a run that waits for approval."""
    flows.run("%%flow asks --no-view\nfrom jupyter_flows import pause_flow_run\npause_flow_run()")
    flows.until(flows.latest(), "PAUSED")
    assert flows.run("%flows wait")["error"]["ename"] == "NobodyToAsk"
    flows.until(flows.latest(), "CANCELLED")


def test_the_variable_makes_every_cell_wait(new_kernel: Callable[..., Any]) -> None:
    """With JUPYTER_FLOWS_WAIT=1 cells wait and fail with their runs, unless they say --no-wait."""
    kernel = new_kernel(JUPYTER_FLOWS_WAIT="1")
    assert kernel.run("%%flow a\nprint('done')")["text"] == "done\n"
    assert not [each for each in kernel.heard if each["msg_type"] == "comm_open"]
    assert kernel.run("%%flow a\n1 / 0")["error"]["ename"] == "ZeroDivisionError"
    ran = kernel.run(
        "%%flow b --no-wait\nfrom jupyter_flows import pause_flow_run\npause_flow_run()"
    )
    assert ran["error"] is None
    run = kernel.latest()
    kernel.until(run, "PAUSED")
    kernel.run(f"%flows resume {run[:8]}")
    kernel.until(run, "COMPLETED")


def test_a_call_that_asks_where_cells_wait_is_an_error(new_kernel: Callable[..., Any]) -> None:
    """With JUPYTER_FLOWS_WAIT=1 a flow that a cell calls and that asks a person fails at once."""
    kernel = new_kernel(JUPYTER_FLOWS_WAIT="1")
    kernel.run(
        "from jupyter_flows import flow, pause_flow_run\n"
        "@flow\ndef asks(): pause_flow_run()\n"
        "@flow\nasync def asks_async(): await pause_flow_run(wait_for_input=int)"
    )
    for source in ("asks()", "await asks_async()"):
        error = kernel.run(source)["error"]
        assert error["ename"] == "NobodyToAsk"
        assert "cells wait for their runs" in error["evalue"]


def test_an_interrupt_ends_the_wait_and_not_the_run(flows: Any) -> None:
    """Interrupting a waiting cell gives the prompt back; the run goes on."""
    request = flows.begin(
        "%%flow spared --wait --no-view\nimport time\nprint('waits')\ntime.sleep(3600)"
    )
    run = _running(flows, "spared")
    flows.hear_until(lambda message: "waits" in str(message["content"].get("text")))
    os.kill(flows.pid, signal.SIGINT)
    error = flows.finish(request)["error"]
    assert error["ename"] == "KeyboardInterrupt"
    assert flows.state(run) == "RUNNING"
    flows.control("cancel", run=run)


def _running(flows: Any, name: str) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for run in flows.control("list", limit=1)["runs"]:
            if run["name"] == name and run["state_type"] == "RUNNING":
                return str(run["id"])
    raise AssertionError(f"{name} does not run")


def test_a_run_that_failed_before_the_barrier_fails_it_once(flows: Any) -> None:
    """`%flows wait` tells of a failed run that nobody has waited for, and tells it once."""
    flows.run("%flows wait")  # for what other tests left
    flows.run("%%flow early --no-view\nraise LookupError('before the barrier')")
    while flows.state(flows.latest()) != "FAILED":
        flows.run("pass")
    assert flows.run("%flows wait")["error"]["ename"] == "LookupError"
    assert flows.run("%flows wait")["error"] is None
    flows.run("%%flow seen --no-view --out seen\n1 / 0")
    flows.run("seen.wait()")
    assert flows.run("%flows wait")["error"] is None


def test_a_call_that_failed_does_not_fail_the_barrier(flows: Any) -> None:
    """`%flows wait` tells nothing of a flow that was called: its caller knows how it ended."""
    flows.run("%flows wait")  # for what other tests left
    flows.run(
        "from jupyter_flows import flow\n"
        "@flow\n"
        "def refused(): raise LookupError('told to its caller')\n"
        "@flow\n"
        "async def refused_too(): raise LookupError('told to its caller')\n"
        "state = refused(return_state=True)\n"
        "awaited = await refused_too(return_state=True)"
    )
    assert flows.run("print(state.name, awaited.name)")["text"] == "Failed Failed\n"
    assert flows.run("%flows wait")["error"] is None

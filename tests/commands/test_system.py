"""What is told about processes, where there is a /proc and where there is none."""

import os
import subprocess
import sys

import psutil
import pytest

from jupyter_flows.commands import system


@pytest.fixture(autouse=True, params=[True, False], ids=["proc", "psutil"])
def _either_way(request, monkeypatch):
    monkeypatch.setattr(system, "HAS_PROC", request.param)


@pytest.fixture
def zombie(until):
    """A process that has ended and was not reaped."""
    process = subprocess.Popen(["true"])
    until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    yield process.pid
    process.wait()


@pytest.fixture
def gone():
    """The id that a process had."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_process_that_runs():
    """It is listed, has not ended, and its variables are told as they were when it began."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    environment = os.environ | {"NAME": "a=b é", "OTHER": "NAME=c"}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, **streams) as process:
        process.stdout.readline()
        assert process.pid in system.pids()
        assert not system.has_ended(process.pid)
        assert system.variable(process.pid, "NAME") == "a=b é"
        assert system.variable(process.pid, "AME") == ""
        process.stdin.close()


def test_a_process_that_waits_to_be_reaped(zombie):
    """It has ended, and has no environment."""
    assert zombie in system.pids()
    assert system.has_ended(zombie)
    assert system.variable(zombie, "PATH") is None


def test_a_process_that_is_gone(gone):
    """It has ended, and nothing is raised."""
    assert system.has_ended(gone)
    assert system.variable(gone, "PATH") is None

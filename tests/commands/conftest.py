"""What tests of commands share."""

import pytest

from jupyter_flows import run_process
from tests.commands.families import commands_below, pipes


@pytest.fixture(scope="session")
def _guarded():
    """The guard of this process has been started, and with it the pipe to it opened."""
    run_process(["true"])


@pytest.fixture(autouse=True)
def nothing_is_left_of_commands(request, _guarded, nothing_is_left, until):
    """No test leaves a process, a pipe, a run or a thread."""
    before = pipes()
    yield
    until(lambda: not commands_below(), "all processes are reaped")
    until(lambda: pipes() <= before or "process" in request.node.name, "all pipes are closed")

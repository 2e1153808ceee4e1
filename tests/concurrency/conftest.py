"""Code that stays until it is let go, and what no test may leave behind."""

import pytest

from jupyter_flows import (
    set_max_runs,
)
from jupyter_flows.engine import admission, ports, slots
from jupyter_flows.engine.leases import OwnLeases
from tests.concurrency.gates import Gate


@pytest.fixture
def nothing_is_held(until):
    """No test leaves a slot that is held, or anybody in line for one."""
    yield
    set_max_runs(None)
    until(lambda: not (admission._groups or admission._line or admission._tickets))
    until(lambda: not slots._held)
    leases = ports.leases
    assert {**leases._held, **leases._waiting} == {}
    ports.leases = OwnLeases()
    admission._tag_limits.clear()


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.go.set()

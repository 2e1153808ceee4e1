"""Many tasks and subflows in one flow: all are shown, and a cancel reaches every one."""

import threading
import time

import pytest

from jupyter_flows import flow, task
from jupyter_flows.kernel.control import Control
from jupyter_flows.messages import PROTOCOL

pytestmark = pytest.mark.usefixtures("nothing_is_left")

TASKS, SUBFLOWS = 200, 50


def listed(run):
    """What the control channel says of the tasks of a run."""
    request = {"protocol": PROTOCOL, "action": "tasks", "run": run.id, "start": 0, "stop": 1_000}
    reply = Control(None, None, None).answer(request, "a test", lambda content: None)
    assert reply["status"] == "ok", reply
    return [(each["number"], each["state_type"]) for each in reply["tasks"]]


def test_a_cancel_reaches_all_in_its_first_rung(until, capsys):
    """Of 200 mapped tasks and 50 subflows all are listed; a cancel ends all before its grace."""

    @task
    def works(i):
        begun.release()
        while True:
            time.sleep(0.01)

    @flow
    def inner(i):
        begun.release()
        while True:
            time.sleep(0.01)

    @flow
    def outer():
        subflows.extend(inner.start(i) for i in range(SUBFLOWS))
        works.map(range(TASKS)).wait()

    subflows = []
    begun = threading.Semaphore(0)
    run = outer.start()
    for _ in range(TASKS + SUBFLOWS):
        assert begun.acquire(timeout=60)
    until(lambda: all(each.state.is_running() for each in run.tasks))
    records = [each.record() for each in run.tasks]
    assert len(records) == TASKS + SUBFLOWS
    assert sum(record.flow_run is not None for record in records) == SUBFLOWS
    assert listed(run) == [(record.number, "RUNNING") for record in records]

    asked = time.time()
    run.cancel()
    assert run.wait(60).state.is_cancelled()
    until(lambda: all(each.state.is_final() for each in run.tasks))
    records = [each.record() for each in run.tasks]
    assert {record.state_type for record in records} == {"CANCELLED"}
    assert listed(run) == [(record.number, "CANCELLED") for record in records]
    every_log = [
        *run.logs,
        *(line for each in run.tasks if hasattr(each, "run") for line in each.run.logs),
    ]
    rungs = [line.message for line in every_log if "interrupted" in line.message]
    assert not rungs, rungs  # asking was enough
    last = max(record.ended for record in records) - asked
    with capsys.disabled():
        print(f"\n{TASKS} tasks and {SUBFLOWS} subflows: the last ended {last * 1000:.0f} ms after")

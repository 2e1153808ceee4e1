"""Flows and tasks that are called where hardly any stack is left."""

import sys

import pytest

from jupyter_flows import flow, runs, task
from jupyter_flows.runs import ACTIVE

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@task
def work():
    return 1


@flow
def inner():
    return 1


@pytest.fixture
def little_stack():
    """Python's functions may be 400 deep."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    yield 400
    sys.setrecursionlimit(before)


@pytest.mark.parametrize(
    "call", [inner, work, lambda: inner.start().result(), lambda: work.submit().result()]
)
def test_a_call_where_the_stack_ends(call, little_stack):
    """A flow or task for which there is no room fails its caller, and nothing of it is left."""

    def deep(more):
        return deep(more - 1) if more else call()

    outer = flow(deep, name="outer")
    for depth in range(little_stack - 40, little_stack + 1):
        run = outer.start(depth).wait(20)
        assert run.state.is_final()
        assert all(each.state.is_final() for each in run.tasks)
    assert isinstance(run.state.data, RecursionError)
    assert not runs.list(state=ACTIVE)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_flow_that_calls_itself_for_ever(kind, little_stack):
    """It fails, with all that it has called, and the text of its error shows both ends only."""

    @flow
    def calls():
        return calls()

    @flow
    async def awaits():
        return await awaits()

    run = (calls if kind == "sync" else awaits).start().wait(20)
    while True:
        assert isinstance(run.state.data, RecursionError)
        text = run.record().error.traceback
        assert text.count("File ") <= 100
        if not run.tasks:
            break
        (called,) = run.tasks
        run = called.run
    assert not runs.list(state=ACTIVE)


def test_the_traceback_of_a_recursion(little_stack):
    """Of more calls than anybody reads both ends are shown, and how many are between."""

    def forever(n):
        return forever(n + 1)

    text = flow(forever, name="forever").start(0).wait(20).record().error.traceback
    assert "forever(n + 1)" in text
    assert text.rstrip().endswith("calls in the middle are left out …")

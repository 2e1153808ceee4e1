"""What runs are called: templates of their parameters, and functions."""

import asyncio

import pytest

from jupyter_flows import flow, runtime, task
from jupyter_flows.errors import RunNameError

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def names(run):
    return [each.name for each in run.tasks]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_template_names_task_runs(kind):
    """`task_run_name` is a template of the call's parameters, defaults and results included."""

    @task
    def make():
        return 9

    @task(task_run_name="load {day} of {n:03d}")
    def load(day, n=7):
        return day

    @task(task_run_name="load {day} of {n:03d}")
    async def load_async(day, n=7):
        return day

    @flow
    def calls():
        load("mon")
        load.submit("tue", n=make.submit()).wait()
        load.map(["wed"]).wait()

    @flow
    async def awaits():
        await load_async("mon")
        load_async.submit("tue", n=make.submit()).wait()
        load_async.map(["wed"]).wait()

    run = (calls if kind == "sync" else awaits).start().wait(20)
    assert [name for name in names(run) if "make" not in name] == [
        "load mon of 007",
        "load tue of 009",
        "load wed of 007",
    ]


def test_a_function_names_task_runs():
    """`task_run_name` may be a function, of nothing or of `parameters`, asked within the run."""

    def of_nothing():
        run = runtime.task_run
        return f"{runtime.flow_run.flow_name}/{run.task_name}/{run.parameters['x']}"

    def of_parameters(parameters):
        return f"x is {parameters['x']}"

    @task(task_run_name=of_nothing)
    def one(x, y=1):
        return runtime.task_run.name, runtime.task_run.parameters, runtime.task_run.run_count

    @task(task_run_name=of_parameters)
    def two(x):
        return x

    @flow
    def calls():
        return one("a"), two("b")

    run = calls.start()
    assert run.result(20) == (("calls/one/a", {"x": "a", "y": 1}, 1), "b")
    assert names(run) == ["calls/one/a", "x is b"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_flow_runs_are_named(kind):
    """`flow_run_name` is a template, or a function that is asked within the run."""

    def naming():
        run = runtime.flow_run
        return f"{run.flow_name} {run.parameters['x']} {run.id[:4]}"

    @flow(flow_run_name="run {x}")
    def template(x, y=2):
        return runtime.flow_run.name

    @flow(flow_run_name=naming)
    def function(x):
        return runtime.flow_run.name

    @flow(flow_run_name=naming)
    async def function_async(x):
        return runtime.flow_run.name

    if kind == "sync":
        assert template(1) == "run 1"
        assert template.start(2).result(20) == "run 2"
        run = function.start(3)
    else:
        assert asyncio.run(function_async(3)).startswith("function-async 3 ")
        run = function_async.start(3)
    assert run.result(20) == run.name == f"{run.flow_name} 3 {run.id[:4]}"
    assert run.record().name == run.name


def test_a_run_in_a_process_knows_its_name_and_parameters():
    """In a process `runtime` tells of the run as elsewhere."""

    @flow(on="process", flow_run_name="run {x}")
    def look(x, y=[1]):  # noqa: B006 - it is not changed
        run = runtime.flow_run
        return run.name, run.parameters, run.parameters["y"] is y, run.run_count

    assert look.start("a").result(20) == ("run a", {"x": "a", "y": [1]}, True, 1)


def test_a_subflow_is_listed_under_its_name():
    """A subflow with a name of its own is listed under it."""

    @flow(flow_run_name=lambda: f"inner {runtime.flow_run.parameters['x']}")
    def inner(x):
        return runtime.flow_run.parent_flow_run_id, runtime.flow_run.root_flow_run_id

    @flow
    def outer():
        return inner(3)

    run = outer.start()
    assert run.result(20) == (run.id, run.id)
    assert names(run) == ["inner 3"]


def test_a_method_is_named_by_its_instance():
    """A template may name `self` of a task that is a method."""

    class Model:
        kind = "tree"

        @task(task_run_name="fit {self.kind} {n}")
        def fit(self, n):
            return n

    @flow
    def calls():
        return Model().fit(1)

    run = calls.start().wait(20)
    assert names(run) == ["fit tree 1"]


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("run {y}", ValueError, "names {y}, which is no parameter. There are: x"),
        ("run {}", ValueError, "which is no parameter"),
        ("run {x", ValueError, "is no template"),
        (3, TypeError, "is a template or a function, not int"),
    ],
)
def test_a_bad_template_is_refused_where_it_is_written(name, error, says):
    """A template that cannot be filled in is refused by the decorator, which says why."""
    for option, decorate in (("flow_run_name", flow), ("task_run_name", task)):
        with pytest.raises(error, match=says) as caught:
            decorate(**{option: name})(lambda x: None)
        assert option in str(caught.value)


def test_a_name_that_cannot_be_made_fails_the_task():
    """A task whose name cannot be made FAILED before it began, and says whose fault it was."""

    @task(task_run_name="{x:d}")
    def formats(x):
        began.append(x)

    @task(task_run_name=lambda: 3)
    def returns():
        began.append(3)

    @flow
    def calls():
        return [each(*args, return_state=True) for each, args in ((formats, "x"), (returns, ()))]

    began = []
    run = calls.start().wait(20)
    first, second = run.tasks
    assert "task_run_name='{x:d}' failed: ValueError" in first.state.message
    assert "returned 3, which is no text" in second.state.message
    assert isinstance(first.state.data, RunNameError)
    assert not began


def test_a_name_that_cannot_be_made_starts_no_flow():
    """A flow whose name cannot be made raises where it is called, and does not begin."""

    def breaks():
        raise KeyError("no name")

    @flow(flow_run_name="{x:d}")
    def formats(x):
        began.append(x)

    @flow(flow_run_name=breaks)
    def asks(x):
        began.append(x)

    began = []
    for each in (formats, asks):
        for call in (each, each.start):
            with pytest.raises(RunNameError, match="flow_run_name="):
                call("x")
    assert not began


def test_outside_of_runs_runtime_is_empty():
    """`runtime` may be asked outside of runs: it has nothing; what it does not know is an error."""
    assert runtime.flow_run.id is None
    assert runtime.task_run.parameters == {}
    assert "name" in dir(runtime.flow_run)
    with pytest.raises(AttributeError, match="It has: id, name"):
        runtime.flow_run.nothing  # noqa: B018

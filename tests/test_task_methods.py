"""Tasks and flows as methods, class methods and static methods; what they may be called with."""

import asyncio
import sys

import pytest

from jupyter_flows import ParameterError, ReservedArgumentError, flow, task

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Model:
    rate = 1

    def __init__(self, rate):
        self.rate = rate

    @task
    def fit(self, steps):
        return self.rate * steps

    @task
    async def fit_async(self, steps):
        await asyncio.sleep(0)
        return self.rate * steps

    @task
    @classmethod
    def of_class(cls, steps):
        return cls.rate * steps

    @classmethod
    @task
    def of_class_below(cls, steps):
        return cls.rate * steps

    @task
    @staticmethod
    def of_none(steps):
        return 5 * steps

    @staticmethod
    @task
    def of_none_below(steps):
        return 5 * steps

    @flow
    def train(self, steps: int):
        return self.fit(steps) + self.fit.submit(steps).result()

    @flow
    @classmethod
    def train_class(cls, steps: int):
        return cls.of_class(steps)

    @flow
    @staticmethod
    def train_none(steps: int):
        return Model.of_none(steps)


class Double(Model):
    rate = 2


def test_tasks_as_methods():
    """A task is a method as a function would be: of an instance, of a class, or static."""

    @flow
    def calls():
        model = Model(3)
        return [
            model.fit(2),
            model.fit.submit(steps=2).result(),
            *model.fit.map([1, 2]).result(),
            model.fit.with_options(name="other")(2),
            Model.fit(model, 2),
            Double.of_class(2),
            Double(7).of_class(2),
            Double.of_class.submit(2).result(),
            Double.of_class_below(2),
            Model.of_none(2),
            model.of_none.submit(2).result(),
            model.of_none_below.submit(2).result(),
        ]

    run = calls.start()
    assert run.result(20) == [6, 6, 3, 6, 6, 6, 4, 4, 4, 4, 10, 10, 10]
    assert len(run.tasks) == 13
    assert run.tasks[4].name == "other-0"


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="a class method binds nothing by itself")
def test_a_task_below_classmethod_is_submitted():
    """`@classmethod` above `@task` gives a task that is bound to the class."""

    @flow
    def calls():
        return Double.of_class_below.submit(2).result()

    assert calls.start().result(20) == 4


def test_an_async_task_as_a_method():
    """An async task is a method too."""

    @flow
    async def awaits():
        return await Model(3).fit_async(2), Model(3).fit_async.submit(2).result()

    assert awaits.start().result(20) == (6, 6)


def test_flows_as_methods():
    """A flow is a method, of an instance, of a class, or static; its parameters are checked."""
    assert Model(3).train(2) == 12
    assert Model(3).train.start("2").result(20) == 12
    assert Model(3).train.with_options(retries=1)(2) == 12
    assert Double.train_class("4") == 8
    assert Double.train_class.start(4).result(20) == 8
    assert Model(3).train_none(4) == 20
    with pytest.raises(ParameterError, match="steps"):
        Model(3).train("many")
    with pytest.raises(ParameterError, match=r"It takes \(steps: int\)"):
        Model(3).train(1, 2)


def test_a_method_keeps_its_options():
    """A task that is bound has all of the options that it was defined with."""

    class Tries:
        left = 2

        @task(retries=2, name="tries", tags=["a"])
        def tries(self):
            self.left -= 1
            if self.left >= 0:
                raise ValueError(self.left)
            return "ok"

    @flow
    def calls():
        return Tries().tries()

    run = calls.start()
    assert run.result(20) == "ok"
    assert (run.tasks[0].attempt, run.tasks[0].name, run.tasks[0].tags) == (3, "tries-0", {"a"})


def test_a_flow_that_is_a_method_runs_in_a_process():
    """A flow that is a method of an instance runs in a process."""
    assert Model(3).train.with_options(on="process").start(2).result(20) == 12


# -- what they are called with -----------------------------------------------------------


@pytest.mark.parametrize("decorate", [flow, task])
@pytest.mark.parametrize("name", ["wait_for", "return_state"])
def test_reserved_names_are_refused(decorate, name):
    """A parameter of a name that every call has is refused where the function is defined."""
    scope = {}
    exec(f"def function(x, {name}=None): pass", scope)
    with pytest.raises(ReservedArgumentError, match=f"cannot have a parameter {name!r}"):
        decorate(scope["function"])
    with pytest.raises(TypeError):
        decorate(scope["function"])


def test_wrong_arguments_run_nothing():
    """A task that is called with what it does not take says so at the call, and is not run."""

    @task
    def add(x, y=0, *, z=0):
        return x + y + z

    @flow
    def calls():
        for call in (add, add.submit):
            for args, named in (((), {}), ((1, 2, 3), {}), ((1,), {"k": 1}), ((1,), {"x": 1})):
                with pytest.raises(ParameterError, match="Task 'add' cannot be called like this"):
                    call(*args, **named)
        return add(1, z=2), add(x=1, y=2), add.submit(1, 2).result()

    run = calls.start()
    assert run.result(20) == (3, 3, 3)
    assert len(run.tasks) == 3
    with pytest.raises(ParameterError, match="Task 'add' cannot be called like this"):
        add()


def test_tasks_are_not_validated():
    """A task's annotations are for people, as in Prefect: its arguments are not converted."""

    @task
    def keeps(x: int):
        return x

    @flow
    def calls():
        return keeps("1")

    assert calls.start().result(20) == "1"


def test_a_function_written_in_c_is_a_task():
    """A function that does not tell what it takes can be a task."""

    @flow
    def calls():
        return task(max)(1, 2), task(dict)(a=1)

    assert calls.start().result(20) == (2, {"a": 1})

"""What a flow is called with: checked and converted, or refused, before anything is run."""

import pytest

from jupyter_flows import (
    Flow,
    ParameterError,
    current_run,
    flow,
    get_run_context,
    runs,
    task,
)

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_parameters_are_converted():
    """Parameters are converted to their annotations, defaults filled in, as in Prefect."""

    @flow
    def takes(day: int, rate: float = 0.5, *rest, name="x", **more):
        return day, rate, rest, name, more

    assert takes("3", name="y", other=1) == (3, 0.5, (), "y", {"other": 1})
    assert takes("3", "1.5", 7, 8) == (3, 1.5, (7, 8), "x", {})


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "missing a required argument: 'day'"),
        ((1, 2), {}, "too many"),
        ((1,), {"nigth": 3}, "nigth"),
        (("soon",), {}, "day: Input should be a valid integer"),
    ],
)
def test_wrong_parameters_start_nothing(args, kwargs, says):
    """A call with wrong parameters raises one error that says what is wrong; nothing has run."""

    @flow
    def never(day: int):
        began.append(day)

    began = []
    before = len(runs.list(name="never"))
    for call in (never, never.start):
        with pytest.raises(ParameterError, match=says):
            call(*args, **kwargs)
    assert not began
    assert len(runs.list(name="never")) == before


def test_an_annotation_that_only_a_type_checker_knows():
    """A parameter whose annotation means nothing here is taken as it is; others are converted."""

    @flow
    def takes(day: "int", frame: "OnlyForTypeCheckers" = None):  # noqa: F821
        return day, frame

    assert takes("3", "as it is") == (3, "as it is")
    with pytest.raises(ParameterError, match="day: Input should be a valid integer"):
        takes("soon")


def test_a_parameter_may_be_called_anything():
    """Parameters named as pydantic's own attributes, or `self`-like words, are parameters."""

    @flow
    def odd(model_fields: int, copy: int, json: int = 3, schema: int = 4):
        return model_fields + copy + json + schema

    assert odd("1", copy="2") == 10


def test_parameters_can_be_left_alone():
    """`validate_parameters=False` gives the function what it was called with."""

    @flow(validate_parameters=False)
    def takes(day: int):
        return day

    assert takes("3") == "3"


def test_parameters_are_kept_as_they_came():
    """The record shows the parameters as they were before the body changed them."""

    @flow
    def changes(rows: list):
        rows.append(2)

    run = changes.start([1]).wait(20)
    assert run.record().parameters == {"rows": "[1]"}


def test_a_runs_name_can_be_a_template():
    """`flow_run_name` names each run by its parameters."""

    @flow(flow_run_name="etl-{day}", tags=["demo"])
    def etl(day: str):
        return get_run_context().tags

    run = etl.start("monday")
    assert run.result(20) == {"demo"}
    assert run.name == "etl-monday"
    assert repr(run) == "<FlowRun 'etl-monday'>"


def test_options_can_be_changed():
    """`with_options` gives the same flow with other options and leaves the first as it was."""

    @flow(retries=1, name="first")
    def fails():
        attempts.append(current_run().attempt)
        raise ValueError

    attempts = []
    assert fails.with_options(retries=0, name="second").start().wait(20).name == "second"
    assert attempts == [1]
    fails.start().wait(20)
    assert attempts == [1, 1, 2]


def test_what_is_no_function_is_refused():
    """`@flow` on something that cannot be called, or with fewer than no retries, is refused."""
    with pytest.raises(TypeError, match="decorates a function"):
        Flow(3)
    with pytest.raises(ValueError, match="retries must be 0 or more"):
        flow(retries=-1)(lambda: None)


@pytest.mark.parametrize(
    ("decorate", "options", "says"),
    [
        (flow, {"retry": 3}, "A flow has no option 'retry': did you mean 'retries'?"),
        (task, {"cache_key": 1}, "A task has no option 'cache_key': did you mean 'cache_key_fn'?"),
        (task, {"on_crashed": []}, "A task has no option 'on_crashed': see help(task)."),
        (flow, {"fn": len, "tag": "x"}, "A flow has no option 'fn', 'tag': did you mean 'tags'?"),
    ],
)
def test_an_unknown_option_is_refused(decorate, options, says):
    """An option that there is not is refused at once, and the one that was probably meant named."""
    for call in (
        lambda: decorate(**options),
        lambda: decorate(len, **options),
        lambda: decorate(len).with_options(**options),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert str(caught.value) == says

"""A run that waits for input: what may be asked for, how it is read, and what is refused."""

import asyncio
import pickle
import threading
import time
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, field_validator, model_validator

from jupyter_flows import (
    FlowPauseTimeout,
    checkpoint,
    flow,
    pause_flow_run,
    resume_flow_run,
    runs,
    task,
)
from jupyter_flows.engine.processes import inquiries
from jupyter_flows.errors import InvalidInput, NotPaused, UnknownRun
from jupyter_flows.input import RunInput

WORKERS = ["thread", "async", "main", "process", "async process"]


class Order(RunInput):
    """What to print on."""

    size: Literal["S", "M", "L"]
    count: int = Field(default=1, gt=0, description="How many shirts")
    day: date | None = None

    @field_validator("count")
    @classmethod
    def even(cls, count: int) -> int:
        if count == 13:
            raise ValueError("thirteen brings\nbad luck")
        if count == 14:
            raise ZeroDivisionError("a fault of the validator's")
        if count == 15:
            raise SystemExit("it exits")
        return count


class Plain(BaseModel):
    name: str


@pytest.fixture(autouse=True)
def _nothing_is_left(nothing_is_left):
    """No test leaves a run that has not ended, nor a thread of one."""


def start(worker: str, wanted: Any, **details: Any):
    """Start a flow that asks for input, and return its run."""

    def body():
        return pause_flow_run(wait_for_input=wanted, **details)

    async def body_async():
        return await pause_flow_run(wait_for_input=wanted, **details)

    on = {"async": None, "async process": "process"}.get(worker, worker)
    is_sync = worker in ("thread", "process")
    return flow(on=on, name="asks")(body if is_sync else body_async).start()


@pytest.fixture
def waits(until, kernel_loop):
    """Starts a flow that asks for input, and returns its run once it waits."""
    started = []

    def begin(worker: str, wanted: Any, **details: Any):
        run = start(worker, wanted, **details)
        started.append(run)
        until(lambda: run.state.is_paused())
        return run

    yield begin
    for run in started:
        run.cancel(0)
        run.wait(20)


@pytest.mark.parametrize("worker", WORKERS)
def test_the_run_gets_an_instance_of_the_model(waits, worker):
    """The input that `resume` brings comes as an instance, whatever worker the run has."""
    run = waits(worker, Order)
    resume_flow_run(run.id, run_input={"size": "M", "day": "2026-01-02"})
    order = run.result(20)
    assert (order.size, order.count, order.day) == ("M", 1, date(2026, 1, 2))
    assert type(order) is Order
    assert run.waiting is None


@pytest.mark.parametrize("worker", WORKERS)
def test_input_that_does_not_fit_is_refused_to_who_gives_it(waits, worker):
    """Input that does not fit raises an error that names the fields, and the run waits on."""
    run = waits(worker, Order)
    with pytest.raises(InvalidInput, match=r"size: .*'S', 'M' or 'L'; count: .*; colour: Extra"):
        run.resume({"size": "XL", "count": 0, "colour": "red"})
    with pytest.raises(InvalidInput, match=r"size: Field required\. The run waits on\.$"):
        run.resume()
    with pytest.raises(InvalidInput, match=r"count: thirteen brings bad luck\."):
        runs.resume(run.id, run_input={"size": "S", "count": 13})
    with pytest.raises(InvalidInput, match="ZeroDivisionError: a fault of the validator's"):
        run.resume({"size": "S", "count": 14})
    with pytest.raises(InvalidInput, match="SystemExit: it exits"):
        run.resume({"size": "S", "count": 15})
    assert run.state.is_paused()
    assert run.record().waiting.number == 1
    run.resume({"size": "S"})
    assert run.result(20).size == "S"


class Colour(Enum):
    RED = "red"


TYPES = [
    (str, "text", "text"),
    (int, 3, 3),
    (float, 3, 3.0),
    (bool, False, False),
    (list[int], [1, "2"], [1, 2]),
    (dict[str, float], {"a": 1}, {"a": 1.0}),
    (dict[str, int], {"value": {"value": 1}}, {"value": 1}),
    (Literal["yes", "no"], "no", "no"),
    (datetime, "2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5)),
    (datetime, datetime(2026, 1, 2), datetime(2026, 1, 2)),
    (int | None, {"value": None}, None),
    (Annotated[int, Field(gt=2)], {"value": 3}, 3),
    (Colour, "red", Colour.RED),
    (Colour, Colour.RED, Colour.RED),
    (set[str], {"a"}, {"a"}),
]


@pytest.mark.parametrize(("wanted", "given", "got"), TYPES, ids=str)
def test_a_type_is_asked_for_by_itself(waits, wanted, given, got):
    """Any type that pydantic reads can be asked for; the field is `value`, the result plain."""
    run = waits("thread", wanted)
    assert [*run.record().waiting.schema["properties"]] == ["value"]
    run.resume(given)
    assert run.result(20) == got
    assert type(run.result(20)) is type(got)


def test_a_type_is_refused_as_a_field_is(waits):
    """A value of the wrong type, or none, is refused under the name `value`."""
    run = waits("thread", int)
    for wrong in ("three", None, {"value": "three"}, {"value": 1, "other": 2}):
        with pytest.raises(InvalidInput, match="value: "):
            run.resume(wrong)
    run.resume({"value": 3})
    assert run.result(20) == 3


def test_any_model_of_pydantic_will_do(waits):
    """A model that is no RunInput comes back as itself, and refuses what it has no field for."""
    run = waits("thread", Plain)
    with pytest.raises(InvalidInput, match="nme: Extra inputs"):
        run.resume({"name": "Ada", "nme": "Ada"})
    run.resume(Plain(name="Ada"))
    assert run.result(20) == Plain(name="Ada")
    assert pickle.loads(pickle.dumps(run.result(20))) == Plain(name="Ada")


def test_a_model_that_takes_more_is_left_to(waits):
    """What a model's own config says of fields that it does not have is heeded."""

    class Open(BaseModel, extra="allow"):
        name: str

    run = waits("thread", Open)
    run.resume({"name": "Ada", "more": 1})
    assert run.result(20).more == 1


def test_what_is_asked_for_can_be_read_by_all(waits):
    """The record has the input's JSON schema, defaults, description and key."""
    wanted = Order.with_initial_data(description="Which shirt?", size="L")
    waiting = waits("thread", wanted, key="shirt").record().waiting
    assert (waiting.kind, waiting.text) == ("input", "Waiting for input: shirt")
    assert (waiting.key, waiting.description) == ("shirt", "Which shirt?")
    assert waiting.initial == {"size": "L", "count": 1, "day": None}
    count = waiting.schema["properties"]["count"]
    assert (count["type"], count["description"]) == ("integer", "How many shirts")
    assert count["exclusiveMinimum"] == 0
    assert "required" not in waiting.schema


@pytest.mark.parametrize("worker", ["thread", "process"])
def test_without_input_the_defaults_are_taken(waits, worker):
    """A resume without input takes what `with_initial_data` and the fields say."""
    run = waits(worker, Order.with_initial_data(size="L", count=2))
    run.resume()
    assert run.result(20) == Order(size="L", count=2)
    assert type(run.result(20)) is Order


def test_initial_data_is_checked_as_the_field_is(waits):
    """With initial data a field keeps its type and limits."""
    run = waits("thread", Order.with_initial_data(count=5, note="none"))
    with pytest.raises(InvalidInput, match=r"size: .*; count: .*greater than 0; note: "):
        run.resume({"count": 0, "note": 3})
    run.resume({"size": "S", "note": "some"})
    assert run.result(20).note == "some"


def test_validators_of_a_whole_model_are_told(waits):
    """What a validator of the whole model says is told without a field."""

    class Range(RunInput):
        low: int = 0
        high: int = 0

        @model_validator(mode="after")
        def check(self):
            if self.low >= self.high:
                raise ValueError("low must be below high")
            return self

    run = waits("thread", Range)
    with pytest.raises(InvalidInput, match=r"^The input does not fit: low must be below high\."):
        run.resume()
    run.resume({"high": 1})
    assert run.result(20).high == 1


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (3, "must be a pydantic model or a type"),
        ("int", "must be a pydantic model or a type"),
        (threading.Lock, "must be a pydantic model or a type"),
        (Plain(name="x"), "must be a pydantic model or a type"),
        (Literal[tuple(f"choice {n}" for n in range(5000))], "more than 30,000"),
    ],
    ids=["number", "text", "class", "instance", "too long"],
)
def test_what_nobody_can_be_asked_for_is_an_error(wanted, says):
    """Something that is no model and no type is refused where it is written."""
    with pytest.raises(TypeError, match=says):
        start("thread", wanted).result(20)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"timeout": 0}, ValueError), ({"timeout": "1 h"}, ValueError), ({"key": 3}, TypeError)],
)
def test_a_wrong_option_is_an_error(options, error):
    """A time-out that is no time, or a key that is no text, is refused."""
    with pytest.raises(error, match="must be a"):
        start("thread", None, **options).result(20)


def test_what_json_cannot_hold_is_refused(waits):
    """Input that cannot be written as JSON, or is too long, is refused; the run waits on."""
    run = waits("thread", Plain)
    with pytest.raises(InvalidInput, match="cannot be written as JSON: a object"):
        run.resume({"name": object()})
    with pytest.raises(InvalidInput, match="more than 100,000"):
        run.resume({"name": "x" * 100_000})
    assert run.state.is_paused()


def test_input_where_none_is_asked_for_is_refused(waits, until):
    """Input for a run that waits for approval, for text, or only holds still is not lost."""
    run = waits("thread", None)
    with pytest.raises(InvalidInput, match="waits for approval, not for input"):
        run.resume({"name": "Ada"})
    run.resume()
    run.wait(20)

    @flow
    def asks():
        return input("?")

    run = asks.start()
    until(lambda: run.state.is_paused())
    with pytest.raises(InvalidInput, match="a line of text, not for a dict"):
        run.resume({"name": "Ada"})
    run.resume("Ada")
    assert run.result(20) == "Ada"

    @flow
    def works():
        while True:
            checkpoint()

    run = works.start()
    run.pause()
    until(lambda: run.state.is_paused())
    with pytest.raises(InvalidInput, match="waits for no input"):
        run.resume("Ada")
    with pytest.raises(NotPaused, match="does not wait for this answer"):
        run.resume(question=1)
    run.cancel()
    run.wait(20)
    with pytest.raises(UnknownRun):
        resume_flow_run("no such run", {"name": "Ada"})


@pytest.mark.parametrize("worker", ["thread", "async", "process"])
def test_a_key_is_asked_once(until, worker, tmp_path):
    """A pause that was resumed is not asked again under its key, in a later attempt neither."""

    def body(attempted):
        first = pause_flow_run(wait_for_input=int, key="how many")
        pause_flow_run(key="sure?")
        again = pause_flow_run(wait_for_input=int, key="how many")
        pause_flow_run(key="sure?")
        if not attempted.exists():
            attempted.touch()
            raise OSError("once")
        return first, again

    async def body_async(attempted):
        first = await pause_flow_run(wait_for_input=int, key="how many")
        await pause_flow_run(key="sure?")
        again = await pause_flow_run(wait_for_input=int, key="how many")
        if not attempted.exists():
            attempted.touch()
            raise OSError("once")
        return first, again

    on = None if worker == "async" else worker
    asks = flow(on=on, retries=1, name="keys")(body_async if worker == "async" else body)
    run = asks.start(tmp_path / "attempted")
    for number, answer in ((1, 3), (2, None)):
        until(lambda number=number: run.waiting is not None and run.waiting.number == number)
        run.resume(answer, question=number)
    assert run.result(20) == (3, 3)
    assert run.attempt == 2


def test_another_question_of_the_same_key_is_asked(until):
    """An earlier answer that does not fit what is asked for now is asked for anew."""

    @flow
    def body():
        number = pause_flow_run(wait_for_input=int, key="it")
        return number, pause_flow_run(wait_for_input=list[int], key="it")

    run = body.start()
    until(lambda: run.waiting is not None)
    run.resume(1)
    until(lambda: run.waiting is not None and run.waiting.number == 2)
    run.resume([2])
    assert run.result(20) == (1, [2])


def test_a_pause_that_nobody_resumed_is_asked_again():
    """A key whose pause timed out is asked again: nobody has answered it."""

    @flow
    def body():
        for _ in range(2):
            with pytest.raises(FlowPauseTimeout):
                pause_flow_run(key="it", timeout=0.01)

    run = body.start()
    run.result(20)
    assert [state.type for state in run.states].count("PAUSED") == 2


@pytest.mark.parametrize("kind", ["task", "subflow", "task in a process", "subflow in a process"])
def test_tasks_and_subflows_may_ask(until, kind):
    """A task asks through its flow's run, a subflow through its own; in a process through it."""

    def asks():
        return pause_flow_run(wait_for_input=int)

    inner = (task if kind.startswith("task") else flow)(asks, name="inner")

    def outer():
        return inner() + 1

    on = "process" if "process" in kind else "thread"
    run = flow(outer, name="outer", on=on).start()
    if kind == "subflow":
        until(lambda: runs.list(name="inner", state="PAUSED"))
        asking = next(each for each in runs.list(name="inner") if each.subflow_of is run)
    else:
        asking = run
    until(lambda: asking.state.is_paused())
    with pytest.raises(InvalidInput):
        asking.resume("x")
    asking.resume(2)
    assert run.result(20) == 3


def test_an_answer_says_which_question_it_is_for(until):
    """An answer with the number of a question goes to that alone, or nowhere."""

    @task
    def asks(i):
        return pause_flow_run(wait_for_input=int, key=str(i))

    @flow
    def body():
        return [future.result() for future in asks.map(range(2))]

    run = body.start()
    until(lambda: len(run._questions) == 2)
    keys = {int(each.waiting.key): each.waiting.number for each in run._questions}
    with pytest.raises(NotPaused, match="does not wait for this answer"):
        run.resume(7, question=3)
    with pytest.raises(NotPaused, match="is not held"):
        run.resume(question=0)
    run.resume(20, question=2)
    assert run.waiting.number == 1
    with pytest.raises(NotPaused, match="does not wait for this answer"):
        run.resume(20, question=2)
    run.resume(10, question=1)
    assert run.result(20) == [{1: 10, 2: 20}[keys[i]] for i in range(2)]


def working(until, steps, *, asks):
    """Start a flow that asks while a task of it works; return its run once it does both."""

    @task
    def works():
        while not steps.get("stop"):
            steps["count"] = steps.get("count", 0) + 1
            checkpoint()

    @flow
    def body():
        works.submit()
        answer = pause_flow_run(wait_for_input=asks)
        steps["stop"] = True
        return answer

    run = body.start()
    until(lambda: run.state.is_paused() and steps.get("count"))
    return run


def stands_still(steps):
    """Whether the task makes no step for a while."""
    before = steps["count"]
    time.sleep(0.03)
    return steps["count"] == before


def test_a_pause_asked_while_it_waits_for_a_person_holds_its_tasks(until):
    """Until the tasks hold still it is asked; then nothing moves; a resume lifts that first."""
    steps: dict[str, Any] = {}
    run = working(until, steps, asks=None)
    assert run.asked is None
    assert not run.record().waiting.held
    assert not stands_still(steps)
    run.pause()
    assert run.record().waiting.held
    until(lambda: run.asked is None)
    assert run.state.is_paused()
    assert stands_still(steps)
    run.resume()
    assert not run.record().waiting.held
    assert run.state.is_paused()
    until(lambda: not stands_still(steps))
    run.resume()
    assert run.wait(20).state.is_completed()


def test_a_pause_is_not_said_to_be_so_while_a_task_goes_on(until):
    """Asked while the run waits for a person, a pause says "pause" for as long as a task moves."""
    go, gone = threading.Event(), threading.Event()

    @task
    def works():
        go.wait(20)  # to no checkpoint
        gone.set()

    @flow
    def body():
        works.submit()
        pause_flow_run()

    run = body.start()
    until(lambda: run.state.is_paused() and any(each.state.is_running() for each in run.tasks))
    run.pause()
    assert (run.state.type, run.asked) == ("RUNNING", "pause")
    go.set()
    until(lambda: run.asked is None)
    assert run.state.is_paused()
    assert gone.is_set() or any(each.state.is_running() for each in run.tasks)
    run.resume()
    run.resume()
    assert run.wait(20).state.is_completed()


def test_an_answer_given_while_it_is_held_waits_with_it(until):
    """Input given to a run that is also paused is taken; the run goes on when it is resumed."""
    steps: dict[str, Any] = {}
    run = working(until, steps, asks=int)
    run.pause()
    until(lambda: run.asked is None)
    with pytest.raises(InvalidInput):
        run.resume("no number")
    run.resume(3)
    assert run.waiting is None
    assert run.state.is_paused()
    assert stands_still(steps)
    run.resume()
    assert run.result(20) == 3


def test_a_question_asked_on_the_way_to_a_pause(until):
    """A run that asks while a pause is on its way says so of both, and both are lifted."""
    ready, go = threading.Event(), threading.Event()

    @task
    def works():
        ready.set()
        go.wait(20)

    @task
    def asks():
        ready.wait(20)
        return pause_flow_run(wait_for_input=int)

    @flow
    def body():
        futures = works.submit(), asks.submit()
        return futures[1].result()

    run = body.start()
    until(ready.is_set)
    until(lambda: run.waiting is not None)
    run.pause()
    assert run.asked == "pause"
    go.set()
    until(lambda: run.asked is None)
    run.resume()
    run.resume(3)
    assert run.result(20) == 3


def test_the_end_of_a_parents_pause_approves_nothing(until):
    """When a parent's pause ends, a subflow that waits for approval still waits for it."""

    @flow
    def inner():
        pause_flow_run()

    @flow
    def outer():
        inner.start().result()

    run = outer.start()
    until(lambda: runs.list(name="inner", state="PAUSED"))
    asking = runs.list(name="inner")[0]
    run.pause()
    until(lambda: run.state.is_paused())
    asking.resume(question=0)
    run.resume()
    assert asking.record().waiting is not None
    asking.resume()
    assert run.wait(20).state.is_completed()


def test_nobody_is_late_for_having_been_held(until):
    """The time for which a run was paused does not count for its question's time-out."""
    steps: dict[str, Any] = {}
    run = working(until, steps, asks=int)
    before = run.record().waiting.until
    run.pause()
    until(lambda: run.asked is None)
    time.sleep(0.01)
    run.resume()
    assert run.record().waiting.until >= before + 0.01
    run.resume(1)
    run.wait(20)


def test_a_suspended_process_is_resumed_before_it_is_answered(until, waits):
    """Input for a process that is held says that the run is to be resumed first."""
    run = waits("process", int)
    run.pause()
    until(lambda: run.asked is None)
    with pytest.raises(InvalidInput, match="resume the run first"):
        run.resume(3)
    run.resume()
    run.resume(3)
    assert run.result(20) == 3


def test_a_process_that_does_not_answer_is_told(until, waits, monkeypatch):
    """Input that a process does not check in time is refused, and can be given again."""

    class Slow(RunInput):
        seconds: float

        @field_validator("seconds")
        @classmethod
        def wait(cls, seconds: float) -> float:
            time.sleep(seconds)
            return seconds

    run = waits("process", Slow)
    monkeypatch.setattr(inquiries, "_CHECK_SECONDS", 0.05)
    with pytest.raises(InvalidInput, match="could not be checked"):
        run.resume({"seconds": 0.5})
    monkeypatch.undo()
    run.resume({"seconds": 0})
    assert run.result(20).seconds == 0


def test_of_two_answers_at_once_one_counts(waits):
    """Of two people who answer at once, one is told that the run does not wait any more."""
    both = threading.Barrier(2)

    class Slow(RunInput):
        n: int

        @field_validator("n")
        @classmethod
        def meet(cls, n: int) -> int:
            both.wait(20)
            return n

    run = waits("thread", Slow)
    told: list[Any] = []

    def answer(n):
        try:
            run.resume({"n": n})
            told.append(n)
        except NotPaused as error:
            told.append(error)

    threads = [threading.Thread(target=answer, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(isinstance(each, NotPaused) for each in told) == [False, True]
    assert run.result(20).n in told


def test_a_cancel_ends_the_wait_for_input(waits):
    """A run that waits for input can be cancelled, and takes no input any more."""
    for worker in ("thread", "async", "process"):
        run = waits(worker, Order)
        run.cancel(reason="Rejected")
        assert run.wait(20).state.is_cancelled()
        assert run.state.message == "Cancelled: Rejected"
        with pytest.raises(NotPaused):
            run.resume({"size": "S"})


def test_asking_again_until_it_is_right(until):
    """The loop of Prefect's guide: what was wrong is asked for again, with what was given."""

    @flow
    async def shirts():
        description, size = "Which size?", None
        while True:
            wanted = Order.with_initial_data(description=description, count=1)
            order = await pause_flow_run(wait_for_input=wanted)
            if order.size != size:
                return order.size
            description = "That is sold out."

    run = shirts.start()
    until(lambda: run.state.is_paused())
    run.resume({"size": "M"})
    assert run.result(20) == "M"
    assert asyncio.iscoroutinefunction(shirts.fn)


def test_resuming_may_be_awaited_in_async_code(until):
    """`await resume_flow_run(...)` works as in Prefect, with an id, a UUID or the run itself."""

    @flow
    def asks():
        return pause_flow_run(wait_for_input=int)

    async def answer(run, named):
        await resume_flow_run(named, run_input=3)
        return await run

    for name in (lambda run: run.id, lambda run: UUID(run.id), lambda run: run):
        run = asks.start()
        until(lambda run=run: run.state.is_paused())
        assert asyncio.run(answer(run, name(run))) == 3
    run = asks.start()
    until(lambda: run.state.is_paused())
    assert resume_flow_run(run, run_input=4) is None
    assert run.result(20) == 4

"""Caching: results that are kept and taken in the place of a run of the body."""

import asyncio
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest

from jupyter_flows import current_run, flow, task
from jupyter_flows.cache_policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    NONE,
    RUN_ID,
    TASK_SOURCE,
    CachePolicy,
    hash_of,
)
from jupyter_flows.engine import ports
from jupyter_flows.history import results as results_module
from jupyter_flows.history.results import ResultFiles, default_folder
from jupyter_flows.tasks import task_input_hash

pytestmark = pytest.mark.usefixtures("nothing_is_left")

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep results in a folder of the test's own."""
    folder = tmp_path / "store" / "flows.results"
    monkeypatch.setattr(ports, "results_at", (str(folder), 86_400.0))
    return folder


class Counting:
    """Makes tasks whose runs are counted."""

    def __init__(self):
        self.ran = []

    def task(self, kind="sync", **options):
        """Return a task of one parameter, or none, that returns it doubled."""

        def double(x=1, label=""):
            self.ran.append(x)
            return x * 2

        async def double_async(x=1, label=""):
            return double(x, label)

        return task(name="double", **options)(double if kind == "sync" else double_async)


class Model:
    """Has a task for a method."""

    def __init__(self, rate):
        self.rate = rate

    @task(cache_policy=INPUTS)
    def score(self, x):
        """Return what depends on both."""
        return self.rate * x


def entries(folder):
    """Return the files of kept results."""
    return sorted(folder.iterdir()) if folder.exists() else []


def in_a_flow(call, **options):
    """Call something in a flow that runs in the background, and return the run."""
    return flow(call, **options).start().wait(30)


# -- hits and misses ---------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("how", ["called", "submitted"])
def test_a_hit(kind, how):
    """The second run of a cached task is Cached, has the result, and does not run the body."""

    def call(x):
        return double.submit(x).result() if how == "submitted" else double(x)

    async def call_async(x):
        return double.submit(x).result() if how == "submitted" else await double(x)

    counting = Counting()
    double = counting.task(kind, cache_policy=INPUTS)
    body = flow(call if kind == "sync" else call_async)
    first, second, other = (body.start(x).wait(20) for x in (3, 3, 4))
    assert [run.result() for run in (first, second, other)] == [6, 6, 8]
    assert counting.ran == [3, 4]
    assert [state.name for state in first.tasks[0].states] == ["Pending", "Running", "Completed"]
    assert [state.name for state in second.tasks[0].states] == ["Pending", "Running", "Cached"]
    assert second.tasks[0].state.is_completed()
    assert second.tasks[0].record().state_name == "Cached"
    assert ["kept from an earlier run" in line.message for line in second.logs] == [True]
    assert first.logs == []


def test_nothing_is_kept_unasked(folder):
    """A task that says nothing about caching is never cached, and nothing is written."""
    counting = Counting()
    double = counting.task()
    in_a_flow(lambda: (double(3), double(3)))
    assert counting.ran == [3, 3]
    assert not folder.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"cache_policy": NO_CACHE},
        {"cache_policy": NONE, "persist_result": True},
        {"persist_result": False},
        {"cache_expiration": timedelta(days=1)},
        {"refresh_cache": True},
    ],
)
def test_options_that_keep_nothing(options, folder):
    """Without a policy, with NO_CACHE, and with `persist_result=False` nothing is kept."""
    counting = Counting()
    double = counting.task(**options)
    in_a_flow(lambda: (double(3), double(3)), persist_result=None)
    assert counting.ran == [3, 3]
    assert not folder.exists()


def test_persist_result_is_the_default_policy():
    """`persist_result=True` alone finds results again within one flow run only."""
    counting = Counting()
    double = counting.task(persist_result=True)
    for _ in range(2):
        in_a_flow(lambda: (double(3), double(3)))
    assert counting.ran == [3, 3]


def test_a_flow_persists_for_its_tasks():
    """With `persist_result=True` a flow that is retried does not run again what completed."""
    counting = Counting()
    double, refuses = counting.task(), counting.task(persist_result=False)

    @flow
    def subflow():
        return double(5)

    @flow(persist_result=True, retries=1)
    def body():
        values = double(3), refuses(4), subflow()
        if current_run().attempt == 1:
            raise ValueError
        return values

    run = body.start().wait(20)
    assert run.result() == (6, 8, 10)
    assert counting.ran == [3, 4, 5, 4, 5]  # the second run of the subflow is another run
    assert [task.state.name for task in run.tasks].count("Cached") == 1


def test_a_method():
    """A task that is a method is cached by what it is called on too."""
    run = in_a_flow(lambda: [Model(rate).score(5) for rate in (1, 2, 1)])
    assert run.result() == [5, 10, 5]
    assert [task.state.name for task in run.tasks] == ["Completed", "Completed", "Cached"]


def test_a_task_outside_of_runs():
    """A task that is called by itself is cached too."""
    counting = Counting()
    double = counting.task(cache_policy=INPUTS)
    assert (double(3), double(3)) == (6, 6)
    assert counting.ran == [3]


def test_in_processes():
    """A task in a process finds what the kernel has kept, and the other way round."""

    def pid(x):
        import os

        return os.getpid()

    where = task(cache_policy=INPUTS + TASK_SOURCE)(pid)
    here = in_a_flow(lambda: where(1)).result()
    assert here == os.getpid()
    both = in_a_flow(lambda: (where(1), where(2)), on="process")
    assert both.result()[0] == here
    assert both.result()[1] != here
    assert [each.state.name for each in both.tasks] == ["Cached", "Completed"]
    assert in_a_flow(lambda: where(2)).result() == both.result()[1]


def test_a_failure_is_not_kept():
    """What a body raises is not kept: the next run runs it again."""

    @task(cache_policy=INPUTS)
    def fails(x):
        ran.append(x)
        raise ValueError

    ran = []
    in_a_flow(lambda: [fails(1, return_state=True) for _ in range(2)])
    assert ran == [1, 1]


def test_a_retry_looks_too():
    """A retried task keeps the result of the attempt that worked."""

    @task(cache_policy=INPUTS, retries=2)
    def flaky(x):
        ran.append(x)
        if len(ran) < 2:
            raise ValueError
        return x

    ran = []
    run = in_a_flow(lambda: (flaky(1), flaky(1)))
    assert run.result() == (1, 1)
    assert ran == [1, 1]
    assert [task.state.name for task in run.tasks] == ["Completed", "Cached"]


def test_the_result_of_a_cancelled_run_is_not_kept(folder, until):
    """What code returns that was told to stop and did not may be half done: it is not kept."""

    @task(cache_policy=INPUTS)
    def stubborn(x):
        begun.set()
        while not current_run().exit_flag:
            pass
        return x

    begun = threading.Event()
    run = flow(lambda: stubborn(1)).start()
    assert begun.wait(20)
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert entries(folder) == []


# -- keys ----------------------------------------------------------------------------------------


def test_inputs():
    """INPUTS goes by the values of all parameters, however they are given, defaults included."""
    counting = Counting()
    double = counting.task(cache_policy=INPUTS)
    in_a_flow(lambda: (double(1), double(x=1), double(), double(1, label=""), double(1, "other")))
    assert counting.ran == [1, 1]


def test_a_parameter_is_left_out():
    """`INPUTS - "name"` and a sum of policies less a name do not go by that parameter."""
    for policy in (INPUTS - "label", (INPUTS + TASK_SOURCE) - "label", DEFAULT - "label"):
        counting = Counting()
        double = counting.task(cache_policy=policy)
        in_a_flow(lambda double=double: (double(2, "a"), double(2, "b"), double(3, "b")))
        assert counting.ran == [2, 3]
        counting.ran.clear()
    with pytest.raises(TypeError, match="the name of a parameter, not 3"):
        INPUTS - 3


def test_two_tasks_with_the_same_inputs():
    """Two tasks that are called with the same inputs do not take each other's results."""
    one = task(cache_policy=INPUTS)(lambda x: ("one", x))
    other = task(cache_policy=INPUTS, name="other")(lambda x: ("other", x))
    assert in_a_flow(lambda: (one(1), other(1))).result() == (("one", 1), ("other", 1))


def test_task_source():
    """TASK_SOURCE goes by the code of the function: a changed one is run, a moved one is not."""

    def define(source):
        names = {}
        exec(source, names)
        return task(cache_policy=INPUTS + TASK_SOURCE)(names["step"])

    def values(step):
        run = in_a_flow(lambda: step(1))
        return run.result(), run.tasks[0].state.name

    assert values(define("def step(x): return x + 1")) == (2, "Completed")
    assert values(define("# moved\n\n\ndef step(x):\n    # said\n    return x + 1")) == (
        2,
        "Cached",
    )
    assert values(define("def step(x): return x + 2")) == (3, "Completed")
    assert values(define("def step(x): return (lambda: x + 1)()")) == (2, "Completed")
    assert values(define("def step(x): return (lambda: x + 2)()")) == (3, "Completed")


@pytest.mark.parametrize("on", ["thread", "process"])
def test_flow_parameters_and_run_id(on):
    """FLOW_PARAMETERS goes by what the flow is called with, RUN_ID by the flow run."""
    by_parameters = task(cache_policy=FLOW_PARAMETERS, name="p")(lambda: random.random())
    by_run = task(cache_policy=RUN_ID, name="r")(lambda: random.random())

    @flow(on=on)
    def body(day, *rest, hour=0):
        return by_parameters(), by_run(), by_run()

    calls = [("mon",), ("mon",), ("tue",), ("mon", 1)]
    runs = [body.start(*call).wait(30).result() for call in calls]
    runs.append(body.start("mon", hour=1).wait(30).result())
    assert runs[0][0] == runs[1][0]
    assert len({p for p, _, _ in runs}) == 4
    assert all(first == second for _, first, second in runs)
    assert len({first for _, first, _ in runs}) == 5


def test_a_key_function():
    """`cache_key_fn` is given the context and the parameters; tasks share the keys it gives."""

    def key(context, parameters):
        seen.append((context.task, context.task_run, context.parameters, parameters))
        return f"number {parameters['x']}" if parameters["x"] else None

    seen = []
    counting = Counting()
    double = counting.task(cache_key_fn=key)
    other = task(cache_key_fn=key, name="other")(lambda x: counting.ran.append("other"))
    run = in_a_flow(lambda: [double(0), double(0), double(3), double(3), other(3)])
    assert run.result() == [0, 0, 6, 6, 6]
    assert counting.ran == [0, 0, 3]
    assert seen[0] == (double, run.tasks[0], {"x": 0, "label": ""}, {"x": 0, "label": ""})


def test_task_input_hash():
    """`task_input_hash` is a key function of the task, its code and its inputs."""
    counting = Counting()
    double = counting.task(cache_key_fn=task_input_hash)
    other = task(cache_key_fn=task_input_hash, name="other")(lambda x=1, label="": None)
    in_a_flow(lambda: (double(1), double(1), double(2), other(1)))
    assert counting.ran == [1, 2]


def test_a_policy_of_ones_own():
    """A subclass of `CachePolicy` makes keys, and is combined with others."""

    class Parity(CachePolicy):
        def compute_key(self, task_ctx, inputs, flow_parameters, **kwargs):
            return str(inputs["x"] % 2)

    counting = Counting()
    double = counting.task(cache_policy=Parity())
    in_a_flow(lambda: [double(x) for x in range(5)] and None)
    assert counting.ran == [0, 1]
    assert counting.task(cache_policy=Parity() + INPUTS).caching.cache_policy.policies


def test_sums_of_policies():
    """`+` is without effect for NO_CACHE, takes sums apart, and makes one of several INPUTS."""
    assert INPUTS + NO_CACHE is INPUTS
    assert NO_CACHE + INPUTS is INPUTS
    both = (INPUTS - "a") + (RUN_ID + (INPUTS - "b"))
    assert both == RUN_ID + ((INPUTS - "a") - "b")
    assert DEFAULT == INPUTS + TASK_SOURCE + RUN_ID
    with pytest.raises(TypeError, match="unsupported operand"):
        INPUTS + "x"
    assert pickle.loads(pickle.dumps(NO_CACHE)) is NO_CACHE


def test_hashes_are_the_same_in_every_process():
    """Sets, dicts, arrays and functions have one hash, whatever the process."""
    source = (
        "import numpy\n"
        "from jupyter_flows.cache_policies import hash_of\n"
        "names = [f'name {i}' for i in range(50)]\n"
        "values = [set(names), {n: {n} for n in names}, numpy.arange(9.0), lambda x: x + 1]\n"
        "print([hash_of(value) for value in values])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", source],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert len(set(eval(said.pop()))) == 4


def test_functions_are_hashed_by_their_code():
    """A function among the inputs counts as its code and what it has captured."""

    def adding(n):
        return lambda x: x + n

    assert hash_of(adding(1)) == hash_of(adding(1))
    assert len({hash_of(adding(1)), hash_of(adding(2)), hash_of(lambda x: x)}) == 3
    assert hash_of({"f": [adding(1)]}) != hash_of({"f": [adding(2)]})


@pytest.mark.parametrize("kind", ["inputs", "key function", "wrong key"])
def test_what_has_no_key_is_run(kind, folder):
    """Inputs that cannot be hashed and key functions that fail are told; the task runs."""

    def fails(context, parameters):
        raise LookupError("no key today")

    options, told = {
        "inputs": ({"cache_policy": INPUTS}, "The parameter 'x' cannot be hashed, being a lock"),
        "key function": ({"cache_key_fn": fails}, "LookupError: no key today"),
        "wrong key": ({"cache_key_fn": lambda *_: 3}, "a key is a text, not 3"),
    }[kind]
    step = task(**options)(lambda x: "ran")
    run = in_a_flow(lambda: step(threading.Lock()))
    assert run.result() == "ran"
    (line,) = run.logs
    assert line.message.startswith("It has no cache key")
    assert told in line.message
    assert entries(folder) == []


# -- how long ------------------------------------------------------------------------------------


def test_expiration(folder, monkeypatch):
    """A result that has expired is none, is removed, and is made anew."""
    counting = Counting()
    double = counting.task(cache_policy=INPUTS, cache_expiration=timedelta(minutes=1))
    in_a_flow(lambda: (double(1), double(1)))
    assert counting.ran == [1]
    (path,) = entries(folder)
    now = results_module.clock.time
    monkeypatch.setattr(results_module.clock, "time", lambda: now() + 61)
    assert ResultFiles(folder).load("other") is None
    results = ResultFiles(folder)
    results.keep("other", b"")  # the first to be kept has what has expired removed
    assert path not in entries(folder)
    in_a_flow(lambda: double(1))
    assert counting.ran == [1, 1]


def test_an_expired_result_is_removed_when_it_is_met(folder):
    """A result whose time is over is not returned, and its file is gone."""
    results = ResultFiles(folder)
    results.keep("key", b"data", seconds=-1)
    assert results.load("key") is None
    assert entries(folder) == []


def test_what_nobody_asks_for_is_removed(folder, monkeypatch):
    """A result is kept as long as somebody asks for it in time; what was left behind goes too."""
    results = ResultFiles(folder, keep_seconds=100)
    for key in ("used", "unused"):
        results.keep(key, b"data")
    left = folder / "left.new"
    left.write_bytes(b"half")
    for path in entries(folder):
        os.utime(path, (1, 1))
    assert results.load("used") == b"data"
    ResultFiles(folder, keep_seconds=100).keep("more", b"data")
    assert results.load("unused") is None
    assert results.load("used") == b"data"
    assert not left.exists()


def test_refresh():
    """`refresh_cache` runs the body all the same, and keeps the new result."""
    values = iter(range(10))
    step = task(cache_policy=INPUTS)(lambda x: next(values))
    fresh = step.with_options(refresh_cache=True)
    assert in_a_flow(lambda: (step(1), fresh(1), step(1))).result() == (0, 1, 1)


# -- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "of another program"])
def test_a_damaged_entry(damage, folder):
    """It is a miss, told in the log once; the task runs, and its result is kept anew."""
    counting = Counting()
    double = counting.task(cache_policy=INPUTS)
    in_a_flow(lambda: double(1))
    (path,) = entries(folder)
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[:-1],
            "changed": data[:-1] + bytes([data[-1] ^ 1]),
            "emptied": b"",
            "of another program": b"x" * 100,
        }[damage]
    )
    runs = [in_a_flow(lambda: double(1)) for _ in range(3)]
    assert [run.result() for run in runs] == [2, 2, 2]
    assert counting.ran == [1, 1]
    told = [[line.message for line in run.logs if "damaged" in line.message] for run in runs]
    assert [len(lines) for lines in told] == [1, 0, 0]
    assert told[0][0].startswith("What is kept of an earlier run cannot be read, so it is run")


class Fading:
    """Is pickled and never unpickled."""

    def __reduce__(self):
        return _fade, ()


def _fade():
    raise LookupError("its class is gone")


def test_an_entry_that_cannot_be_unpickled():
    """A result that cannot be read back is a miss, told in the log; the task runs."""
    step = task(cache_policy=INPUTS)(lambda x: Fading())
    in_a_flow(lambda: step(1))
    run = in_a_flow(lambda: step(1))
    assert isinstance(run.result(), Fading)
    (line,) = run.logs
    assert line.message.endswith("cannot be read, so it is run: LookupError: its class is gone")


def test_a_result_that_cannot_be_pickled(folder):
    """It is told in the log, and is the task's result all the same."""
    step = task(cache_policy=INPUTS)(lambda x: threading.Lock())
    run = in_a_flow(lambda: bool(step(1)))
    assert run.result() is True
    (line,) = run.logs
    assert line.message.startswith("Its result cannot be kept: TypeError: cannot pickle")
    assert entries(folder) == []


def test_a_folder_that_cannot_be_used(folder):
    """It is told in the log with what to do, and the task has its result."""
    folder.parent.parent.mkdir(exist_ok=True)
    folder.parent.write_text("a file")
    step = task(cache_policy=INPUTS)(lambda x: x)
    run = in_a_flow(lambda: step(1))
    assert run.result() == 1
    assert "cannot be used" in run.logs[-1].message
    assert "set JUPYTER_FLOWS_STORE" in run.logs[-1].message


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="a mode says nothing on Windows")
def test_a_folder_that_is_open_to_others(folder):
    """A folder that others can write to is not used: what is in it would be run."""
    step = task(cache_policy=INPUTS)(lambda x: x)
    in_a_flow(lambda: step(1))
    folder.chmod(0o777)
    run = in_a_flow(lambda: step(1))
    assert run.tasks[0].state.name == "Completed"
    assert "is open to others" in run.logs[0].message


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="a mode says nothing on Windows")
def test_what_is_kept_is_private(folder):
    """The folder is the user's alone (0700), and so is each file in it (0600)."""
    counting = Counting()
    double = counting.task(cache_policy=INPUTS)
    in_a_flow(lambda: double(1))
    modes = [path.stat().st_mode & 0o777 for path in (folder.parent, folder, *entries(folder))]
    assert modes == [0o700, 0o700, 0o600]


def test_the_folder_is_beside_the_store(monkeypatch, tmp_path):
    """Without a notebook results are beside the store that `JUPYTER_FLOWS_STORE` names."""
    monkeypatch.setattr(ports, "results_at", None)
    monkeypatch.setenv("JUPYTER_FLOWS_STORE", str(tmp_path / "mine" / "runs.sqlite"))
    assert default_folder() == tmp_path / "mine" / "runs.results"
    counting = Counting()
    double = counting.task(cache_policy=INPUTS)
    in_a_flow(lambda: double(1))
    assert len(entries(default_folder())) == 1


def test_many_writers_of_one_key(folder):
    """Threads and processes that write and read one key meet whole results only."""
    source = (
        "import sys\n"
        "from jupyter_flows.history.results import ResultFiles\n"
        "results = ResultFiles(sys.argv[1])\n"
        "for i in range(300):\n"
        "    results.keep('key', bytes([i % 256]) * 50_000)\n"
        "    found = results.load('key')\n"
        "    assert len(found) == 50_000 and len(set(found)) == 1\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", source, folder], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    counting = Counting()
    double = counting.task(cache_policy=INPUTS)
    run = in_a_flow(lambda: [double.submit(1) for _ in range(20)] and None)
    assert run.state.is_completed()
    assert {task.state.data for task in run.tasks} == {2}
    for process in processes:
        assert process.wait(30) == 0, process.stderr.read()
        process.stderr.close()
    assert not list(folder.glob("*.new"))


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"cache_policy": "inputs"}, TypeError, "cache_policy must be one of jupyter_flows.cache"),
        ({"cache_key_fn": "key"}, TypeError, "cache_key_fn must be a function"),
        ({"cache_expiration": 60}, TypeError, "cache_expiration must be a timedelta, not 60"),
        (
            {"cache_policy": INPUTS, "cache_key_fn": task_input_hash},
            UserWarning,
            "does nothing beside a cache_key_fn",
        ),
        ({"cache_policy": INPUTS, "persist_result": False}, UserWarning, "does nothing with pers"),
    ],
)
def test_wrong_options_are_told_where_they_are_written(options, error, says):
    """An option of caching that makes no sense is told by the decorator."""
    with pytest.raises(error, match=says):
        task(**options)(lambda: None)


def test_options_are_kept():
    """`with_options` keeps how a task is cached, and changes it where it says so."""
    made = task(cache_policy=INPUTS, cache_expiration=timedelta(1))(lambda: None)
    again = made.with_options(refresh_cache=True).caching
    assert (again.cache_policy, again.cache_expiration) == (INPUTS, timedelta(1))
    assert again.refresh_cache
    assert not made.caching.refresh_cache


def test_a_hit_completes_hooks():
    """A run that is Cached calls `on_completion`, with that state."""
    names = []
    step = task(cache_policy=INPUTS, on_completion=[lambda _, __, s: names.append(s.name)])(
        lambda x: x
    )
    in_a_flow(lambda: (step(1), step(1)))
    assert names == ["Completed", "Cached"]


unpickling, unpickled = threading.Event(), threading.Event()


def unpickle():
    unpickling.set()
    while not unpickled.is_set():
        time.sleep(0.001)
    return "kept"


class Slow:
    """Is unpickled when somebody says so."""

    def __reduce__(self):
        return unpickle, ()


@pytest.mark.parametrize("on", ["async", "main"])
def test_the_loop_goes_on_while_a_result_is_read(on, kernel_loop, until):
    """A kept result is read and unpickled beside the event loop, and a cancel ends that too."""

    @task(cache_policy=INPUTS)
    async def slow(x):
        return Slow()

    async def let_it():
        while not unpickling.is_set():
            await asyncio.sleep(0.001)
        unpickled.set()

    @flow(on=on)
    async def calls(lets_it):
        if lets_it:
            return await asyncio.gather(slow(1), let_it())
        return await slow(1)

    unpickled.set()
    assert isinstance(calls.start(False).result(20), Slow)
    unpickling.clear()
    unpickled.clear()
    run = calls.start(True).wait(20)
    assert run.result() == ["kept", None]
    assert run.tasks[0].state.name == "Cached"
    unpickling.clear()
    unpickled.clear()
    run = calls.start(False)
    until(unpickling.is_set)
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert run.tasks[0].state.is_cancelled()


def test_async_tasks_side_by_side():
    """Async tasks that are gathered are cached each."""
    counting = Counting()
    double = counting.task("async", cache_policy=INPUTS)

    @flow
    async def body():
        return await asyncio.gather(*[double(x) for x in (1, 2, 1, 2)])

    assert body.start().result(20) == [2, 4, 2, 4]
    assert body.start().result(20) == [2, 4, 2, 4]
    assert len(counting.ran) <= 4
    assert set(counting.ran) == {1, 2}

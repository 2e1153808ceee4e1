"""Hooks: what is called when a run begins and when it ends, and what they may do."""

import asyncio
import functools
import subprocess
import sys
import threading
import time

import pytest

from jupyter_flows import current_run, flow, get_run_logger, task
from jupyter_flows.engine import hooks as hooks_module
from jupyter_flows.errors import WouldDeadlock

pytestmark = pytest.mark.usefixtures("nothing_is_left")

MOMENTS = ("on_running", "on_completion", "on_failure", "on_cancellation", "on_crashed")
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
WORKERS = pytest.mark.parametrize(
    ("on", "kind"), [("thread", "sync"), ("async", "async"), ("main", "async"), ("process", "sync")]
)


def as_kind(body, kind):
    """Return a body, or an async function that does the same."""

    async def body_async(*args):
        await asyncio.sleep(0)
        return body(*args)

    return body if kind == "sync" else body_async


class Calls(list):
    """What was called: the moment, and the state that it was called with."""

    def hooks(self, *moments, kind="sync"):
        """Return a hook for each moment, named as in `@flow`."""
        return {moment: [as_kind(self.noting(moment), kind)] for moment in moments or MOMENTS}

    def noting(self, moment):
        """Return a hook that notes its call."""
        return lambda author, run, state: self.append((moment, state.name))


def completes():
    return 1


def fails():
    raise ValueError("as ever")


def crashes():
    raise KeyboardInterrupt


def waits():
    time.sleep(3600)


async def waits_async():
    await asyncio.sleep(3600)


# -- when ------------------------------------------------------------------------------------


@WORKERS
@pytest.mark.parametrize(
    ("body", "end"),
    [
        (completes, ("on_completion", "Completed")),
        (fails, ("on_failure", "Failed")),
        (crashes, ("on_crashed", "Crashed")),
    ],
)
def test_each_moment_of_a_flow(on, kind, body, end, kernel_loop):
    """A hook is called once at its moment, with the state, and not at another, on every worker."""
    calls = Calls()
    made = flow(on=on, **calls.hooks())(as_kind(body, kind))
    made.start().wait(30)
    assert calls == [("on_running", "Running"), end]


@WORKERS
def test_a_cancelled_flow(on, kind, kernel_loop, until):
    """`on_cancellation` is called when the code of a cancelled run has stopped."""
    calls = Calls()
    made = flow(on=on, **calls.hooks())(waits if kind == "sync" else waits_async)
    run = made.start()
    until(lambda: run.state.is_running() and calls)
    run.cancel(grace=0)
    assert run.wait(30).state.is_cancelled()
    assert calls == [("on_running", "Running"), ("on_cancellation", "Cancelled")]


@KINDS
@pytest.mark.parametrize("hook_kind", ["sync", "async"])
@pytest.mark.parametrize("how", ["called", "submitted"])
@pytest.mark.parametrize(
    ("body", "end"),
    [(completes, ("on_completion", "Completed")), (fails, ("on_failure", "Failed"))],
)
def test_each_moment_of_a_task(kind, hook_kind, how, body, end):
    """Tasks have hooks too, sync or async; they have been called when the caller goes on."""

    def call():
        if how == "submitted":
            future = step.submit()
            future.wait()
        else:
            step(return_state=True)
        return list(calls)

    async def call_async():
        if how == "submitted":
            return call()
        await step(return_state=True)
        return list(calls)

    calls = Calls()
    hooks = calls.hooks(*MOMENTS[:4], kind=hook_kind)
    step = task(**hooks)(as_kind(body, kind))
    seen = flow(call if kind == "sync" else call_async).start().result(20)
    assert seen == calls == [("on_running", "Running"), end]


def test_a_cancelled_task(until):
    """A task that is cancelled with its flow calls `on_cancellation`, and so does the flow."""
    calls = Calls()
    step = task(on_cancellation=[lambda *_: calls.append("task")])(waits)
    run = flow(on_cancellation=[lambda *_: calls.append("flow")])(lambda: step()).start()
    until(lambda: run.tasks and run.tasks[0].state.is_running())
    run.cancel()
    run.wait(20)
    assert calls == ["task", "flow"]


def test_what_a_hook_is_given():
    """A hook gets the flow, the run and the state; of a task the task and the task run."""

    def see(author, run, state):
        seen.append((author, run, state.result(), run.state is state))

    @task(on_completion=[see])
    def step():
        return 1

    @flow(on_completion=[see])
    def body():
        return step() + 1

    seen = []
    run = body.start().wait(20)
    assert seen == [(step, run.tasks[0], 1, True), (body, run, 2, True)]


@KINDS
def test_retries(kind):
    """Each attempt calls `on_running`; `on_failure` is called after the last one alone."""
    calls = Calls()
    flow(retries=2, **calls.hooks())(as_kind(fails, kind)).start().wait(20)
    assert calls == [
        ("on_running", "Running"),
        *[("on_running", "Retrying")] * 2,
        ("on_failure", "Failed"),
    ]


def test_a_timeout_is_a_failure():
    """A run that timed out calls `on_failure`, with the state TimedOut."""
    calls = Calls()
    flow(timeout_seconds=0.05, **calls.hooks())(waits).start().wait(20)
    assert calls == [("on_running", "Running"), ("on_failure", "TimedOut")]


def test_a_run_that_never_began(kernel_loop):
    """A run that is cancelled before its body begins calls `on_cancellation`, and nothing else."""
    blocked = threading.Event()
    kernel_loop.call_soon_threadsafe(blocked.wait, 20)
    calls = Calls()
    run = flow(on="main", **calls.hooks())(waits_async).start()
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    blocked.set()
    assert calls == [("on_cancellation", "Cancelled")]


def test_a_run_that_is_given_up(until):
    """A run that is abandoned calls `on_cancellation` then, and nothing when its code ends."""

    def stuck():
        begun.set()
        lock.acquire()

    calls, begun, lock = Calls(), threading.Event(), threading.Lock()
    lock.acquire()
    run = flow(**calls.hooks())(stuck).start()
    assert begun.wait(20)
    run.cancel()
    run.abandon()
    run.wait(20)
    assert calls == [("on_running", "Running"), ("on_cancellation", "Abandoned")]
    lock.release()
    until(lambda: not run.book.workers)
    assert len(calls) == 2


def test_a_pause_calls_nothing(until):
    """A run that is resumed is running again, which is no new attempt."""
    calls, goes_on = Calls(), threading.Event()
    run = flow(**calls.hooks())(lambda: goes_on.wait(20) and time.sleep(0.001)).start()
    run.pause()
    goes_on.set()
    until(lambda: run.state.is_paused())
    run.resume()
    run.wait(20)
    assert calls == [("on_running", "Running"), ("on_completion", "Completed")]


def test_the_body_waits_for_on_running():
    """The body, sync or async, begins when the hooks of its attempt have ended."""

    def hook(flow, run, state):
        threading.Event().wait(0.05)
        order.append("hook")

    for kind in ("sync", "async"):
        order = []
        made = flow(on_running=[hook], timeout_seconds=0.04)(
            as_kind(lambda order=order: order.append("body"), kind)
        )
        assert made.start().wait(20).state.is_completed()  # it is not counted in the timeout
        assert order == ["hook", "body"]


def test_who_waits_for_a_run_waits_for_its_hooks(until):
    """The run is COMPLETED while its hooks are called; `wait`, `await` and callers wait on."""

    def hook(flow, run, state):
        going.set()
        goes_on.wait(20)
        done.append(state.name)

    made = flow(on_completion=[hook])(completes)
    going, goes_on, done = threading.Event(), threading.Event(), []
    run = made.start()
    assert going.wait(20)
    assert run.state.is_completed()
    assert run.result(timeout=0.01) == 1  # which there is
    assert not done
    goes_on.set()
    run.wait(20)
    assert done == ["Completed"]
    made()
    assert done == ["Completed"] * 2

    async def main():
        await made.start()

    asyncio.run(main())
    assert done == ["Completed"] * 3


def test_hooks_of_a_foreground_call():
    """A flow that is called here and now has its hooks called before the call returns."""
    calls = Calls()
    assert flow(**calls.hooks())(completes)() == 1
    assert calls == [("on_running", "Running"), ("on_completion", "Completed")]
    calls.clear()
    with pytest.raises(ValueError, match="as ever"):
        asyncio.run(flow(**calls.hooks())(as_kind(fails, "async"))())
    assert calls == [("on_running", "Running"), ("on_failure", "Failed")]


def test_a_task_called_outside_of_runs():
    """Its hooks are called too, with the task."""
    seen = []
    step = task(on_completion=[lambda task, run, state: seen.append((task, state.data))])(completes)
    assert step() == 1
    assert seen == [(step, 1)]


# -- how they are given ------------------------------------------------------------------------


def test_decorators():
    """Hooks are added by decorators too, which leave the function as it is."""
    calls = []

    @flow
    def body():
        return step()

    @task
    def step():
        return 1

    for made, moments in ((body, ("on_running", "on_completion")), (step, ("on_completion",))):
        for moment in moments:

            def hook(author, run, state, moment=moment):
                calls.append((author.name, moment))

            assert getattr(made, moment)(hook) is hook
    body()
    assert calls == [("body", "on_running"), ("step", "on_completion"), ("body", "on_completion")]


def test_several_hooks_are_called_in_their_order():
    """Hooks of one moment are called in the order in which they were given."""
    calls = []
    made = flow(on_completion=[lambda *_: calls.append(1), lambda *_: calls.append(2)])(completes)
    made.on_completion(lambda *_: calls.append(3))
    made()
    assert calls == [1, 2, 3]


def test_options_keep_hooks():
    """`with_options` keeps the hooks or replaces those that it names; the lists are not shared."""
    calls = Calls()
    made = flow(**calls.hooks("on_running", "on_completion"))(completes)
    other = made.with_options(on_completion=[lambda *_: calls.append("other")])
    other.on_running(lambda *_: calls.append("more"))
    other()
    assert calls == [("on_running", "Running"), "more", "other"]
    calls.clear()
    made()
    assert calls == [("on_running", "Running"), ("on_completion", "Completed")]


def test_methods():
    """A flow that is a method has its hooks called for each object's runs."""
    calls = Calls()

    class Pipeline:
        @flow(**calls.hooks("on_completion"))
        def body(self):
            return self

    pipeline = Pipeline()
    assert pipeline.body() is pipeline
    assert calls == [("on_completion", "Completed")]


@pytest.mark.parametrize("decorate", [flow, task])
@pytest.mark.parametrize("given", [print, 3, ["no function"]])
def test_what_is_no_hook_is_told_where_it_is_written(decorate, given):
    """What is no list of functions is an error of the decorator."""
    with pytest.raises(TypeError, match=r"on_failure (must be a list of|takes) functions, not"):
        decorate(on_failure=given)(completes)
    with pytest.raises(TypeError, match="on_failure takes functions"):
        decorate(completes).on_failure("no function")


# -- what they may do ---------------------------------------------------------------------------


@KINDS
def test_a_hook_that_fails(kind):
    """Its exception is in the run's log under its name, and nothing else comes of it."""

    def notify(flow, run, state):
        print("notifying")
        raise LookupError("nobody is there")

    calls = Calls()
    made = flow(on_completion=[as_kind(notify, kind), *calls.hooks()["on_completion"]])(completes)
    made.on_running(functools.partial(notify))
    run = made.start()
    assert run.result(20) == 1
    assert run.wait(20).state.is_completed()
    assert calls == [("on_completion", "Completed")]
    messages = [line.message for line in run.logs]
    name = "notify" if kind == "sync" else "body_async"
    assert sum("The hook 'notify' failed." in each for each in messages) >= 1
    assert sum(f"The hook {name!r} failed." in each for each in messages) >= 1
    assert sum("LookupError: nobody is there" in each for each in messages) == 2
    assert not any("asyncio.run" in each or "engine/hooks" in each for each in messages)


def test_a_hook_that_exits():
    """`sys.exit` in a hook ends neither the run nor the program."""
    run = flow(on_completion=[lambda *_: sys.exit(3)])(completes).start()
    assert run.wait(20).state.is_completed()
    assert any("SystemExit: 3" in line.message for line in run.logs)


def test_what_a_hook_prints():
    """Prints and log lines of hooks are in the log of the run, a task's in its flow run's."""

    def said(author, run, state):
        print(f"{author.name} is {state.name}")
        print("half a line", end="")
        get_run_logger().info("logged")

    async def said_async(author, run, state):
        print("and async")

    step = task(on_completion=[said], name="step")(completes)
    run = flow(name="mine", on_completion=[said_async], on_running=[said])(lambda: step()).start()
    run.wait(20)
    assert [(line.source, line.message) for line in run.logs] == [
        ("hook said", "mine is Running"),
        ("flow", "logged"),
        ("hook said", "half a line"),
        ("hook said", "step is Completed"),
        ("step-0 · task", "logged"),
        ("hook said", "half a line"),
        ("hook said_async", "and async"),
    ]


def test_prints_pass_where_those_of_the_run_do(capsys):
    """With `log_prints=False` what a hook prints goes where prints go."""
    flow(log_prints=False, on_completion=[lambda *_: print("passes")])(completes).start().wait(20)
    assert capsys.readouterr().out == "passes\n"


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_hook_that_hangs(how, monkeypatch, until):
    """It is left behind after its time, which is told; the next is called, and nobody waits."""

    def hang(flow, run, state):
        ends.wait(20)
        print("too late")

    async def hang_async(flow, run, state):
        while not ends.is_set():
            await asyncio.sleep(0.01)

    monkeypatch.setattr(hooks_module, "SECONDS", 0.05)
    ends, calls = threading.Event(), Calls()
    hook = hang if how == "sync" else hang_async
    made = flow(
        on_running=[hook],
        on_completion=[hook, *calls.hooks()["on_completion"]],
    )(completes)
    run = made.start()
    assert run.result(20) == 1
    assert calls == [("on_completion", "Completed")]
    told = [line.message for line in run.logs]
    assert told == [f"The hook {hook.__name__!r} is left behind, as 0.05 s are over."] * 2
    ends.set()


def test_a_cancel_does_not_reach_a_hook(until):
    """A hook that is under way when its run is cancelled is not stopped; the body never begins."""

    def hook(flow, run, state):
        going.set()
        while not goes_on.is_set():
            time.sleep(0.001)
            print("on and on")
        calls.append("whole")

    def begins():
        calls.append("body")

    going, goes_on, calls = threading.Event(), threading.Event(), []
    made = flow(on_running=[hook], on_cancellation=[lambda *_: calls.append("cancelled")])(begins)
    run = made.start()
    assert going.wait(20)
    run.cancel(grace=0)
    until(lambda: run.state.is_cancelled())
    goes_on.set()
    run.wait(20)
    assert calls == ["whole", "cancelled"]


@KINDS
def test_a_flow_can_be_cancelled_while_a_tasks_hook_hangs(kind, until):
    """Who calls a task waits for its hooks at a checkpoint: a cancel of the flow comes through."""

    def hook(task, run, state):
        going.set()
        ends.wait(20)

    def calls():
        step()

    async def calls_async():
        await step()

    going, ends = threading.Event(), threading.Event()
    step = task(on_completion=[hook])(as_kind(completes, kind))
    run = flow(calls if kind == "sync" else calls_async).start()
    assert going.wait(20)
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    ends.set()


def test_no_lock_is_held_and_other_runs_go_on(until):
    """While a hook hangs its run can be looked at, cancelled and paused, and others go on."""

    def hook(flow, run, state):
        going.set()
        ends.wait(20)

    going, ends = threading.Event(), threading.Event()
    run = flow(on_completion=[hook])(completes).start()
    assert going.wait(20)
    assert run.cancel() is False
    assert run.kill() is False
    assert run.record().state_name == "Completed"
    assert flow(completes).start().result(20) == 1
    ends.set()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_hook_may_ask_for_the_result_of_its_run(kind):
    """A hook of a run that has ended has its result at once; one of a run that begins is told."""
    found = []

    def begins(flow, run, state):
        try:
            run.result()
        except WouldDeadlock as error:
            found.append(str(error))

    def ends(flow, run, state):
        found.append(run.result())

    async def ends_async(flow, run, state):
        found.append(await run)

    hook = ends if kind == "sync" else ends_async
    assert flow(on_running=[begins], on_completion=[hook])(lambda: 5).start().result(20) == 5
    assert "would wait for the end of" in found[0]
    assert found[1:] == [5]


def test_a_hook_may_start_runs():
    """A hook may call tasks and flows, and ask which run it is called for."""

    def hook(flow, run, state):
        seen.append(step())
        seen.append(other())
        seen.append(current_run().flow_run is run)

    seen = []
    step = task(lambda: "a task")
    other = flow(lambda: "a flow")
    flow(on_completion=[hook])(completes).start().wait(20)
    assert seen == ["a task", "a flow", True]


# -- processes and ends ---------------------------------------------------------------------------


def test_hooks_of_a_process_run_are_called_in_the_kernel():
    """The hooks of a flow may change what the kernel has, wherever its body runs."""
    import os

    pids = []
    run = flow(on="process", on_completion=[lambda *_: pids.append(os.getpid())])(os.getpid).start()
    assert run.result(30) != os.getpid()
    run.wait(20)
    assert pids == [os.getpid()]


def test_hooks_of_a_task_in_a_process_are_called_there():
    """Those of a task are called where it runs, and what they print is in the run's log."""
    import os

    def hook(task, task_run, state):
        import os

        print("pid", os.getpid(), state.name)

    step = task(on_completion=[hook], on_running=[hook])(lambda: 1)

    def body():
        step()
        return os.getpid()

    run = flow(on="process")(body).start()
    pid = run.result(30)
    lines = [line.message for line in run.logs]
    assert lines == [f"pid {pid} Running", f"pid {pid} Completed"]


def test_hooks_at_the_end_of_a_script():
    """A script that ends cancels its runs; their hooks are called, and one that hangs ends too."""
    script = (
        "import threading, time\n"
        "from jupyter_flows import flow\n"
        "def hang(flow, run, state): threading.Event().wait()\n"
        "def hook(flow, run, state): print('hook', state.name, flush=True)\n"
        "@flow(log_prints=False, on_cancellation=[hook, hang])\n"
        "def body():\n"
        "    begun.set()\n"
        "    time.sleep(3600)\n"
        "begun = threading.Event()\n"
        "body.start()\n"
        "begun.wait()\n"
        "from jupyter_flows.engine import ending\n"
        "ending.EXIT_SECONDS = 0.5\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "hook Cancelled\n"
    assert done.stderr == ""


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_no_hook_is_called_for_what_was_not_ready(how):
    """Of a task or flow that is NotReady no hook is called, as in Prefect, but of what failed."""
    calls, unwanted = Calls(), Calls()

    @task(**calls.hooks("on_failure", "on_cancellation"))
    def comes_first():
        if how == "fails":
            raise ValueError
        waits()

    @task(**unwanted.hooks(*MOMENTS[:-1]))
    def needs(x):
        return x

    @flow(**unwanted.hooks())
    def needs_too(x):
        return x

    @flow
    def runs():
        first = comes_first.submit()
        if how == "is cancelled":
            first.cancel()
        called = needs(first, return_state=True), needs_too(first, return_state=True)
        submitted, started = needs.submit(first), needs_too.start(first)
        submitted.wait()
        return [state.name for state in (*called, submitted.state, started.wait().state)]

    assert runs.start().result(20) == ["NotReady"] * 4
    assert len(calls) == 1
    assert unwanted == []


def test_who_waits_for_the_hooks_of_an_attempt_does_so_once():
    """They have ended: a body does not wait for hooks that are due by then as the run has ended."""

    @flow
    def body():
        pass

    run = body.start().wait(20)
    calls = hooks_module.HookCalls(run)
    first, last = threading.Event(), threading.Event()

    def more_is_due():
        calls.add([lambda *_: last.wait(20)], run.state)
        calls.start()

    async def waits():
        calls.when_idle(more_is_due)
        waiting = asyncio.create_task(calls.wait())
        await asyncio.sleep(0)
        calls.when_idle(more_is_due)
        first.set()
        await asyncio.wait_for(waiting, 20)
        assert not calls.idle

    calls.add([lambda *_: first.wait(20)], run.state)
    calls.start()
    asyncio.run(waits())
    last.set()

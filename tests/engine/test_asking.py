"""A run that waits for a person: for approval, or for a line of text."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from jupyter_flows import (
    FlowPauseTimeout,
    checkpoint,
    flow,
    pause_flow_run,
    resume_flow_run,
    task,
)
from jupyter_flows.engine import asking
from jupyter_flows.errors import NobodyToAsk, NotInARun, NotPaused

STILL = 0.05  # seconds for which nothing may move


@pytest.mark.parametrize("kind", ["sync", "async", "main", "foreground"])
def test_a_run_waits_for_approval(kind, until, kernel_loop):
    """`pause_flow_run()` parks the caller, PAUSED, until somebody resumes the run."""

    def body():
        pause_flow_run(key="deploy")
        return "approved"

    async def body_async():
        await pause_flow_run(key="deploy")
        return "approved"

    if kind == "foreground":
        results = []
        foreground = flow(body, name="foreground-approval")
        thread = threading.Thread(target=lambda: results.append(foreground()))
        thread.start()
        from jupyter_flows import runs

        until(lambda: runs.list(name="foreground-approval", state="PAUSED"))
        run = runs.list(name="foreground-approval")[0]
    else:
        run = flow(on="main" if kind == "main" else None)(
            body if kind == "sync" else body_async
        ).start()
        until(lambda: run.state.is_paused())
    assert run.state.message == "Waiting for approval: deploy"
    record = run.record()
    assert (record.waiting.kind, record.waiting.text) == ("approval", run.state.message)
    assert record.waiting.until > time.time()
    resume_flow_run(run.id)
    assert run.result(20) == "approved"
    assert run.record().waiting is None
    if kind == "foreground":
        thread.join()
        assert results == ["approved"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_nobody_approves_in_time(kind):
    """When nobody resumes it in time, FlowPauseTimeout is raised and the run has FAILED."""

    def body():
        pause_flow_run(timeout=0.05)

    async def body_async():
        await pause_flow_run(timeout=0.05)

    run = flow(body if kind == "sync" else body_async).start()
    with pytest.raises(FlowPauseTimeout, match="Nobody resumed"):
        run.result(20)
    assert run.state.is_failed()
    assert any(state.is_paused() for state in run.states)


def test_tasks_that_were_started_go_on_while_it_waits(until):
    """While a run waits for approval, tasks that it submitted go on to their end."""

    @task
    def works():
        for _ in range(5):
            time.sleep(0.005)
            checkpoint()
        print("worked")

    @task
    async def works_async():
        for _ in range(5):
            await asyncio.sleep(0.005)

    @flow
    def body():
        works.submit()
        works_async.submit()
        pause_flow_run()

    run = body.start()
    until(lambda: len(run.tasks) == 2 and all(each.state.is_completed() for each in run.tasks))
    assert run.state.is_paused()
    run.resume()
    assert run.wait(20).state.is_completed()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_run_that_waits_can_be_cancelled(kind, until):
    """A cancel ends the wait for approval."""

    def body():
        pause_flow_run()

    async def body_async():
        await pause_flow_run()

    run = flow(body if kind == "sync" else body_async).start()
    until(lambda: run.state.is_paused())
    run.cancel()
    assert run.wait(20).state.is_cancelled()
    assert run.record().waiting is None


def test_a_run_that_waits_can_be_paused_too(until):
    """A pause of a run that waits for approval is resumed first, then the approval is given."""

    @flow
    def body():
        pause_flow_run()
        return "approved"

    run = body.start()
    until(lambda: run.state.is_paused())
    run.pause()
    run.resume()
    time.sleep(STILL)
    assert run.state.is_paused()
    run.resume()
    assert run.result(20) == "approved"


def test_input_becomes_a_question(until):
    """`input()` in a run waits, PAUSED, for the line that `resume` brings."""

    @flow
    def body():
        return input("Who are you? ")

    run = body.start()
    until(lambda: run.state.is_paused())
    assert run.record().waiting.kind == "input"
    assert run.record().waiting.text == "Who are you? "
    run.resume("Ada")
    assert run.result(20) == "Ada"


def test_questions_at_once_are_answered_one_by_one(until):
    """Of several tasks that ask at once, each gets an answer of its own, oldest first."""

    @task
    def asks(i):
        return input(f"question {i}")

    @flow
    def body():
        return [future.result() for future in asks.map(range(3))]

    run = body.start()
    answers = {}
    until(lambda: sum(each.state.is_running() for each in run.tasks) == 3)
    until(lambda: len(run._questions) == 3)
    for n in range(3):
        text = run.record().waiting.text
        answers[text] = f"answer {n}"
        run.resume(f"answer {n}")
    assert run.result(20) == [answers[f"question {i}"] for i in range(3)]


def test_input_where_nobody_can_answer_is_an_error(monkeypatch):
    """`input()` on an event loop, or where nobody can answer, raises an error that says so."""

    @flow
    async def on_a_loop():
        input("?")

    @flow
    def nobody():
        input("?")

    with pytest.raises(NobodyToAsk, match="would block the event loop"):
        on_a_loop.start().result(20)
    monkeypatch.setattr(asking, "can_ask", lambda run, kind: "Nobody is there.")
    with pytest.raises(NobodyToAsk, match="Nobody is there"):
        nobody.start().result(20)


def test_a_foreground_call_that_nobody_can_answer_is_an_error():
    """A call that blocks the only thread of a program says so at once, a task's question too."""
    source = """
import jupyter_flows as jf

@jf.task
def asks():
    return jf.pause_flow_run(wait_for_input=int)

@jf.flow
def direct():
    jf.pause_flow_run()

@jf.flow
def submitted():
    asks.submit().result()

for each in (direct, submitted):
    try:
        each()
    except jf.errors.NobodyToAsk as error:
        print(error)
"""
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    lines = ran.stdout.splitlines()
    assert [line.split("'")[1] for line in lines] == ["direct", "submitted"], ran.stderr
    assert all("Start it in the background with .start()" in line for line in lines)


def test_breakpoint_is_a_clear_error():
    """`breakpoint()` in a run raises an error that says what to do instead."""

    @flow
    def body():
        breakpoint()

    with pytest.raises(NobodyToAsk, match="Call the function in a plain cell"):
        body.start().result(20)


def test_asking_outside_of_a_run_is_an_error():
    """`pause_flow_run()` outside of a run says that it needs one."""
    with pytest.raises(NotInARun):
        pause_flow_run()


def test_a_cleanup_may_ask(until):
    """What the cleanup of a cancelled run asks can be answered."""
    answered = []

    @flow
    def body():
        try:
            time.sleep(3600)
        finally:
            pause_flow_run(key="keep the files?")
            answered.append(1)

    run = body.start()
    until(lambda: run.state.is_running())
    run.cancel()
    until(lambda: run.waiting)
    assert run.state.is_cancelling()
    run.resume()
    assert run.wait(20).state.is_cancelled()
    assert answered


def test_an_answer_to_a_run_is_none_to_its_subflow(until):
    """Resuming a run that waits leaves what a subflow of it asks for another answer."""

    @flow
    def asks():
        pause_flow_run()

    @flow
    def body():
        runs.append(asks.start())
        pause_flow_run()
        runs[0].wait()

    runs = []
    run = body.start()
    until(lambda: runs and runs[0].state.is_paused() and run.state.is_paused())
    run.resume()
    assert run.state.is_running()
    assert runs[0].state.is_paused()
    runs[0].resume()
    assert run.wait(20).state.is_completed()
    assert runs[0].state.is_completed()


def test_a_sync_task_that_async_code_calls_waits_for_approval(until):
    """A sync task waits for its answer, also where its caller is async."""

    @task
    def asks():
        return pause_flow_run(wait_for_input=int)

    @flow
    async def body():
        return asks()

    run = body.start()
    until(lambda: run.state.is_paused())
    run.resume(7)
    assert run.result(20) == 7


def test_a_sync_task_does_not_block_an_event_loop_of_others(kernel_loop):
    """What would keep the kernel's event loop waiting for a person is a clear error."""

    @task
    def asks():
        pause_flow_run()

    @flow(on="main")
    async def body():
        asks()

    with pytest.raises(NobodyToAsk, match="submit the task"):
        body.start().result(20)


def test_code_that_was_given_up_asks_nobody(until):
    """What code asks after its run was given up is a clear error, and the run waits for nobody."""
    begun, go_on, refused = threading.Event(), threading.Event(), []

    @flow
    def body():
        begun.set()
        try:
            go_on.wait(20)
        finally:
            try:
                pause_flow_run()
            except NobodyToAsk as error:
                refused.append(str(error))

    run = body.start()
    begun.wait(20)
    run.cancel(grace=3600)
    run.abandon()
    go_on.set()
    until(lambda: refused)
    assert "has ended" in refused[0]
    assert run.waiting is None
    with pytest.raises(NotPaused):
        run.resume()

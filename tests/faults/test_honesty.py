"""Code that nothing can stop is called what it is."""

import threading

from jupyter_flows import flow


def test_a_run_that_cannot_be_stopped_says_so(until):
    """Blocked in C, it stays CANCELLING with its line; given up, what it still does is dropped."""
    lock = threading.Lock()
    lock.acquire()
    begun, over = threading.Event(), threading.Event()

    @flow(cancel_grace_seconds=0.05, kill_grace_seconds=0.1)
    def stuck():
        begun.set()
        lock.acquire()
        try:
            print("late")
            return "late"
        finally:
            over.set()

    @flow
    def beside():
        return sum(range(1_000))

    run = stuck.start()
    begun.wait(20)
    run.cancel()
    until(lambda: run.stopping.rung == "killed" and run.stopping.stuck is not None)
    assert run.state.type == "CANCELLING"
    assert run.stopping.stuck.text == "lock.acquire()"
    assert run.stopping.stuck.own
    assert "timeout" in run.stopping.hint
    assert [stack.frames[-1].text for stack in run.where()] == ["lock.acquire()"]
    assert beside.start().result(20) == 499_500
    assert not run.state_is_final()
    run.abandon()
    assert (run.state.type, run.state.name) == ("CANCELLED", "Abandoned")
    said, states = len(run.logs), list(run.states)
    lock.release()
    until(lambda: not any("stuck" in thread.name for thread in threading.enumerate()))
    assert len(run.logs) == said
    assert run.states == states
    assert not any(line.message == "late" for line in run.logs)

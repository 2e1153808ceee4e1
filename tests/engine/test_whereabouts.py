"""Where a run is: the stacks of its threads and coroutines, and what holds it."""

import asyncio
import hashlib
import os
import queue
import socket
import subprocess
import threading
import time
from concurrent.futures import Future

import pytest

from jupyter_flows import flow, shield, task
from jupyter_flows.engine import hangs, ports


@pytest.fixture
def release():
    """Set at the end of a test, so that nothing it has started goes on."""
    event = threading.Event()
    yield event
    event.set()


def only(stacks):
    (stack,) = stacks
    return stack


def last_own(stack):
    return [frame for frame in stack.frames if frame.own][-1]


def when_at(until, run, text):
    """Return the run's stacks once one of them is at a line that holds `text`."""
    found = []

    def there():
        found[:] = run.where()
        return any(text in frame.text for stack in found for frame in stack.frames)

    until(there, f"{run!r} is at {text}")
    return found


# -- stacks -----------------------------------------------------------------------------


def test_a_thread_shows_the_users_frames_with_their_source(until, release):
    """The stack of a thread run begins with its body, ends where it is, and holds no engine."""

    def inner():
        release.wait(60)

    @flow(name="outer")
    def body():
        inner()

    run = body.start()
    stack = only(when_at(until, run, "release.wait(60)"))
    assert (stack.name, stack.kind, stack.doing) == ("outer", "thread", "waiting")
    assert [frame.text for frame in stack.frames if frame.own] == ["inner()", "release.wait(60)"]
    assert stack.frames[0].file == __file__
    assert stack.frames[0].function.endswith("body")
    assert stack.frames[0].line == body.fn.__code__.co_firstlineno + 2
    assert not any("jupyter_flows/engine" in frame.file for frame in stack.frames)
    assert stack.hint == hangs.EVENT
    release.set()
    run.wait(20)
    assert run.where() == []


def test_every_thread_and_task_of_a_run_has_its_stack(until, release):
    """Submitted tasks, tasks called in place and threads of the user's are all found, by name."""

    @task
    def submitted():
        release.wait(61)

    @task
    def called():
        threading.Thread(target=lambda: release.wait(62), name="helper").start()
        release.wait(63)

    @flow(name="many")
    def body():
        submitted.submit()
        called()

    run = body.start()
    for text in ("wait(61)", "wait(62)", "wait(63)"):
        stacks = when_at(until, run, text)
    assert [stack.name for stack in stacks] == ["many › called-0", "submitted-0", "helper"]
    assert [last_own(stack).text[-9:] for stack in stacks[:2]] == [".wait(63)", ".wait(61)"]
    release.set()
    run.wait(20)


def test_coroutines_are_shown_through_their_awaits(until):
    """Each task of an async run has a stack from its coroutine to the innermost await."""

    async def deepest(event):
        await event.wait()

    async def deep(event):
        await deepest(event)

    @flow(name="awaiting")
    async def body():
        event = asyncio.Event()
        other = asyncio.create_task(deep(event))
        named = asyncio.create_task(deep(event), name="a name")
        await asyncio.gather(other, named, deep(event))

    run = body.start()
    until(lambda: len(run.where()) == 4)
    stacks = {stack.name: stack for stack in run.where()}
    assert {stack.kind for stack in stacks.values()} == {"coroutine"}
    assert {stack.doing for stack in stacks.values()} == {"waiting"}
    assert last_own(stacks["awaiting"]).text.startswith("await asyncio.gather")
    texts = [frame.text for frame in stacks["a name"].frames if frame.own]
    assert texts == ["await deepest(event)", "await event.wait()"]
    assert "deep" in stacks
    run.cancel()
    run.wait(20)


def test_a_loop_that_is_blocked_shows_what_blocks_it(until, release):
    """A coroutine that blocks its loop is shown as running, down to the call that blocks."""

    async def blocks():
        release.wait(60)

    @flow(name="blocked")
    async def body():
        await blocks()

    run = body.start()
    stack = only(when_at(until, run, "release.wait(60)"))
    assert (stack.kind, stack.doing, stack.hint) == ("coroutine", "running", hangs.EVENT)
    assert [frame.text for frame in stack.frames if frame.own] == [
        "await blocks()",
        "release.wait(60)",
    ]
    release.set()
    run.wait(20)


def test_subflows_are_shown_with_the_run_that_called_them(until, release):
    """A subflow on its caller's thread is part of that stack; on its own it has its own."""

    @flow(name="inner")
    def inner():
        release.wait(60)

    @flow(name="outer")
    def outer():
        beside = inner.start()
        inner()
        beside.wait()

    run = outer.start()
    until(lambda: sorted(stack.name for stack in run.where()) == ["inner", "outer › inner"])
    until(lambda: all(last_own(stack).text == "release.wait(60)" for stack in run.where()))
    release.set()
    run.wait(20)


def test_a_paused_run_says_so(until):
    """Each stack of a run that holds still says that it is paused."""

    @flow(name="held")
    def body():
        while True:
            time.sleep(0.01)

    run = body.start()
    until(lambda: run.state.is_running())
    run.pause()
    until(lambda: run.state.is_paused())
    assert only(run.where()).doing == "paused"
    run.cancel()
    run.wait(20)


def test_a_very_long_stack_is_cut_and_says_so(until, release):
    """Of a deep recursion both ends are shown, and how many calls were left out between."""

    def down(depth):
        if depth:
            down(depth - 1)
        release.wait(60)

    run = flow(lambda: down(500), name="deep").start()
    stack = only(when_at(until, run, "release.wait(60)"))
    assert len(stack.frames) == 101
    assert stack.frames[50].function.endswith("calls left out …")
    release.set()
    run.wait(20)


def test_files_are_named_as_people_know_them(until, release, monkeypatch):
    """The names of files come from the port that a kernel fills."""
    monkeypatch.setattr(ports, "show_file", lambda file: f"Cell of {file[-5:]}")
    run = flow(lambda: release.wait(60), name="named").start()
    stack = only(when_at(until, run, "release.wait(60)"))
    assert stack.frames[0].file == "Cell of ts.py"
    release.set()
    run.wait(20)


# -- what to write instead ----------------------------------------------------------------


def _lock():
    lock = threading.Lock()
    lock.acquire()
    return lambda: lock.acquire(timeout=60), lock.release


def _with_lock():
    lock = threading.Lock()
    lock.acquire()

    def body():
        with lock:
            pass

    return body, lock.release


def _rlock():
    lock, free = threading.RLock(), threading.Event()
    thread = threading.Thread(target=lambda: [lock.acquire(), free.wait(60), lock.release()])
    thread.start()
    return lambda: lock.acquire(), free.set


def _semaphore():
    semaphore = threading.Semaphore(0)
    return lambda: semaphore.acquire(), semaphore.release


def _condition():
    condition, over = threading.Condition(), []

    def body():
        with condition:
            condition.wait_for(lambda: over)

    def end():
        with condition:
            over.append(1)
            condition.notify()

    return body, end


def _get():
    items = queue.Queue()
    return lambda: items.get(), lambda: items.put(1)


def _simple_get():
    items = queue.SimpleQueue()
    return lambda: items.get(), lambda: items.put(1)


def _put():
    items = queue.Queue(1)
    items.put(0)
    return lambda: items.put(1), items.get


def _receive():
    one, other = socket.socketpair()

    def body():
        with one, other:
            one.recv(1)

    return body, lambda: other.send(b"x")


def _accept():
    server = socket.create_server(("127.0.0.1", 0))

    def body():
        with server:
            server.accept()[0].close()

    return body, lambda: socket.create_connection(server.getsockname()).close()


def _command():
    process = subprocess.Popen(["sleep", "60"])
    return lambda: process.wait(), process.kill


def _pipe():
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def body():
        with process.stdout:
            for _ in process.stdout:
                pass

    def end():
        process.stdin.close()
        process.wait(20)

    return body, end


def _join():
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    return lambda: thread.join(), event.set


def _future():
    future = Future()
    return lambda: future.result(), lambda: future.set_result(1)


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (_lock, hangs.LOCK),
        (_with_lock, hangs.LOCK),
        (_rlock, hangs.LOCK),
        (_semaphore, hangs.LOCK),
        (_condition, hangs.CONDITION),
        (_get, hangs.GET),
        (_simple_get, hangs.GET),
        (_put, hangs.PUT),
        (_receive, hangs.NETWORK),
        (_accept, hangs.NETWORK),
        (_command, hangs.COMMAND),
        (_pipe, hangs.READ),
        (_join, hangs.JOIN),
        (_future, hangs.FUTURE),
    ],
)
def test_well_known_ways_to_hang_say_what_to_write_instead(until, make, hint):
    """A thread in a wait that nothing can stop is told by the very call, with the cure."""
    body, end = make()
    run = flow(body, name="hangs").start()
    try:
        until(lambda: [stack.hint for stack in run.where()] == [hint])
        assert only(run.where()).doing == "waiting"
    finally:
        end()
        run.wait(20)


def test_a_busy_loop_is_running_and_has_no_hint(until):
    """Code that moves is not taken for a call of code in C."""
    over = []

    @flow(name="busy")
    def body():
        number = 0
        while not over:
            number = abs(number + 1)

    run = body.start()
    until(lambda: run.where())
    seen = [only(run.where()) for _ in range(20)]
    over.append(1)
    run.wait(20)
    assert {stack.doing for stack in seen} == {"running"}
    assert sum(stack.hint is None for stack in seen) >= 18  # a look may come at a bad time


def test_a_long_call_of_code_in_c_says_which(until):
    """A thread that stays in C is told by the source of the call, with the cure."""

    @flow(name="in-c")
    def body():
        hashlib.pbkdf2_hmac("sha256", b"word", b"salt", 4_000_000)

    run = body.start()
    until(lambda: run.where() and only(run.where()).hint is not None)
    assert only(run.where()).hint.startswith("It is in `hashlib.pbkdf2_hmac(")
    run.wait(60)


def test_what_can_be_stopped_has_no_hint(until):
    """A run that waits in the engine, as in a sleep, waits in a way that can be stopped."""
    run = flow(lambda: time.sleep(60), name="sleeps").start()
    until(lambda: [stack.doing for stack in run.where()] == ["waiting"])
    assert only(run.where()).hint is None
    run.cancel()
    run.wait(20)


def test_a_sleep_in_a_cleanup_and_a_shield_are_told(until, release):
    """What the engine itself leaves to end says so."""

    @flow(name="cleans")
    def cleans():
        try:
            number = 1 + len("x")
        finally:
            time.sleep(number)

    @flow(name="shielded")
    def shielded():
        with shield():
            release.wait(60)

    run = cleans.start()
    until(lambda: [stack.hint for stack in run.where()] == [hangs.SLEEP_IN_CLEANUP])
    run.wait(20)
    run = shielded.start()
    until(lambda: [stack.hint for stack in run.where()] == [hangs.SHIELD])
    release.set()
    run.wait(20)


# -- what holds a run that is to stop -------------------------------------------------------


def test_a_run_that_does_not_stop_shows_the_line_that_holds_it(until):
    """Once it was interrupted in vain, record and log say where it is and what to write."""
    lock = threading.Lock()
    lock.acquire()

    @flow(name="stuck")
    def body():
        lock.acquire()

    run = body.start()
    when_at(until, run, "lock.acquire()")
    run.cancel(grace=0.01)
    until(lambda: run.record().stopping.stuck is not None)
    stopping = run.record().stopping
    assert (stopping.rung, stopping.next) == ("interrupted", "kill")
    assert (stopping.stuck.file, stopping.stuck.text) == (__file__, "lock.acquire()")
    assert stopping.hint == hangs.LOCK
    assert any("lock.acquire()" in line.message and hangs.LOCK in line.message for line in run.logs)
    lock.release()
    run.wait(20)


def test_what_blocks_an_event_loop_is_shown(until):
    """An async run whose loop is blocked shows the blocking call, not an await."""
    lock = threading.Lock()
    lock.acquire()

    async def blocks():
        lock.acquire()

    @flow(name="blocked")
    async def body():
        await blocks()

    run = body.start()
    when_at(until, run, "lock.acquire()")
    run.cancel(grace=0.01)
    until(lambda: run.record().stopping.stuck is not None)
    assert run.record().stopping.stuck.text == "lock.acquire()"
    assert run.record().stopping.hint == hangs.LOCK
    lock.release()
    run.wait(20)


def test_a_task_that_holds_its_run_is_what_is_shown(until):
    """Of a run that waits for a stuck task, the task's line is shown, not the waiting."""
    items = queue.Queue()

    @task
    def takes():
        items.get()

    @flow(name="waits")
    def body():
        takes.submit().result()

    run = body.start()
    when_at(until, run, "items.get()")
    run.cancel(grace=0.01)
    until(lambda: run.record().stopping.stuck is not None)
    assert run.record().stopping.stuck.text == "items.get()"
    assert run.record().stopping.hint == hangs.GET
    items.put(1)
    run.wait(20)


def test_code_in_c_that_holds_a_run_is_told(until):
    """A cancel that waits for a call of code in C says so, with the cure."""

    @flow(name="hashes")
    def body():
        hashlib.pbkdf2_hmac("sha256", b"word", b"salt", 4_000_000)

    run = body.start()
    when_at(until, run, "pbkdf2_hmac")
    run.cancel(grace=0.01)
    until(lambda: run.record().stopping is None or run.record().stopping.hint is not None)
    assert run.record().stopping.hint.startswith("It is in `hashlib.pbkdf2_hmac(")
    run.wait(60)


def test_stacks_are_shown_as_text(until, release):
    """In a notebook or terminal `run.where()` reads like a traceback."""
    run = flow(lambda: release.wait(60), name="shown").start()
    when_at(until, run, "release.wait(60)")
    lines = repr(run.where()).splitlines()
    assert lines[0] == "shown (thread, waiting)"
    assert lines[1].startswith(f"  {__file__}, line ")
    assert lines[2].endswith("release.wait(60)" + ', name="shown").start()')
    assert lines[-1] == f"  {hangs.EVENT}"
    release.set()
    run.wait(20)
    assert repr(run.where()) == "None of its code runs."


def test_code_that_holds_up_all_of_python_is_told(until, release):
    """When C held the interpreter, so that even the ladder came late, the log says so."""

    @flow(name="holds-all")
    def body():
        release.wait(60)
        max(range(5 * 10**7))
        time.sleep(60)

    run = body.start()
    when_at(until, run, "release.wait(60)")
    run.cancel(grace=0.2)
    release.set()
    run.wait(60)
    assert run.state.is_cancelled()
    assert any("All of Python was held up for" in line.message for line in run.logs)


# -- processes ------------------------------------------------------------------------------

needs_processes = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are none on Windows")


@needs_processes
def test_a_process_tells_where_it_is_and_what_it_started(until):
    """The stacks of a run in a process are the process's own, and its children are listed."""

    def body():
        child = subprocess.Popen(["sleep", "61"])
        child.wait()

    run = flow(body, name="there", on="process").start()
    until(lambda: len(run.where()) == 2)
    until(lambda: run.where()[0].hint == hangs.COMMAND)
    thread, child = run.where()
    assert (thread.name, thread.kind, thread.doing) == ("there", "thread", "waiting")
    assert last_own(thread).text == "child.wait()"
    assert (child.kind, child.doing) == ("process", "running")
    assert child.name.startswith("sleep 61 (")
    run.pause()
    until(lambda: run.state.is_paused())
    assert {(stack.kind, stack.doing) for stack in run.where()} == {("process", "suspended")}
    run.kill()
    run.wait(20)
    assert run.where() == []


@needs_processes
def test_a_process_that_does_not_stop_shows_the_line_that_holds_it(until):
    """The kernel is told by the process what holds it, once it was interrupted in vain."""

    def body():
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()

    run = flow(body, name="stuck", on="process").start()
    until(lambda: [stack.hint for stack in run.where()] == [hangs.LOCK])
    run.cancel(grace=0.01)
    until(lambda: run.record().stopping.stuck is not None)
    assert run.record().stopping.stuck.text == "lock.acquire()"
    assert run.record().stopping.hint == hangs.LOCK
    run.kill()
    run.wait(20)
    assert run.state.is_cancelled()


@needs_processes
def test_a_process_that_does_not_answer_is_shown_as_that(until):
    """Of a process whose Python is held up by C, it is said that it does not answer."""

    def body():
        print("begins")
        max(range(10**12))

    run = flow(body, name="silent", on="process").start()
    until(lambda: run.logs)
    stack = only(run.where())
    assert (stack.kind, stack.frames) == ("process", ())
    assert "does not answer" in stack.hint
    run.kill()
    run.wait(20)

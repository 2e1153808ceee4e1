"""A checkpoint never costs a cleanup, wherever a cancel comes.

Each body below is run once to count its checkpoints, and then once for each of
them, cancelled exactly there: its cancel is asked from the run's own thread, the
moment before the checkpoint looks. Every resource that was opened must then have
been closed by a cleanup that ran to its last statement.
"""

import asyncio
import contextlib
import inspect
import logging
import tempfile
import threading
import time
import warnings
from contextlib import asynccontextmanager, contextmanager
from functools import wraps
from pathlib import Path

import pytest

from jupyter_flows import flow, get_run_logger, progress, task
from jupyter_flows.engine.executors import for_background

log = logging.getLogger("tests.cleanup")


class Resources:
    """What a body has opened, and where its run is to be cancelled."""

    def __init__(self, cancel_at):
        self.cancel_at = cancel_at
        self.points = 0
        self.left = []  # opened and not closed
        self.run = None
        self.finished = False

    def point(self, *_):
        """Count a checkpoint that is about to look."""
        self.points += 1
        if self.points == self.cancel_at:
            self.run.cancel()

    def open(self, name):
        self.left.append(name)

    def close(self, name):
        self.left.remove(name)

    def cleanup(self, name):
        """Close with everything in it that is a checkpoint."""
        print("closing", name)
        log.warning("closing %s", name)
        for _ in progress(self.steps(2)):
            print("step")
        self.point()
        time.sleep(0.0001)
        get_run_logger().info("closed %s", name)
        self.close(name)

    def steps(self, n):
        for i in range(n):
            self.point()
            yield i

    @contextmanager
    def managed(self, name):
        print("opening", name)
        self.open(name)
        try:
            print("opened", name)
            yield name
        finally:
            self.cleanup(name)

    @asynccontextmanager
    async def managed_async(self, name):
        print("opening", name)
        await asyncio.sleep(0)
        self.open(name)
        try:
            await asyncio.sleep(0)
            yield name
        finally:
            await self.cleanup_async(name)

    async def cleanup_async(self, name):
        print("closing", name)
        await asyncio.sleep(0)
        for _ in progress(self.steps(2)):
            await asyncio.sleep(0)
        log.warning("closed %s", name)
        self.close(name)


class Guard:
    """A context manager written as a class."""

    def __init__(self, r, name):
        self.r, self.name = r, name

    def __enter__(self):
        print("entering", self.name)
        self.r.open(self.name)
        print("entered", self.name)
        return self

    def __exit__(self, *_):
        print("leaving", self.name)
        self.r.cleanup(self.name)
        return False

    async def __aenter__(self):
        await asyncio.sleep(0)
        return self.__enter__()

    async def __aexit__(self, *_):
        await self.r.cleanup_async(self.name)


def try_finally(r):
    r.open("a")
    try:
        print("in")
        log.warning("logged")
    finally:
        r.cleanup("a")
    print("after")


def nested(r):
    r.open("a")
    try:
        print("outer")
        r.open("b")
        try:
            print("inner")
        finally:
            r.cleanup("b")
        print("between")
    finally:
        r.open("c")
        try:
            print("in the cleanup")
        finally:
            r.cleanup("c")
        r.cleanup("a")


def in_one_line(r):
    r.open("a")
    # fmt: off
    try: print("in"); print("again")  # noqa: E701, E702
    finally: print("out"); r.cleanup("a")  # noqa: E701, E702
    # fmt: on


def in_except(r):
    try:
        print("in")
        raise KeyError
    except KeyError:
        r.open("a")
        print("handling")
        r.cleanup("a")
    else:
        print("never")
    print("after")


def in_except_star(r):
    print("before")
    r.open("a")
    try:
        raise ExceptionGroup("two", [KeyError(), ValueError()])
    except* KeyError:
        print("one")
        r.open("b")
        r.cleanup("b")
    except* ValueError:
        print("other")
        r.cleanup("a")


def try_else_finally(r):
    r.open("a")
    try:
        print("in")
    except KeyError:
        print("never")
    else:
        print("else")
    finally:
        r.cleanup("a")


def named_exceptions(r):
    print("before")
    r.open("a")
    try:
        try:
            raise KeyError("x")
        except KeyError as error:
            print("handling", error)
            raise ValueError from error
        finally:
            r.open("b")
            r.cleanup("b")
    except ValueError as error:
        print(error.__cause__)
        r.cleanup("a")


def with_class(r):
    with Guard(r, "a") as a, Guard(r, "b"):
        print(a.name)
        with Guard(r, "c"):
            log.warning("deep")
    print("after")


def with_contextmanager(r):
    with r.managed("a") as a, r.managed(a + "b"):
        print("in")
    with (
        r.managed("c"),
        contextlib.suppress(KeyError),
        r.managed("d"),
    ):
        print("in")
        raise KeyError


def with_exit_stack(r):
    with contextlib.ExitStack() as stack:
        for name in [stack.enter_context(r.managed(name)) for name in "ab"]:
            print(name)
        stack.enter_context(Guard(r, "c"))
        print("all open")
    stack = contextlib.ExitStack()
    try:
        stack.enter_context(Guard(r, "d"))
        print("open")
    finally:
        stack.close()


def with_expressions(r):
    def opener(name):
        print("before", name)
        r.open(name)
        return contextlib.closing(Closing(name))

    class Closing:
        def __init__(self, name):
            self.name = name

        def close(self):
            r.cleanup(self.name)

    with opener("a") as a, opener(a.name + "b"):
        print("in")


def loops(r):
    for i in range(3):
        r.open(i)
        try:
            print("turn", i)
            if i == 0:
                continue
            if i == 2:
                break
            print("whole")
        finally:
            r.cleanup(i)
    else:
        print("never")
    n = 0
    while n < 2:
        n += 1
        with r.managed(n):
            if n == 1:
                continue
            print("turn")


def returns(r):
    def inside(i):
        r.open(i)
        try:
            if i:
                return print("returning")
            print("not")
        finally:
            r.cleanup(i)

    def through_with():
        with r.managed("w"), Guard(r, "g"):
            for _ in range(2):
                return print("in a loop")

    inside(0)
    inside(1)
    through_with()
    print("after")


def return_in_except(r):
    def handles():
        try:
            print("in")
            raise KeyError
        except KeyError:
            r.open("a")
            r.cleanup("a")
            return print("returning")
        finally:
            print("last")

    handles()
    print("on")


def generators(r):
    def lines():
        r.open("g")
        try:
            for i in range(2):
                print("yielding", i)
                yield i
        finally:
            r.cleanup("g")

    def outer():
        with r.managed("o"):
            yield from lines()

    for i in outer():
        print("got", i)
    with contextlib.closing(lines()) as some:
        print(next(some))


def comprehensions(r):
    def each(i):
        with r.managed(i):
            print("in", i)
        return i

    r.open("c")
    try:
        print([each(i) for i in range(2)], {each(i): print(i) for i in range(1)})
        print(sum(each(i) for i in range(2)))
        print(sorted([2, 1], key=each))
    finally:
        r.cleanup("c")


def decorators(r):
    def guarded(function):
        @wraps(function)
        def wrapper(*args):
            r.open(function.__name__)
            try:
                print("before")
                return function(*args)
            finally:
                r.cleanup(function.__name__)

        return wrapper

    @guarded
    def work(i):
        print("work", i)
        return i

    @r.managed("decorator")
    def managed_work():
        print("work")

    print(work(1))
    managed_work()


def matches(r):
    for command in ("go", ["stop", 3], {"wait": 1}):
        r.open("m")
        try:
            match command:
                case "go":
                    print("going")
                case [name, count] if count:
                    print(name)
                case {"wait": _}:
                    with r.managed("w"):
                        print("waiting")
        finally:
            r.cleanup("m")


def class_bodies(r):
    r.open("c")
    try:

        class Made:
            print("in a class body")
            with r.managed("k"):
                value = 3
                print(value)

        print(Made.value)
    finally:
        r.cleanup("c")


def locks(r):
    lock = threading.Lock()
    lock.acquire()
    try:
        print("held")
    finally:
        print("releasing")
        lock.release()
    with lock:
        print("held again")
    condition = threading.Condition()
    with condition:
        print("in")
        condition.wait(0.001)
        print("woken")
    if not lock.acquire(timeout=1):
        raise AssertionError("a cancel left the lock held")
    lock.release()


def files(r):
    with tempfile.TemporaryDirectory() as folder:
        r.open(folder)
        try:
            path = Path(folder) / "x"
            with path.open("w") as file:
                print("in the file", file=file)
                print("writing")
            with open(path) as file, tempfile.TemporaryFile() as other:
                print(file.read())
                other.write(b"x")
        finally:
            print("before")
            r.close(folder)
        print("done")
    assert not Path(folder).exists()


def reporting(r):
    r.open("p")
    try:
        for i in progress(r.steps(3), total=3):
            with r.managed(i):
                for _ in progress(r.steps(2), description="inner"):
                    warnings.warn("mind", stacklevel=1)
                    print("deep")
    finally:
        r.cleanup("p")


def tasks(r):
    @task
    def step(i):
        with r.managed(("t", i)):
            print("in a task", i)
        return i

    r.open("t")
    try:
        step(1)
        with r.managed("w"):
            step(2)
            print("after")
    finally:
        r.cleanup("t")


def subflows(r):
    @flow(log_prints=True)
    def inner(i):
        with r.managed(("s", i)):
            print("in a subflow", i)

    r.open("t")
    try:
        inner(1)
        print("between")
    finally:
        r.cleanup("t")


def cleanup_with_tasks(r):
    @task
    def step(i):
        print("in a task", i)
        with r.managed(i):
            print("at work")
        return i

    r.open("t")
    try:
        print("in")
    finally:
        print("closing")
        assert step(1) == 1
        r.close("t")


def swallowed(r):
    for i in range(3):
        r.open(i)
        try:
            print("in", i)
        except BaseException:
            print("swallowing")
        finally:
            r.cleanup(i)
    print("after")


def deleted(r):
    class Held:
        def __init__(self):
            r.open("d")

        def __del__(self):
            r.cleanup("d")

    held = Held()
    print("held")
    del held
    print("gone")


async def async_try(r):
    r.open("a")
    try:
        print("in")
        await asyncio.sleep(0)
        log.warning("on")
    finally:
        await r.cleanup_async("a")
    print("after")


async def async_nested(r):
    r.open("a")
    try:
        await asyncio.sleep(0)
        r.open("b")
        try:
            print("inner")
            await asyncio.sleep(0)
        except KeyError:
            pass
        finally:
            await r.cleanup_async("b")
        for i in progress(r.steps(2)):
            print(i)
            await asyncio.sleep(0)
    finally:
        await r.cleanup_async("a")


async def async_with(r):
    async with r.managed_async("a"), Guard(r, "b"):
        print("in")
        with r.managed("c"):
            await asyncio.sleep(0)
            print("deep")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(r.managed_async("d"))
        print("in")
        await asyncio.sleep(0)


async def async_generators(r):
    async def rows():
        r.open("g")
        try:
            for i in range(2):
                print("yielding")
                await asyncio.sleep(0)
                yield i
        finally:
            await r.cleanup_async("g")

    async with contextlib.aclosing(rows()) as all_rows:
        async for row in all_rows:
            print("got", row)
            await asyncio.sleep(0)
    print([row async for row in all_rows])


async def async_timeouts(r):
    async with asyncio.timeout(30):
        r.open("t")
        try:
            print("in")
            await asyncio.sleep(0)
        finally:
            await r.cleanup_async("t")
    print("after")


async def async_gathered(r):
    async def branch(i):
        async with r.managed_async(i):
            print("branch", i)
            await asyncio.sleep(0)

    await asyncio.gather(branch(1), branch(2))
    async with asyncio.TaskGroup() as group:
        group.create_task(branch(3))
        group.create_task(branch(4))
        print("grouped")
    print("after")


async def async_tasks(r):
    @task
    async def step(i):
        async with r.managed_async(i):
            print("in a task", i)
            await asyncio.sleep(0)

    @flow(log_prints=True)
    async def inner(i):
        await step(i)
        print("in a subflow")

    await step(1)
    await asyncio.gather(step(2), step(3), inner(4))
    print("after")


async def sync_in_async(r):
    def work():
        with r.managed("s"):
            print("sync")

    work()
    await asyncio.sleep(0)
    await asyncio.to_thread(print, "in a thread")
    print("after")


SYNC = [
    try_finally,
    nested,
    in_one_line,
    in_except,
    in_except_star,
    try_else_finally,
    named_exceptions,
    with_class,
    with_contextmanager,
    with_exit_stack,
    with_expressions,
    loops,
    returns,
    return_in_except,
    generators,
    comprehensions,
    decorators,
    matches,
    class_bodies,
    locks,
    files,
    reporting,
    tasks,
    subflows,
    cleanup_with_tasks,
    swallowed,
    deleted,
]
ASYNC = [
    async_try,
    async_nested,
    async_with,
    async_generators,
    async_timeouts,
    async_gathered,
    async_tasks,
    sync_in_async,
]


def run_body(body, cancel_at):
    """Run `body`, cancelled at its checkpoint of this number, and return what became of it."""
    resources = Resources(cancel_at)

    def calls():
        body(resources)
        resources.finished = True

    async def awaits():
        await body(resources)
        resources.finished = True

    tested = flow(awaits if inspect.iscoroutinefunction(body) else calls, name=body.__name__)
    run = tested.make_run(for_background(None, is_async=tested.isasync))
    run.log.echo = resources.point
    resources.run = run
    tested.launch(run)
    run.wait(60)
    return run, resources


@pytest.mark.filterwarnings("ignore:mind")
@pytest.mark.parametrize("body", SYNC + ASYNC, ids=lambda body: body.__name__)
def test_a_cancel_at_any_checkpoint_leaves_every_cleanup_whole(body):
    """Cancelled at each of its checkpoints in turn, a body closes all that it has opened."""
    run, resources = run_body(body, 0)
    assert run.state.is_completed(), run.record().error
    assert resources.left == []
    assert resources.points > 3
    delivered = 0
    for at in range(1, resources.points + 1):
        run, cancelled = run_body(body, at)
        where = f"cancelled at {at} of {resources.points}: {[line.message for line in run.logs]}"
        assert cancelled.left == [], where
        assert run.state.is_final(), where
        stopped = run.delivered or not cancelled.finished
        assert run.state.type == ("CANCELLED" if stopped else "COMPLETED"), (where, run.state)
        delivered += stopped
    assert delivered

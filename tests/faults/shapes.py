"""Shapes of code that hold something and clean it up.

Each takes a ledger, on which it opens and closes, and ends by itself: what was
opened must be closed, wherever the code is stopped. `SHAPES` are those for which
that is promised, together with those of the checkpoints' own test; `HOPELESS`
those for which it cannot be.
"""

import asyncio
import io
import logging
import queue
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import wraps
from pathlib import Path

from tests.engine.test_cleanup import ASYNC, SYNC

log = logging.getLogger("tests.shapes")
log.propagate = False
handler = logging.StreamHandler(io.StringIO())
log.addHandler(handler)


class Ledger:
    """What is open."""

    def __init__(self):
        self.left = []
        self.run = None

    def open(self, name):
        self.left.append(name)

    def close(self, name):
        self.left.remove(name)

    def point(self, *_):
        """Nothing here, a checkpoint elsewhere."""

    def steps(self, n):
        yield from range(n)

    def cleanup(self, name):
        total = 0
        for i in range(3):
            total += i
        self.close(name)

    @contextmanager
    def managed(self, name):
        self.open(name)
        try:
            yield name
        finally:
            self.cleanup(name)


class Guard:
    def __init__(self, r, name):
        self.r, self.name = r, name

    def __enter__(self):
        self.r.open(self.name)
        return self

    def __exit__(self, *_):
        total = 0
        for i in range(3):
            total += i
        self.r.close(self.name)
        return False


def one_line_loop(r):
    r.open("a")
    try:
        for i in range(200): x = i  # noqa: E701, F841  # fmt: skip
    finally:
        r.cleanup("a")


def one_line_while(r):
    n = [0] * 200
    r.open("a")
    try:
        while n: n.pop()  # noqa: E701  # fmt: skip
    finally:
        r.cleanup("a")


def loop_of_headers(r):
    lock = threading.Lock()
    r.open("a")
    try:
        for _ in range(30):
            with lock:
                pass
    finally:
        r.cleanup("a")
    assert not lock.locked()


def nested_everything(r):
    with r.managed("a"), Guard(r, "b"):
        r.open("c")
        try:
            with Guard(r, "d"):
                for i in range(5):
                    with r.managed(f"e{i}"):
                        x = i * i
                    r.point(x)
        finally:
            r.cleanup("c")


def lock_and_try(r):
    lock = threading.Lock()
    for _ in range(10):
        lock.acquire()
        try:
            r.point()
            x = sum(range(50))
            r.point(x)
        finally:
            lock.release()
    assert not lock.locked()


def with_lock(r):
    lock, other = threading.Lock(), threading.RLock()
    for _ in range(10):
        with lock, other:
            r.point()
    assert not lock.locked()


def generator_finally(r):
    def numbers():
        r.open("g")
        try:
            for i in range(5):
                yield i * 1
        finally:
            r.cleanup("g")

    total = 0
    for n in numbers():
        total += n
    for n in numbers():
        if n == 2:
            break
    assert total


def generator_pipeline(r):
    def source():
        with r.managed("source"):
            yield from range(10)

    def doubled(items):
        with Guard(r, "doubled"):
            for item in items:
                yield item * 2

    with closing(source()) as items, closing(doubled(items)) as twice:
        total = 0
        for each in twice:
            total += each
    assert total == 90


def exit_stack_in_comprehension(r):
    with ExitStack() as stack:
        names = [stack.enter_context(r.managed(str(i))) for i in range(8)]
        assert len(names) == 8


def exit_stack_callbacks(r):
    with ExitStack() as stack:
        for i in range(8):
            stack.enter_context(Guard(r, i))
        stack.callback(r.point)
        total = 0
        for i in range(5):
            total += i


def recursion(r):
    def down(n):
        r.open(n)
        try:
            if n:
                down(n - 1)
            total = 0
            for i in range(3):
                total += i
        finally:
            r.cleanup(n)

    down(6)


def except_exception_loop(r):
    for i in range(20):
        r.open(i)
        try:
            if i % 3 == 0:
                raise ValueError(i)
            x = i
            r.point(x)
        except Exception:
            r.point()
        finally:
            r.cleanup(i)


def bare_except_loop(r):
    for i in range(20):
        try:
            r.point()
            x = i
            r.point(x)
        except:  # noqa: E722
            continue


def suppressed(r):
    for i in range(10):
        with suppress(BaseException), Guard(r, i):
            x = 1
            r.point(x)


def sorted_by_callback(r):
    def key(n):
        with Guard(r, "key"):
            x = n * 7 % 11
            return x

    with r.managed("sorting"):
        sorted(range(15), key=key)


def substituted(r):
    def upper(found):
        r.open("match")
        try:
            return found.group().upper()
        finally:
            r.cleanup("match")

    re.sub("[a-z]", upper, "some letters")


def mapped(r):
    def each(n):
        with Guard(r, "each"):
            return n + 1

    assert sum(map(each, range(10))) == 55
    assert max(range(5), key=each) == 4


def decorated_method(r):
    def guarded(method):
        @wraps(method)
        def guards(self, *args):
            r.open("decorator")
            try:
                return method(self, *args)
            finally:
                r.cleanup("decorator")

        return guards

    class Thing:
        @guarded
        def work(self, n):
            total = 0
            for i in range(n):
                total += i
            return total

        @property
        @guarded
        def size(self):
            with r.managed("size"):
                return 3

    thing = Thing()
    for n in range(5):
        thing.work(n)
        r.point(thing.size)


def class_body(r):
    with r.managed("around"):

        class Table:
            total = 0
            for i in range(5):
                total += i

            def rows(self):
                return self.total

        assert Table().rows() == 10


def matching(r):
    for value in (1, [1, 2], {"a": 1}, "text"):
        match value:
            case int():
                with Guard(r, "int"):
                    x = value
            case [first, *_]:
                r.open("list")
                try:
                    x = first
                finally:
                    r.cleanup("list")
            case {"a": found}:
                with r.managed("dict"):
                    x = found
            case _:
                x = value
        r.point(x)


def queues(r):
    q = queue.Queue()
    for i in range(5):
        q.put(i)
        r.point()
    while not q.empty():
        item = q.get()
        r.point(item)
        q.task_done()
    assert not q.mutex.locked()
    q.put_nowait(1)


def conditions(r):
    condition = threading.Condition()
    for _ in range(5):
        with condition:
            condition.wait(0.0001)
            r.point()
    assert condition.acquire(timeout=5)
    try:
        r.point()
    finally:
        condition.release()


def thread_pool(r):
    def work(n):
        with r.managed(n):
            return n

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work, n) for n in range(4)]
        total = 0
        for future in futures:
            total += future.result(20)
    assert total == 6


def popen(r):
    with subprocess.Popen(["true"]) as process:
        r.point(process)
        process.wait(20)


def temporary_directory(r):
    with tempfile.TemporaryDirectory() as folder:
        r.open(folder)
        try:
            Path(folder, "file").write_text("text")
            r.point()
        finally:
            r.cleanup(folder)
    assert not Path(folder).exists()


def logging_handlers(r):
    for i in range(5):
        log.warning("line %d", i)
        with r.managed(i):
            log.info("inside")
    assert handler.lock.acquire(timeout=5)
    try:
        r.point()
    finally:
        handler.lock.release()


def file_being_written(r):
    with tempfile.NamedTemporaryFile("w+") as file:
        r.open(file)
        try:
            for i in range(20):
                file.write(f"line {i}\n")
            file.flush()
        finally:
            r.cleanup(file)


_WITHOUT_SOURCE = """
def work(r):
    r.open("exec")
    try:
        total = 0
        for i in range(10):
            total += i
            with r.managed(i):
                total -= 1
    finally:
        r.cleanup("exec")
work(r)
"""


def without_source(r):
    exec(compile(_WITHOUT_SOURCE, "<nowhere>", "exec"), {"r": r})


def flow_cell(r):
    """The body of a cell, in its own file and namespace."""
    from IPython.core.interactiveshell import InteractiveShell

    from jupyter_flows.kernel.cells import CellBody

    shell = InteractiveShell.instance()
    shell.user_ns["r"] = r
    cell = (
        "r.open('cell')\n"
        "try:\n"
        "    total = 0\n"
        "    for i in range(5):\n"
        "        total += i\n"
        "        with r.managed(i): x = i\n"
        "finally:\n"
        "    r.cleanup('cell')\n"
    )
    CellBody(shell, cell, name="cell").call()


def imports(r):
    """A package of pure Python is imported anew each time; half of it must never stay."""
    names = [name for name in sys.modules if name.split(".")[0] in ("wsgiref", "xmlrpc")]
    for name in names:
        del sys.modules[name]
    import wsgiref.simple_server
    import xmlrpc.client

    assert xmlrpc.client.ServerProxy
    assert wsgiref.simple_server.WSGIServer


async def async_computing(r):
    """An event loop that is blocked by computing."""
    async with asyncio.timeout(60):
        r.open("loop")
        try:
            total = 0
            for i in range(50):
                total += i
            await asyncio.sleep(0)
            for _ in range(3):
                with r.managed("inner"):
                    for i in range(10):
                        total += i
                await asyncio.sleep(0)
        finally:
            r.cleanup("loop")


OWN = [
    one_line_loop,
    one_line_while,
    loop_of_headers,
    nested_everything,
    lock_and_try,
    with_lock,
    generator_finally,
    generator_pipeline,
    exit_stack_in_comprehension,
    exit_stack_callbacks,
    recursion,
    except_exception_loop,
    bare_except_loop,
    suppressed,
    sorted_by_callback,
    substituted,
    mapped,
    decorated_method,
    class_body,
    matching,
    queues,
    conditions,
    thread_pool,
    popen,
    temporary_directory,
    logging_handlers,
    file_being_written,
    without_source,
    flow_cell,
    imports,
    async_computing,
]
_HANDLERS_ALONE = {"in_except_star", "named_exceptions"}  # they clean up after one error only
FROM_CHECKPOINTS = [each for each in (*SYNC, *ASYNC) if each.__name__ not in _HANDLERS_ALONE]


def statement_between(r):
    """Nothing says that the `try` belongs to what was acquired before."""
    lock = threading.Lock()
    for _ in range(50):
        lock.acquire()
        x = 1
        try:
            r.point(x)
        finally:
            lock.release()


def replaced_by_c(r):
    """SQLite makes an error of its own of whatever a function raises."""
    with closing(sqlite3.connect(":memory:")) as connection:

        def twice(n):
            total = 0
            for _ in range(5):
                total += n
            return total

        connection.create_function("twice", 1, twice)
        for n in range(20):
            connection.execute("SELECT twice(?)", (n,)).fetchone()


HOPELESS = [statement_between, replaced_by_c]

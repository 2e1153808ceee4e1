"""Which lines of code are safe to be stopped at: a table of shapes of code."""

import ast
import dis
import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest

from jupyter_flows.engine import safe_lines
from jupyter_flows.engine.safe_lines import is_safe, unsafe_offsets

# In each shape a call of `here` stands at a place that is to be judged: `here(S)`
# where raising is safe, `here(U)` where it is not. The code is executed, and every
# call that is reached says what was found.
SHAPES = {
    "straight": "here(S)",
    "try and finally": """
        try:
            here(S)
        finally:
            here(U)
        here(S)
        """,
    "finally after an exception": """
        def f():
            try:
                raise KeyError
            finally:
                here(U)
        try:
            f()
        except KeyError:
            here(U)
        here(S)
        """,
    "except and else": """
        for error in (KeyError, None):
            try:
                if error:
                    raise error
            except KeyError:
                here(U)
            else:
                here(S)
        """,
    "except with a name": """
        try:
            raise KeyError
        except (ValueError, KeyError) as error:
            here(U)
            if error:
                here(U)
        here(S)
        """,
    "except star": """
        try:
            raise ExceptionGroup("x", [KeyError()])
        except* KeyError:
            here(U)
        here(S)
        """,
    "with": """
        with manager(here(U)) as value:
            here(S)
        here(S)
        """,
    "with several": """
        with manager(here(U)), manager(here(U)):
            here(S)
        with (
            manager(here(U)),
            manager(here(U)),
        ):
            here(S)
        """,
    "enter and exit": """
        class M:
            def __enter__(self): here(U)
            def __exit__(self, *_): here(U)
        with M():
            here(S)
        """,
    "a function called on the header": """
        def f():
            here(U)
            return manager()
        with f():
            here(S)
        """,
    "a function called in a finally": """
        def f():
            here(U)
        try:
            pass
            here(S)
        finally:
            f()
        """,
    "try in a finally": """
        try:
            here(S)
        finally:
            try:
                here(U)
            finally:
                here(U)
        """,
    "try in a with in a try": """
        try:
            with manager():
                try:
                    here(S)
                finally:
                    here(U)
                here(S)
            here(S)
        finally:
            here(U)
        """,
    "return, break and continue": """
        def f(n):
            for i in range(3):
                try:
                    here(S)
                    if n == i == 0: continue
                    if n == i == 1: break
                    if n == i == 2: return
                finally:
                    here(U)
            here(S)
        for n in range(3):
            f(n)
        """,
    "return in a finally": """
        def f():
            try:
                here(S)
            finally:
                here(U)
                return
        with warnings_ignored:
            f()
        """,
    "loop in a with": """
        for i in range(2):
            with manager():
                here(S)
                if i:
                    continue
                here(S)
            here(S)
        while True:
            with manager():
                here(S)
                break
        """,
    "generator": """
        def g():
            try:
                yield here(S)
                yield here(S)
            finally:
                here(U)
        for _ in g():
            here(S)
        """,
    "yield from": """
        def g():
            with manager():
                yield here(S)
            here(S)
        def h():
            try:
                yield from g()
            finally:
                here(U)
        list(h())
        """,
    "comprehension": """
        [here(S) for _ in range(2)]
        {here(S): here(S) for _ in range(2)}
        list(here(S) for _ in range(2))
        try:
            raise KeyError
        except KeyError:
            [here(U) for _ in range(1)]
        """,
    "lambda in a finally": """
        f = lambda: here(U)
        try:
            here(S)
        finally:
            f()
        """,
    "match": """
        match [1, 2]:
            case [a, b] if here(S) is None:
                here(S)
        try:
            here(S)
        finally:
            match 1:
                case 1:
                    here(U)
        """,
    "class body": """
        class C:
            here(S)
            with manager():
                here(S)
            try:
                here(S)
            finally:
                here(U)
        """,
    "delete": """
        class D:
            def __del__(self):
                here(U)
        d = D()
        del d
        """,
    "on one line": """
        try: here(S); here(S)
        finally: here(U); here(U)
        """,
    "assert and unpacking": """
        try:
            assert here(S) is None
            a, *b = here(S), here(S)
            assert not b
        except AssertionError:
            here(U)
        """,
}


class Manager:
    def __init__(self, _=None):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


def verdicts(source, filename="<cell>"):
    """Execute a shape; return what was expected, what was found and the line of each call."""
    found = []

    def here(expected):
        frame = sys._getframe(1)
        found.append((expected, is_safe(frame, {enter.__code__}), frame.f_lineno))

    def enter(code, names):
        exec(code, names)

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of a return in a finally
        code = compile(textwrap.dedent(source), filename, "exec")
    names = {
        "here": here,
        "S": True,
        "U": False,
        "manager": Manager,
        "warnings_ignored": Manager(),
        "__name__": "__main__",
    }
    enter(code, names)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_the_table_of_shapes(shape):
    """For each shape of code the lines that are safe are found, from code without its source."""
    found = verdicts(SHAPES[shape])
    assert found
    assert [line for expected, safe, line in found if safe != expected] == []
    calls = ast.walk(ast.parse(textwrap.dedent(SHAPES[shape])))
    written = {
        c.lineno for c in calls if isinstance(c, ast.Call) and ast.unparse(c).startswith("here")
    }
    assert written == {line for _, _, line in found}  # every one of them was reached


def test_code_without_ranges_is_judged_on_the_safe_side():
    """Where Python keeps no columns (`-X no_debug_ranges`) nothing unsafe is taken for safe."""
    here = os.path.abspath(__file__)
    program = textwrap.dedent(
        f"""
        import runpy
        tests = runpy.run_path({here!r})
        for name, source in tests["SHAPES"].items():
            for expected, safe, line in tests["verdicts"](source):
                assert expected or not safe, (name, line)
        plain = tests["verdicts"](tests["SHAPES"]["try in a with in a try"])
        assert all(expected == safe for expected, safe, line in plain)
        """
    )
    command = [sys.executable, "-X", "no_debug_ranges", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_frames_beyond_the_entry_do_not_count():
    """What lies above the run's entry, a plain cell's `finally`, is not the run's to judge."""

    def enter():
        return is_safe(sys._getframe(), {enter.__code__})

    def body():
        return is_safe(sys._getframe(), {run.__code__})

    def run():
        return body()

    try:
        raise KeyError
    except KeyError:
        assert enter()
        assert run()
        assert not body()


def test_the_standard_library_is_never_stopped_inside():
    """With one of the standard library's frames on top nothing is safe; below the top it may be."""

    def by_the_library(frame=None):
        return is_safe(frame or sys._getframe(), {run.__code__})

    def run():
        with ThreadPoolExecutor(1) as pool:
            results.append(sorted([1], key=lambda _: by_the_library()))
            condition = threading.Condition()
            inner = []
            with condition:
                condition.wait_for(lambda: inner.append(sys._getframe(1)) or True)
            results.append(inner[0].f_code.co_filename)
            return by_the_library(inner[0]), pool

    results = []
    assert run()[0] is False
    assert "threading" in results[1]


def test_packages_are_left_alone_for_a_while():
    """An installed package's frame on top is safe only after the grace."""
    code = compile("def call(f):\n    return f()\n", pytest.__file__, "exec")
    names = {"__name__": "package"}
    exec(code, names)

    def look(packages):
        return is_safe(sys._getframe(1), (), packages=packages)

    assert names["call"](lambda: look(True))  # the lambda of this file is on top
    frames = []
    names["call"](lambda: frames.append(sys._getframe(1)))
    assert not is_safe(frames[0], (), packages=False)


def test_an_import_is_never_stopped(tmp_path, monkeypatch):
    """While a module is imported nothing is safe: it could not be imported again."""
    (tmp_path / "imported_by_a_test.py").write_text("import builtins\nbuiltins.judged()\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    import builtins

    builtins.judged = lambda: found.append(is_safe(sys._getframe(1), ()))
    try:
        import imported_by_a_test  # noqa: F401
    finally:
        del builtins.judged
        sys.modules.pop("imported_by_a_test", None)
    assert found == [False]


def test_code_without_handlers_costs_nothing():
    """Code that handles no exception has no unsafe place, and is known so without a look."""
    assert unsafe_offsets(compile("x = [i for i in range(3)]", "<x>", "exec")) == frozenset()


def test_every_function_of_the_standard_library_can_be_read():
    """The analysis reads whatever Python compiles: all of some large modules, without an error."""
    import argparse
    import asyncio
    import contextlib
    import tarfile
    import typing

    def codes(code):
        yield code
        for constant in code.co_consts:
            if hasattr(constant, "co_code"):
                yield from codes(constant)

    count = 0
    for module in (argparse, asyncio.base_events, contextlib, tarfile, typing, safe_lines, dis):
        with open(module.__file__) as file:
            whole = compile(file.read(), module.__file__, "exec")
        for code in codes(whole):
            offsets = {instruction.offset for instruction in dis.get_instructions(code)}
            unsafe = unsafe_offsets(code)
            count += 1
            assert not unsafe or unsafe & offsets
    assert count > 500


def test_a_named_tuple_is_made_whole():
    """The code that makes a named tuple is the standard library's, though it has no file there."""
    judged = []

    def look(*given):
        frame = sys._getframe(1)
        assert frame.f_code.co_filename == "<string>"
        judged.append(is_safe(frame, entries=()))
        return tuple.__new__(*given) if given else None

    pair = namedtuple("Pair", "a b")
    pair.__new__.__globals__["_tuple_new"] = look
    assert pair(1, 2) == (1, 2)
    exec("def of_a_user(): look()\nof_a_user()\nlook()", {"__name__": "__main__", "look": look})
    assert judged == [False, True, True]


def test_what_the_garbage_collector_calls_is_left_alone():
    """A function in `gc.callbacks` is no place to stop while it is one: what it raises is lost."""
    judged = []

    def called(phase, info):
        judged.append(is_safe(sys._getframe(), ()))

    gc.callbacks.append(called)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(called)
    assert judged
    assert not any(judged)
    judged.clear()
    called("start", {})
    assert judged == [True]

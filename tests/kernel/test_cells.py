"""Cells compiled and called, in a real IPython and in real kernels."""

import asyncio
import inspect
import re
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from ipykernel.compiler import XCachingCompiler, get_file_name
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from jupyter_flows.kernel.cells import CellBody

Cell = Callable[[str], None]
FlowCell = Callable[..., CellBody]
OnAThread = Callable[[Callable[[], Any]], Any]


def body_of(shell: InteractiveShell, source: str, **options: Any) -> CellBody:
    return CellBody(shell, textwrap.dedent(source), name="cell", **options)


# --- the result -------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("x = 20\nx + 1", 21),
        ("21", 21),
        ("'text'", "text"),
        ("x = 21", None),
        ("x = 21\nx;", None),
        ("21 # no semicolon;", 21),
        ("", None),
        ("# nothing", None),
        ("for i in range(3): i", None),
        ("%time 20 + 1", 21),
        ("%%time\nx = 20\nx + 1", 21),
        ("\n\n%%time\n20 + 1", 21),
        ("x = !echo 21\nx[0]", "21"),
    ],
)
def test_result(
    shell: InteractiveShell, on_a_thread: OnAThread, source: str, result: object
) -> None:
    """The last expression is the result, unless IPython would not display it."""
    body = body_of(shell, source)
    assert on_a_thread(body.call) == result
    assert "__flow_result__" not in body.namespace


@pytest.mark.parametrize(
    ("interactivity", "source", "result"),
    [
        ("none", "1", None),
        ("all", "1\n2", 2),
        ("last", "1\n2", 2),
        ("last_expr_or_assign", "x = 1", 1),
        ("last_expr_or_assign", "x: int = 1", 1),
        ("last_expr_or_assign", "x = 1\nx += 1", 2),
        ("last_expr_or_assign", "x = 1;", None),
        ("last_expr_or_assign", "x, y = 1, 2", None),
        ("last_expr_or_assign", "1\n2", 2),
    ],
)
def test_interactivity(
    shell: InteractiveShell, interactivity: str, source: str, result: object
) -> None:
    """IPython's `ast_node_interactivity` decides what counts as the result."""
    shell.ast_node_interactivity = interactivity
    assert body_of(shell, source).call() == result


def test_display_hook_is_not_called(shell: InteractiveShell, cell: Cell) -> None:
    """The result is returned, and neither displayed nor kept in `Out`."""
    cell("1")
    before = dict(shell.user_ns["Out"])
    assert body_of(shell, "2").call() == 2
    assert shell.user_ns["Out"] == before


# --- async ------------------------------------------------------------------


def test_top_level_await(shell: InteractiveShell) -> None:
    """A cell that awaits at its top level is async, and its last expression may await."""
    body = body_of(
        shell,
        """
        import asyncio
        async def double(x):
            await asyncio.sleep(0)
            return 2 * x
        first = await double(1)
        await double(first)
        """,
    )
    assert body.is_async
    assert asyncio.run(body.acall()) == 4
    assert body.bound().keys() == {"asyncio", "double", "first"}
    with pytest.raises(TypeError, match="awaits"):
        body.call()


def test_cell_without_await_may_be_awaited(shell: InteractiveShell) -> None:
    """A cell without a top-level await is not async, and can be called either way."""
    body = body_of(shell, "async def later(): ...\n3")
    assert not body.is_async
    assert asyncio.run(body.acall()) == 3


def test_await_is_a_syntax_error_without_autoawait(shell: InteractiveShell) -> None:
    """`%autoawait off` holds for flow cells too."""
    shell.autoawait = False
    with pytest.raises(SyntaxError):
        body_of(shell, "import asyncio\nawait asyncio.sleep(0)")


def test_async_cells_at_the_same_time(shell: InteractiveShell) -> None:
    """Cells that take turns on one loop each keep their own names, in magics and tasks too."""
    source = """
        import asyncio
        x = "{0}"
        seen = []
        async def look():
            for _ in range(5):
                await asyncio.sleep(0)
                seen.append(get_ipython().user_ns["x"])
        await asyncio.gather(look(), asyncio.create_task(look()))
        %time y = x
        y, set(seen)
        """

    async def both() -> list[Any]:
        bodies = [body_of(shell, source.format(name)) for name in "ab"]
        return await asyncio.gather(*(body.acall() for body in bodies))

    assert asyncio.run(both()) == [("a", {"a"}), ("b", {"b"})]
    assert "x" not in shell.user_ns


# --- what IPython does to a cell --------------------------------------------


def test_syntax_error_at_the_cells_line(shell: InteractiveShell) -> None:
    """A broken cell raises SyntaxError at the line where the notebook shows it."""
    with pytest.raises(SyntaxError) as caught:
        body_of(shell, "x = 1\n\nx = = 2")
    assert caught.value.lineno == 4  # below %%flow
    assert caught.value.text is not None
    assert "x = = 2" in caught.value.text


@pytest.mark.parametrize(
    "source", ["return 1", "x = 1\nnonlocal x", "if 1:\n    x = 1\n  y = 2", "yield"]
)
def test_other_broken_cells(shell: InteractiveShell, source: str) -> None:
    """What only the compiler finds is a SyntaxError before anything runs, too."""
    with pytest.raises(SyntaxError):
        body_of(shell, source)


def test_ast_transformers(shell: InteractiveShell, cell: Cell) -> None:
    """The user's AST transformers see the cell."""
    cell(
        """
import ast
class Double(ast.NodeTransformer):
    def visit_Constant(self, node):
        return ast.copy_location(ast.Constant(node.value * 2), node)
get_ipython().ast_transformers.append(Double())
"""
    )
    assert body_of(shell, "4").call() == 8


def test_input_transformers(shell: InteractiveShell) -> None:
    """The user's input transformers see the cell."""
    shell.input_transformers_post.append(lambda lines: [x.replace("ANSWER", "42") for x in lines])
    assert body_of(shell, "ANSWER").call() == 42


def test_future_imports_of_the_notebook(shell: InteractiveShell, cell: Cell) -> None:
    """A `from __future__` of an earlier cell holds in the cell."""
    cell("from __future__ import annotations")
    body = body_of(shell, "def f(x: nowhere): ...\nf.__annotations__")
    assert body.call() == {"x": "nowhere"}


def test_future_import_below_a_magic(shell: InteractiveShell) -> None:
    """As in IPython, `from __future__` may stand below other lines of the cell."""
    body = body_of(shell, "%time 1\nfrom __future__ import annotations\ndef f(x: nowhere): ...")
    body.call()
    body.publish()
    assert shell.user_ns["f"].__annotations__ == {"x": "nowhere"}


def test_unknown_magic(shell: InteractiveShell, on_a_thread: OnAThread) -> None:
    """A magic that does not exist fails the run with IPython's message."""
    with pytest.raises(UsageError, match="no_such_magic"):
        on_a_thread(body_of(shell, "%no_such_magic").call)


# --- source lines -----------------------------------------------------------


def test_traceback_shows_the_cells_lines(shell: InteractiveShell, on_a_thread: OnAThread) -> None:
    """A traceback names the cell's file and shows its source lines at the cell's numbers."""
    body = body_of(shell, "\ndef fails():\n    return 1 / 0\n\nfails()")
    with pytest.raises(ZeroDivisionError) as caught:
        on_a_thread(body.call)
    frames = [
        frame
        for frame in traceback.extract_tb(caught.value.__traceback__)
        if frame.filename == body.filename
    ]
    assert [(frame.lineno, frame.line) for frame in frames] == [(6, "fails()"), (4, "return 1 / 0")]


def test_magic_line_in_a_traceback(flow_kernel: Any) -> None:
    """In a kernel a traceback through the `%%flow` line shows that line."""
    error = flow_kernel.run("%%foreground\n1 / 0")["error"]
    text = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error["traceback"]))
    assert "----> 1 # %%foreground" in text
    assert "----> 2 1 / 0" in text


def test_getsource(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """`inspect.getsource` finds what the cell defines, while it runs and when it is published."""
    source = 'def f():\n    "Doc."\n    return 1\n'
    body = flow_cell(f"import inspect\n\n{source}\nfound = inspect.getsource(f)")
    assert body.namespace["found"] == source
    body.publish()
    assert inspect.getsource(shell.user_ns["f"]) == source


def test_file_name_is_the_cells(shell: InteractiveShell) -> None:
    """With the whole cell given, the file is the one that the kernel has for that cell."""
    raw = "%%flow --tag x\n1/0"
    shell.compile = XCachingCompiler()
    assert body_of(shell, "1/0", raw_cell=raw).filename == get_file_name(raw)


# --- progress of loops ------------------------------------------------------


class Recorder:
    """A progress hook that notes what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __call__(self, items: Iterable[Any], label: str) -> Iterable[Any]:
        self.calls.append((label, items))
        return items


def test_top_level_loops_report_progress(shell: InteractiveShell) -> None:
    """Each top-level loop's items pass through the hook with the text of its target."""
    hook = Recorder()
    body = body_of(
        shell,
        """
        seen = []
        for epoch in range(2):
            for i, (a, b) in enumerate([(1, 2)]):
                seen.append((epoch, i, a, b))
        if seen:
            for letter in "ab":
                pass
        with open("/dev/null") as f:
            for line in f: pass
        """,
        progress=hook,
    )
    body.call()
    assert [label for label, _ in hook.calls] == ["epoch", *["i, (a, b)"] * 2, "letter", "line"]
    assert hook.calls[0][1] == range(2)
    assert body.namespace["seen"] == [(0, 0, 1, 2), (1, 0, 1, 2)]


def test_other_loops_are_left_alone(shell: InteractiveShell) -> None:
    """Loops in functions, classes and comprehensions, and `async for`, do not use the hook."""
    hook = Recorder()
    body = body_of(
        shell,
        """
        def f():
            for i in range(3): pass
        class A:
            for i in range(3): pass
        async def g():
            for i in range(3):
                yield i
        f()
        numbers = [i for i in range(3)]
        async for i in g(): pass
        while numbers: numbers.pop()
        """,
        progress=hook,
    )
    asyncio.run(body.acall())
    assert hook.calls == []


def test_loops_keep_their_meaning(shell: InteractiveShell) -> None:
    """`break`, `continue` and `else` of a watched loop work, and a raise shows its line."""
    body = body_of(
        shell,
        """
        seen = []
        for i in range(5):
            if i == 1: continue
            if i == 3: break
            seen.append(i)
        else:
            seen.append("never")
        for j in []:
            pass
        else:
            seen.append("else")
        for k in 1 / 0:
            pass
        """,
        progress=Recorder(),
    )
    with pytest.raises(ZeroDivisionError) as caught:
        body.call()
    assert body.namespace["seen"] == [0, 2, "else"]
    assert traceback.extract_tb(caught.value.__traceback__)[-1].line == "for k in 1 / 0:"


def test_hook_is_no_name_of_the_cell(shell: InteractiveShell, flow_cell: FlowCell) -> None:
    """The hook is neither among the cell's names nor published."""
    body = flow_cell("for i in range(3): pass", progress=Recorder())
    assert body.bound() == {"i": 2}
    body.publish()
    assert not [name for name in shell.user_ns if name.startswith("__flow")]


# --- magics and commands ----------------------------------------------------


def test_magics_see_the_cells_names(flow_cell: FlowCell, shell: InteractiveShell) -> None:
    """Commands and magics expand the cell's names, those of a function's frame included."""
    body = flow_cell(
        """
x = "of-the-cell"
braces = !echo {x} {x.upper()}
dollar = !echo $x
def f():
    x = "of-the-function"
    out = !echo {x}
    return out
inner = f()
%env FLOW_TEST_VARIABLE={x}
import os
env = os.environ.pop("FLOW_TEST_VARIABLE")
who = get_ipython().run_line_magic("who_ls", "str")
"""
    )
    names = body.namespace
    assert names["braces"] == ["of-the-cell OF-THE-CELL"]
    assert names["dollar"] == ["of-the-cell"]
    assert names["inner"] == ["of-the-function"]
    assert names["env"] == "of-the-cell"
    assert names["who"] == ["env", "x"]


def test_magics_bind_in_the_cell(flow_cell: FlowCell, shell: InteractiveShell) -> None:
    """What a magic assigns is a name of the cell, and not the notebook's until it is published."""
    body = flow_cell(
        """
%time timed = 1
%timeit -n1 -r1 -q -o 1
measured = %timeit -n1 -r1 -q -o timed
get_ipython().run_cell_magic("time", "", "nested = 2\\nmore = nested + 1")
get_ipython().run_cell_magic("bash", "--out printed", "echo hello")
get_ipython().run_cell_magic("capture", "captured", "print(nested)")
get_ipython().run_cell("by_run_cell = nested")
get_ipython().ex("by_ex = nested")
get_ipython().push({"pushed": 5})
"""
    )
    bound = body.bound()
    assert bound.pop("measured").loops == 1
    assert bound.pop("captured").stdout == "2\n"
    assert bound == {
        "timed": 1,
        "nested": 2,
        "more": 3,
        "printed": "hello\n",
        "by_run_cell": 2,
        "by_ex": 2,
        "pushed": 5,
    }
    assert not bound.keys() & shell.user_ns.keys()
    body.publish()
    assert bound.items() <= shell.user_ns.items()


def test_cell_magic_on_the_first_line(flow_cell: FlowCell, shell: InteractiveShell) -> None:
    """The body of a cell magic below `%%flow` binds the cell's names."""
    shell.user_ns["x"] = 1
    body = flow_cell("%%time\nx = 2\ndef f(): return x\n")
    assert shell.user_ns["x"] == 1
    assert body.bound().keys() == {"x", "f"}
    body.publish()
    shell.user_ns["x"] = 3
    assert shell.user_ns["f"]() == 3


def test_run_magic(flow_cell: FlowCell, shell: InteractiveShell, tmp_path: Any) -> None:
    """`%run` and `%run -i` give their names to the cell."""
    script = tmp_path / "script.py"
    script.write_text("from_script = __name__\n")
    interactive = tmp_path / "interactive.py"
    interactive.write_text("doubled = 2 * x\n")
    body = flow_cell(f"x = 21\n%run {script}\n%run -i {interactive}\n")
    assert body.bound() == {"x": 21, "from_script": "__main__", "doubled": 42}
    assert shell.user_ns.keys().isdisjoint(body.bound())


def test_question_mark_prints(
    flow_cell: FlowCell, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """`x?` in a run prints what it knows about the cell's own name."""
    flow_cell('def documented():\n    "Only this cell has it."\ndocumented?')
    assert "Only this cell has it." in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_command_prints_on_the_runs_thread(
    shell: InteractiveShell, on_a_thread: OnAThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `!cmd` prints is written to `sys.stdout` by the run's own thread, as it comes."""
    written: list[tuple[int, str]] = []

    class Out:
        def write(self, text: str) -> int:
            written.append((threading.get_ident(), text))
            return len(text)

        def flush(self) -> None: ...

    monkeypatch.setattr("sys.stdout", Out())
    body = body_of(shell, "import threading\n!echo one; echo two\nthreading.get_ident()")
    ident = on_a_thread(body.call)
    assert "".join(text for _, text in written).split() == ["one", "two"]
    assert {thread for thread, text in written if text} == {ident}


def test_runs_at_the_same_time_beside_the_notebook(shell: InteractiveShell, cell: Cell) -> None:
    """Runs in threads and the notebook's own cells use magics at once, each with its names."""
    shell.user_ns["x"] = "notebook"
    source = """
x = {0!r}
seen = set()
for i in range(100):
    %time y = x
    seen.add(get_ipython().var_expand("{{x}}", 0))
    seen.add(get_ipython().ev("y"))
seen
"""
    bodies = [body_of(shell, source.format(f"run{n}")) for n in range(4)]
    results: list[Any] = [None] * 4

    def work(n: int) -> None:
        results[n] = bodies[n].call()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        cell("%time y = x\nassert y == get_ipython().var_expand('{x}', 0) == 'notebook'")
    assert results == [{f"run{n}"} for n in range(4)]
    assert shell.user_ns["y"] == "notebook"


# --- real kernels -----------------------------------------------------------

HARNESS = '''
import threading
from IPython import get_ipython
from jupyter_flows.kernel.cells import CellBody, shown_plainly

def flow(line, cell):
    """Run the cell on a thread; `bodies[name]` is its body, `ended[name]` is set at its end."""
    try:
        body = CellBody(get_ipython(), cell, name=line, raw_cell="%%flow " + line + "\\n" + cell)
    except SyntaxError as error:
        raise shown_plainly(get_ipython(), error) from None
    bodies[line], ended[line] = body, threading.Event()
    def work():
        try:
            results[line] = body.call()
            body.publish()
        except BaseException as error:
            results[line] = error
        finally:
            ended[line].set()
    threading.Thread(target=work).start()

def foreground(line, cell):
    raw = get_ipython().get_parent()["content"]["code"]
    CellBody(get_ipython(), cell, name=line, raw_cell=raw).call()

bodies, ended, results = {}, {}, {}
get_ipython().register_magic_function(flow, "cell")
get_ipython().register_magic_function(foreground, "cell")
del flow, foreground
'''


@pytest.fixture(scope="module")
def flow_kernel(kernel: Any) -> Any:
    """A kernel with a small `%%flow` of the test's own."""
    assert kernel.run(HARNESS)["error"] is None
    return kernel


def test_kernel_publishes(flow_kernel: Any) -> None:
    """In a kernel a cell runs while others do, is peeked at, and publishes at its end."""
    flow_kernel.run("import threading; go, begun = threading.Event(), threading.Event()")
    flow_kernel.run("%%flow peek\nloss = 0.5\nbegun.set()\ngo.wait(30)\nloss = 0.25\nloss")
    busy = flow_kernel.run("begun.wait(30); bodies['peek'].namespace['loss'], 'loss' in globals()")
    assert busy["result"] == "(0.5, False)"
    done = flow_kernel.run("go.set(); ended['peek'].wait(30); loss, results['peek']")
    assert done["result"] == "(0.25, 0.25)"


def test_kernel_commands_of_two_runs(flow_kernel: Any) -> None:
    """In a kernel the commands of overlapping runs see their own names, and print in order."""
    for name in ("first", "second"):
        flow_kernel.run(f"%%flow {name}\nx = '{name}'\n!echo $x; sleep 0.2; echo {{x}}\n_exit_code")
    out = flow_kernel.run(
        "[ended[n].wait(30) for n in ('first', 'second')]; results['first'], results['second']"
    )
    assert out["result"] == "(0, 0)"


def test_kernel_command_writes_on_its_thread(flow_kernel: Any) -> None:
    """In a kernel `!cmd` of a run goes through `sys.stdout.write` on the run's thread."""
    out = flow_kernel.run(
        """
import sys
class Out:
    def __init__(self): self.lines = []
    def write(self, text): self.lines.append((threading.get_ident(), text)); return len(text)
    def flush(self): ...
console, sys.stdout = sys.stdout, Out()
get_ipython().run_cell_magic("flow", "command", "me = threading.get_ident()\\n!echo hello\\n")
ended["command"].wait(30)
out, sys.stdout = sys.stdout, console
me = bodies["command"].namespace["me"]
"".join(t for _, t in out.lines).split(), {i for i, t in out.lines if t} == {me}
"""
    )
    assert out["error"] is None
    assert out["result"] == "(['hello'], True)"


def test_kernel_syntax_error(flow_kernel: Any) -> None:
    """In a kernel a broken cell shows what a plain cell would, at the cell's line."""
    broken = "x = 1\n\nx = = 2"
    plain = flow_kernel.run("\n" + "#\n" + broken)["error"]
    shown = flow_kernel.run("%%flow broken\n" + broken)["error"]
    assert shown["ename"] == plain["ename"] == "SyntaxError"
    assert shown["evalue"].partition(" (")[0] == plain["evalue"].partition(" (")[0]
    assert "line 4" in "".join(shown["traceback"])
    assert "x = = 2" in "".join(shown["traceback"])
    assert "cells.py" not in "".join(shown["traceback"])
    assert flow_kernel.run("'broken' in bodies")["result"] == "False"


def test_kernel_traceback(flow_kernel: Any) -> None:
    """In a kernel IPython shows a run's exception with the lines of the notebook's cell."""
    flow_kernel.run("%%flow fails\ndef f():\n    return 1 / 0\nfor i in range(2):\n    f()")
    error = flow_kernel.run("ended['fails'].wait(30)\nraise results['fails']")["error"]
    text = "".join(error["traceback"])
    assert error["ename"] == "ZeroDivisionError"
    assert "line 5" in text
    assert "line 3" in text
    assert "Cell" in text


def test_kernel_question_mark(flow_kernel: Any) -> None:
    """In a kernel `x?` of a run opens no pager below another cell."""
    flow_kernel.run('%%flow ask\ndef known():\n    "Known."\nknown?\n')
    assert flow_kernel.run("ended['ask'].wait(30)")["payload"] == []
    assert flow_kernel.run("len?")["payload"] != []


def test_kernel_inline_figures(flow_kernel: Any) -> None:
    """In a kernel `%matplotlib inline` works in a run."""
    flow_kernel.run(
        "%%flow inline\n%matplotlib inline\nimport matplotlib\nmatplotlib.get_backend()"
    )
    out = flow_kernel.run("ended['inline'].wait(30); results['inline']")
    assert "inline" in out["result"]

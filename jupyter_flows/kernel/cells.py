"""Turns the text of a `%%flow` cell into something that can be called.

The text is read as IPython reads a cell: its input transformations (``!cmd``,
``%magic``, ``x?``, a cell magic on the first line), the user's AST transformers,
the notebook's ``from __future__`` imports, top-level ``await``. It is compiled
as one code object under the file name that IPython gives the cell, with the
cell's own line numbers, so tracebacks, `inspect.getsource` and breakpoints fit.

Two changes are made, neither of which moves a line:

- the value of the last expression is kept as the result, by the rules that
  decide in IPython what is displayed (`ast_node_interactivity`, a ``;`` at the
  end); the display hook is not called;
- if a `progress` hook is given, a top-level ``for x in items:`` runs over
  ``progress(items, "x")``. "Top level" is outside functions, classes and
  comprehensions; loops within loops count, ``async for`` does not, nor does the
  body of a cell magic such as ``%%time``.

Names are the business of `namespaces`. Where a function of an earlier cell
misses a name that is still the cell's own, the NameError says so.

A cell that cannot be compiled raises SyntaxError. IPython shows an exception of
a magic with the magic's own frames; a magic that wants it to look as in a plain
cell raises `shown_plainly` of it instead.

Threads: create, and `begin`, on the main thread, or wherever the notebook's code
runs; `call` or `acall` once for each `begin`, anywhere; the rest from anywhere.
Several bodies run at the same time without seeing each other.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from inspect import CO_COROUTINE
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell

from jupyter_flows.kernel.namespaces import PROGRESS, RESULT, CellNamespace
from jupyter_flows.kernel.routing import Names

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


class CellBody:
    """A cell's code and the namespace it works in.

    Args:
        shell: the notebook's IPython.
        source: the text below the `%%flow` line.
        name: the flow's name.
        cell_id: the front end's id of the cell, if it has one.
        raw_cell: the whole cell as the front end sent it; with it the file name
            is the one that IPython and the debugger have for the cell.
        first_line: the line of the cell at which `source` begins.
        progress: what a top-level loop's items are passed through, with the text
            of the loop's target; None leaves the loops alone.

    Raises:
        SyntaxError: the cell cannot be compiled; the line is the cell's.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        source: str,
        *,
        name: str,
        cell_id: str | None = None,
        raw_cell: str | None = None,
        first_line: int = 2,
        progress: Progress | None = None,
    ) -> None:
        self.name = name
        self.cell_id = cell_id
        self._shell = shell
        self._progress = progress
        if raw_cell is None:
            raw_cell = f"%%flow {name}" + "\n" * (first_line - 1) + source
        text = _transformed(shell, source, raw_cell.splitlines()[: first_line - 1])
        self.filename: str = shell.compile.cache(text, _number(shell), raw_code=raw_cell)
        parsed = shell.compile.ast_parse(text, filename=self.filename)
        tree: ast.Module = shell.transform_ast(parsed)  # type: ignore[no-untyped-call]
        self._certain = frozenset(_surely_bound(tree))
        _future_first(tree)
        _keep_result(tree, text, shell.ast_node_interactivity)
        if progress is not None:
            tree = _TopLevelLoops(text).visit(tree)
        ast.fix_missing_locations(tree)
        with shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if shell.autoawait else 0):
            compiler: Any = shell.compile  # takes a tree too, though typed for text
            self.code: types.CodeType = compiler(tree, self.filename, "exec")
        self.begin()

    @property
    def is_async(self) -> bool:
        """Whether the cell awaits at its top level."""
        return bool(self.code.co_flags & CO_COROUTINE)

    @property
    def namespace(self) -> Names:
        """The live namespace: the snapshot and what the cell bound since."""
        return self._space.names

    def again(self) -> CellBody:
        """Return the same code with a snapshot of its own, of the names as they are now."""
        twin = copy(self)
        twin.begin()
        return twin

    def begin(self) -> None:
        """Take the snapshot anew, for a run that had to wait or runs once more."""
        self._space = CellNamespace(self._shell)
        self._ended = False
        if self._progress is not None:
            self.namespace[PROGRESS] = self._progress

    def call(self) -> Any:
        """Run the cell here; returns its result."""
        __tracebackhide__ = True
        if self.is_async:
            raise TypeError(f"The cell {self.name!r} awaits at its top level: use acall().")
        try:
            with self._space.followed(), self._shell.builtin_trap:
                exec(self.code, self.namespace)
        except NameError as error:
            self._explain(error)
            raise
        return self._result()

    async def acall(self) -> Any:
        """Run the cell in this task; returns its result."""
        __tracebackhide__ = True
        try:
            with self._space.followed(), self._shell.builtin_trap:
                running = eval(self.code, self.namespace)
                if self.is_async:
                    await running
        except NameError as error:
            self._explain(error)
            raise
        return self._result()

    def bound(self) -> Names:
        """The names that the cell has bound by now, without those of the snapshot."""
        return self._space.bound(self._certain if self._ended else ())

    @property
    def certain(self) -> frozenset[str]:
        """The names that the cell binds whenever it runs to its end."""
        return self._certain

    def take(self, bound: Names, deleted: Iterable[str], home: Names) -> None:
        """Let the cell have bound and deleted this in another process; see `CellNamespace`."""
        self._space.take(bound, deleted, home)

    def end(self) -> None:
        """Let the cell have run to its end there."""
        self._ended = True

    def publish(self) -> None:
        """Bind in the notebook what the cell bound, and delete what it deleted."""
        self._space.publish(
            certain=self._certain if self._ended else (), used=set(_names_in(self.code))
        )

    def close(self) -> None:
        """End without publishing: a run that failed or was cancelled; keeps the names."""
        self._space.close()

    def release(self) -> None:
        """Close, and let go of the names."""
        self._space.forget()

    def _result(self) -> Any:
        self._ended = True
        self.namespace.pop(PROGRESS, None)
        return self.namespace.pop(RESULT, None)

    def _explain(self, error: NameError) -> None:
        """Say why code of another cell does not see a name that is there."""
        if type(error) is NameError and error.name in self._space.bound():
            error.add_note(
                f"{error.name!r} is a name of the running %%flow cell. What an earlier cell "
                "defined sees the notebook's names; these get it when the run completes. "
                "Pass it as an argument, or define the function in the %%flow cell too."
            )


def shown_plainly(shell: InteractiveShell, error: SyntaxError) -> Exception:
    """An exception that IPython shows as the syntax error of a plain cell, without frames.

    It is called SyntaxError too, but is none: of those IPython shows the frames.
    """
    formatter: Any = shell.SyntaxTB
    lines = formatter.structured_traceback(type(error), error, [])

    def render(self: Exception) -> list[str]:
        return lines  # type: ignore[no-any-return]

    kind: type[Exception] = type(type(error).__name__, (Exception,), {"_render_traceback_": render})
    return kind(str(error))


def _transformed(shell: InteractiveShell, source: str, above: list[str]) -> str:
    """The cell as Python text, each line where the notebook shows it."""
    body = source.lstrip()
    dropped = source[: len(source) - len(body)].count("\n")  # IPython drops leading blank lines
    text: str = shell.transform_cell(source)  # type: ignore[no-untyped-call]
    return "".join(f"# {line}\n" for line in above) + "\n" * dropped + text


def _number(shell: InteractiveShell) -> int:
    """The number that the notebook shows beside the cell; some IPythons count up before."""
    history: Any = shell.history_manager
    return max(len(history.input_hist_raw) - 1, 1)


def _future_first(tree: ast.Module) -> None:
    """IPython allows ``from __future__`` below other statements of a cell."""
    tree.body.sort(
        key=lambda node: not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    )


def _keep_result(tree: ast.Module, text: str, interactivity: str) -> None:
    if not tree.body or interactivity == "none":
        return
    if DisplayHook.semicolon_at_end_of_expression(text):  # type: ignore[no-untyped-call]
        return
    last = tree.body[-1]
    target = ast.Name(RESULT, ast.Store())
    if isinstance(last, ast.Expr):
        tree.body[-1] = ast.copy_location(ast.Assign([target], last.value), last)
    elif interactivity == "last_expr_or_assign" and (name := _assigned_name(last)):
        value = ast.Name(name, ast.Load())
        tree.body.append(ast.copy_location(ast.Assign([target], value), last))


def _assigned_name(node: ast.stmt) -> str | None:
    """The name that a plain assignment binds, if it is one."""
    match node:
        case (
            ast.Assign(targets=[ast.Name(id=name)])
            | ast.AugAssign(target=ast.Name(id=name))
            | ast.AnnAssign(target=ast.Name(id=name))
        ):
            return name
    return None


def _surely_bound(tree: ast.Module) -> Iterator[str]:
    """The names that the cell's top-level statements bind whenever it runs to its end."""
    for node in tree.body:
        match node:
            case ast.Assign() | ast.AugAssign() | ast.AnnAssign(value=ast.expr()):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    for part in ast.walk(target):
                        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                            yield part.id
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                for alias in names:
                    yield alias.asname or alias.name.partition(".")[0]
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


class _TopLevelLoops(ast.NodeTransformer):
    """Passes what each top-level loop runs over through the progress hook."""

    def __init__(self, text: str) -> None:
        self._text = text

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return node
        return super().visit(node)

    def visit_For(self, node: ast.For) -> ast.For:
        self.generic_visit(node)
        label = ast.get_source_segment(self._text, node.target) or ast.unparse(node.target)
        hook = ast.Name(PROGRESS, ast.Load())
        call = ast.Call(hook, [node.iter, ast.Constant(label)], [])
        for new in (call, call.func, call.args[1]):
            ast.copy_location(new, node.iter)
        node.iter = call
        return node

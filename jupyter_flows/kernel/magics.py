"""The magics `%%flow`, `%flow` and `%flows`: they read what is written, and delegate."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import no_var_expand

from jupyter_flows import runs as all_runs
from jupyter_flows.config import FlowsConfig
from jupyter_flows.engine.current import current
from jupyter_flows.engine.executors.callers_loop import MainExecutor
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.engine.whole_logs import messages
from jupyter_flows.errors import FlowsError, NotAFlow
from jupyter_flows.flows import Flow
from jupyter_flows.kernel import barrier, cell_flows, tracebacks
from jupyter_flows.kernel.cell_flows import CellOptions
from jupyter_flows.kernel.cells import shown_plainly
from jupyter_flows.kernel.display import Views
from jupyter_flows.kernel.listing import table
from jupyter_flows.kernel.options import FLOW_CELL, FLOWS, one_line


class FlowMagics:
    """Run cells and flows in the background."""

    def __init__(self, shell: InteractiveShell, config: FlowsConfig, views: Views) -> None:
        self._shell = shell
        self._config = config
        self._views = views

    def register(self) -> None:
        """Make the magics known to the shell."""
        register = self._shell.magics_manager.register_function
        register(self.flow_cell, "cell", "flow")
        register(self.flow_call, "line", "flow")
        register(self.flows, "line", "flows")

    def unregister(self) -> None:
        """Take them back."""
        magics = self._shell.magics_manager.magics
        for kind, name in (("cell", "flow"), ("line", "flow"), ("line", "flows")):
            magics[kind].pop(name, None)

    @FLOW_CELL.explain
    def flow_cell(self, line: str, cell: str) -> None:
        """Run the cell in the background, as a flow, and show its run.

        The prompt is back at once. The view below the cell shows the run's state,
        progress and log, and has buttons to pause, resume and cancel it.

        The cell starts from a copy of the notebook's names and works on names of its
        own. When the run completes, the names that it bound are published to the
        notebook; when it fails or is cancelled, none are. Objects are shared, not
        copied: a list that the cell appends to has changed, whatever becomes of the run.

        Top-level ``await``, ``!command`` and ``%magic`` lines work as in any cell. The
        last expression is the run's result.

        With ``--on process`` the names that the code uses travel to a process, and
        those that it binds come back: as copies, so what it changes inside of an object
        without binding it anew stays there. Such a run can be killed whatever it does.

        Examples::

            %%flow train --out run
            for epoch in range(10):
                print("epoch", epoch, fit_once())

            run["epoch"]     # look inside while it runs
            run.pause(); run.resume(); run.cancel()
            run.result()     # wait for it

        Defaults are set with ``%config FlowsConfig.retries = 2`` and the like; see
        ``%config FlowsConfig``.
        """
        __tracebackhide__ = True
        options = FLOW_CELL.read(line)
        if not cell.strip():
            raise UsageError("%%flow: the cell is empty, so there is nothing to run.")
        waits = _chosen(options.wait, self._config.wait)
        if waits and _chosen(options.on, self._config.on) == MainExecutor.kind:
            raise UsageError(
                "%%flow: a cell cannot wait for a run on the kernel's own loop, as it would "
                "block it: add --no-wait, and await the run in a later cell."
            )
        raw_cell, first_line = _whole_cell(self._shell, line, cell)
        with _refusals("%%flow"):
            try:
                run = cell_flows.start(
                    self._shell,
                    cell,
                    self._cell_options(options),
                    cell=_cell_id(self._shell),
                    raw_cell=raw_cell,
                    first_line=first_line,
                )
            except SyntaxError as error:
                raise shown_plainly(self._shell, error) from None
        if options.out:
            self._shell.user_ns[options.out] = run
        shows = _chosen(options.view, self._config.view)
        if shows:
            self._views.show(run)
        if waits:
            try:
                barrier.follow(run)
            except BaseException as error:
                tracebacks.hide_magic(self._shell, error)
                raise
            finally:
                if shows:
                    self._views.update(run)

    def _cell_options(self, options: argparse.Namespace) -> CellOptions:
        defaults = self._config
        return CellOptions(
            name=options.name,
            on=_chosen(options.on, defaults.on),
            timeout=_chosen(options.timeout, defaults.timeout),
            retries=_chosen(options.retries, defaults.retries),
            retry_delay=_chosen(options.retry_delay, defaults.retry_delay),
            tags=(*defaults.tags, *options.tag),
            metadata=dict(options.meta),
            grace=_chosen(options.grace, defaults.grace),
            kill_grace=defaults.kill_grace,
            log_prints=_chosen(options.log_prints, defaults.log_prints),
            on_rerun=_chosen(options.on_rerun, defaults.on_rerun),
            loop_progress=defaults.loop_progress,
        )

    @no_var_expand
    def flow_call(self, line: str) -> FlowRun:
        """Start a call of a flow in the background, and return its FlowRun.

        The run shows itself when it is a cell's last expression.

        Examples::

            %flow etl("2026-01-01")
            run = %flow etl("2026-01-01", country="Norway")
        """
        __tracebackhide__ = True
        call = line.strip()
        if not call:
            raise UsageError('%flow: give a call of a flow, such as %flow etl("2026-01-01").')
        try:
            body = ast.parse(call, mode="eval").body
        except SyntaxError as error:
            raise UsageError(f"%flow: {call!r} is not an expression: {error.msg}.") from None
        names = self._shell.user_ns
        with _refusals("%flow"):
            if not isinstance(body, ast.Call):
                raise NotAFlow(f"{call!r} is no call. Write it with parentheses: {call}().")
            target = eval(compile(ast.Expression(body.func), "<%flow>", "eval"), names)
            if not isinstance(target, Flow):
                raise NotAFlow(
                    f"{ast.unparse(body.func)} is no flow but a {type(target).__name__}: put "
                    "@flow above its definition, or use %%flow for a whole cell."
                )
            body.func = ast.copy_location(ast.Name("__flow_start__", ast.Load()), body.func)
            start = compile(ast.Expression(body), "<%flow>", "eval")
            run: FlowRun = eval(start, names, {"__flow_start__": target.start})
        return run

    @no_var_expand  # the braces of an input are not IPython's
    @FLOWS.explain
    def flows(self, line: str) -> None:
        """List and control the runs of this kernel.

        Give the runs by ids or by filters; ``--all`` stands for all that are active.
        Actions by filters act on the runs that they can apply to: ``replay`` on those that
        have ended, the others on those that have not. Of unknown ids nothing is done.

        ``wait`` raises what the first run that did not end well has ended with: its error,
        or `CancelledRun` if somebody pressed *Cancel*. A run that a cell cancelled is no
        error. Without ids, ended runs that somebody has waited for are left out: what
        ``wait`` has raised it does not raise again.

        ``{name}`` is replaced by the value of a name of the notebook, as in
        ``%flows logs {run.id}``. In a line with ``--input`` it is not, as the braces of JSON
        are written there: give the id as text, such as 3f2a.

        Examples::

            %flows                       the runs of this kernel
            %flows logs 3f2a             the log of one
            %flows cancel 3f2a 77b0      by ids, or unique beginnings of ids
            %flows pause --name train    or by filters
            %flows resume 3f2a --input '{"size": "M"}'     for a run that waits for input
            %flows cancel --since 15m    of the last quarter of an hour
            %flows replay --state FAILED --meta customer=42
            %flows wait                  until all runs have ended: a notebook's last cell
        """
        __tracebackhide__ = True
        if "--input" not in line:
            shell: Any = self._shell
            line = shell.var_expand(line)
        options = FLOWS.read(line)
        if options.input is not None and options.action != "resume":
            raise UsageError(f"%flows {options.action}: --input is for resume.")
        magic = f"%flows {options.action}"
        self._check(magic, options)
        found: list[FlowRun] = []
        with _refusals(magic):
            match options.action:
                case "list" | "wait" | "show" | "logs":
                    found = self._find(options)
                case _:
                    _act(options)
        match options.action:
            case "list":
                print(table(found))
            case "show":
                for run in found:
                    self._views.show(run)
            case "logs":
                for run in found:
                    for text, _ in messages(run.log):
                        print(text, end="")
            case "wait":
                self._wait(found, options.timeout)

    def _check(self, magic: str, options: argparse.Namespace) -> None:
        by_filters = options.all or any(value is not None for value in _filters(options).values())
        if options.ids and by_filters:
            raise UsageError(f"{magic}: give ids or filters, not both.")
        if not (options.ids or by_filters) and options.action not in ("list", "wait"):
            raise UsageError(f"{magic}: say which runs: ids, a filter, or --all.")
        if options.all and options.action == "replay":
            raise UsageError(
                f"{magic}: only runs that have ended can be replayed, and --all stands for the "
                "others: give ids, or a filter such as --state FAILED."
            )

    def _find(self, options: argparse.Namespace) -> list[FlowRun]:
        if options.ids:
            return [all_runs.get(each) for each in options.ids]
        found = all_runs.list(**_filters(options))
        if options.action == "wait":  # a run that failed before the barrier fails it too
            return [
                run
                for run in found
                if run.subflow_of is None and not (run.state_is_final() and run.waited_for)
            ]
        return [run for run in found if not (options.all and run.state_is_final())]

    def _wait(self, found: list[FlowRun], timeout: float | None) -> None:
        __tracebackhide__ = True
        try:
            left = barrier.wait_for(found, timeout)
            if left:
                raise UsageError(
                    f"%flows wait: {len(left)} of {len(found)} runs have not ended within "
                    f"{timeout:g} s; they go on."
                )
            barrier.fail_with_first(found)
        except BaseException as error:
            tracebacks.hide_magic(self._shell, error)
            raise
        finally:
            self._views.update_all()


def _filters(options: argparse.Namespace) -> all_runs.Filters:
    return {
        "since": options.since,
        "until": options.until,
        "states": options.state,
        "names": options.name,
        "tags": options.tag,
        "metadata": None if options.meta is None else dict(options.meta),
        "limit": None,
    }


def _act(options: argparse.Namespace) -> None:
    """Do what is asked to the chosen runs, and tell what could not be done."""
    act = _ACTIONS[options.action]
    if options.action == "resume" and options.input is not None:
        done = _resume(options)
    elif options.ids:
        done = act(ids=options.ids)
    else:
        filters = _filters(options)
        if options.all and filters["states"] is None:
            filters["states"] = all_runs.ACTIVE
        done = act(**filters)
    if options.action == "replay":
        print(table(done))
    for run, error in done.refused:
        print(f"{run.id[:8]}: {error}")


def _resume(options: argparse.Namespace) -> all_runs.Controlled:
    if len(options.ids) != 1:
        raise UsageError("%flows resume: give the id of the one run that --input is for.")
    run = all_runs.get(options.ids[0])
    return all_runs.resume(run, run_input=_answer(run, options.input))


_ACTIONS: Mapping[str, Callable[..., all_runs.Controlled]] = {
    "cancel": all_runs.cancel,
    "pause": all_runs.pause,
    "resume": all_runs.resume,
    "kill": all_runs.kill,
    "replay": all_runs.replay,
}


def _chosen(given: Any, default: Any) -> Any:
    return default if given is None else given


def _answer(run: FlowRun, text: str | None) -> Any:
    """Return what is to be given to a run: text as it is to one that waits for text."""
    waiting = run.waiting
    if text is None or waiting is None or waiting.schema is None:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"%flows resume: --input is not JSON: {error}. "
            """Quote it as a whole: --input '{"name": "Ada"}'."""
        ) from None


@contextmanager
def _refusals(magic: str) -> Iterator[None]:
    """Turn what is refused into a one-line error of the magic."""
    try:
        yield
    except FlowsError as error:
        raise one_line(magic, error) from None


def _whole_cell(shell: InteractiveShell, line: str, cell: str) -> tuple[str, int]:
    """Return the cell as the front end sent it, and the number of the first line below `%%flow`.

    With the text as it was sent, the run's code has the file name that the front
    end's debugger expects. Where it is not known it is made up.
    """
    above, first, below = _sent(shell).partition("%%flow")
    head, _, body = below.partition("\n")
    if first and not above.strip() and body.rstrip("\n") == cell.rstrip("\n"):
        return above + first + head + "\n" + body, above.count("\n") + 2
    return f"%%flow {line}\n{cell}", 2


def _sent(shell: Any) -> str:
    try:
        code = shell.get_parent()["content"]["code"]
    except Exception:  # no kernel, or nothing that a front end sent
        return ""
    return code if isinstance(code, str) else ""


def _cell_id(shell: Any) -> str | None:
    """Return the front end's id of the cell that is being run, if it has one."""
    if current.get() is not None:
        return None
    try:
        cell = shell.get_parent()["metadata"]["cellId"]
    except Exception:
        return None
    return cell if isinstance(cell, str) else None

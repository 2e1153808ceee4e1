"""The magics `%%flow`, `%flow` and `%flows`: they read what is written, and delegate."""

from __future__ import annotations

import argparse
import ast
import shlex
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from jupyter_flows import runs as all_runs
from jupyter_flows.config import FlowsConfig
from jupyter_flows.engine.current import current
from jupyter_flows.engine.executors import BACKGROUND
from jupyter_flows.engine.runs import FlowRun
from jupyter_flows.errors import FlowsError, NotAFlow
from jupyter_flows.flows import Flow
from jupyter_flows.kernel import barrier, cell_flows
from jupyter_flows.kernel.cell_flows import CellOptions
from jupyter_flows.kernel.cells import shown_plainly
from jupyter_flows.kernel.display import Views
from jupyter_flows.kernel.listing import table

RERUNS = ("enqueue", "replace", "reject", "parallel")


@magics_class
class FlowMagics(Magics):
    """Run cells and flows in the background."""

    def __init__(self, shell: InteractiveShell, config: FlowsConfig, views: Views) -> None:
        super().__init__(shell)
        self.flows_config = config
        self._views = views

    @magic_arguments()
    @argument("name", nargs="?", default="cell", help="The flow's name.")
    @argument("--on", choices=tuple(BACKGROUND), help="Its worker: a thread, a loop, the kernel's.")
    @argument("--timeout", type=float, help="Seconds until it has failed for taking too long.")
    @argument("--retries", type=int, help="How many attempts may follow a failed one.")
    @argument("--retry-delay", type=float, help="Seconds before each of them.")
    @argument("--tag", action="append", default=[], help="A word to find its runs by; repeatable.")
    @argument("--grace", type=float, help="Seconds that a cancel spares installed packages.")
    @argument("--wait", action="store_true", default=None, help="Wait here, and print its log.")
    @argument("--no-wait", dest="wait", action="store_false", help="Do not, also in CI.")
    @argument("--no-log-prints", action="store_true", help="Let prints go where they always went.")
    @argument("--out", metavar="NAME", help="Bind the FlowRun to this name.")
    @argument("--on-rerun", choices=RERUNS, help="What running the cell again does meanwhile.")
    @argument("--no-view", action="store_true", help="Do not show the run.")
    @cell_magic("flow")
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
        options = _parsed(self.flow_cell, line)
        if not cell.strip():
            raise UsageError("%%flow: the cell is empty, so there is nothing to run.")
        defaults = self.flows_config
        raw_cell = f"%%flow {line}\n{cell}"
        try:
            run = cell_flows.start(
                self.shell,
                cell,
                self._cell_options(options, defaults),
                cell=_cell_id(self.shell),
                raw_cell=raw_cell,
            )
        except SyntaxError as error:
            raise shown_plainly(self.shell, error) from None
        except FlowsError as error:
            raise UsageError(f"%%flow: {error}") from None
        if options.out:
            self.shell.user_ns[options.out] = run
        shows = defaults.view and not options.no_view
        if shows:
            self._views.show(run)
        if defaults.wait if options.wait is None else options.wait:
            try:
                barrier.follow(run)
            finally:
                if shows:
                    self._views.update(run)

    def _cell_options(self, options: argparse.Namespace, defaults: FlowsConfig) -> CellOptions:
        def chosen(given: Any, default: Any) -> Any:
            return default if given is None else given

        for name in ("timeout", "retries", "retry_delay", "grace"):
            value = getattr(options, name)
            if value is not None and not value >= 0:
                raise UsageError(f"%%flow: --{name.replace('_', '-')} must be 0 or more.")
        if options.out is not None and not options.out.isidentifier():
            raise UsageError(f"%%flow: --out needs a variable's name, not {options.out!r}.")
        return CellOptions(
            name=_unquoted(options.name),
            on=chosen(options.on, defaults.on),
            timeout=chosen(options.timeout, defaults.timeout),
            retries=chosen(options.retries, defaults.retries),
            retry_delay=chosen(options.retry_delay, defaults.retry_delay),
            tags=(*defaults.tags, *options.tag),
            grace=chosen(options.grace, defaults.grace),
            log_prints=defaults.log_prints and not options.no_log_prints,
            on_rerun=chosen(options.on_rerun, defaults.on_rerun),
            loop_progress=defaults.loop_progress,
        )

    @line_magic("flow")
    def flow_call(self, line: str) -> FlowRun:
        """Start a call of a flow in the background: ``%flow etl("2026-01-01")``.

        Returns its FlowRun, which shows itself when it is a cell's last expression.
        """
        if not line.strip():
            raise UsageError('%flow: give a call of a flow, such as %flow etl("2026-01-01").')
        try:
            tree = ast.parse(line.strip(), mode="eval")
        except SyntaxError as error:
            raise UsageError(
                f"%flow: {line.strip()!r} is not an expression: {error.msg}."
            ) from None
        names = self.shell.user_ns
        try:
            if not isinstance(tree.body, ast.Call):
                raise NotAFlow(f"{line.strip()!r} is no call; add parentheses: {line.strip()}().")
            target = eval(compile(ast.Expression(tree.body.func), "<%flow>", "eval"), names)
            if not isinstance(target, Flow):
                shown = ast.unparse(tree.body.func)
                raise NotAFlow(
                    f"{shown} is no flow but a {type(target).__name__}: put @flow above its "
                    "definition, or use %%flow for a whole cell."
                )
            call = ast.fix_missing_locations(
                ast.Expression(
                    ast.copy_location(
                        ast.Call(
                            ast.Name("__flow_start__", ast.Load()),
                            tree.body.args,
                            tree.body.keywords,
                        ),
                        tree.body,
                    )
                )
            )
            run: FlowRun = eval(
                compile(call, "<%flow>", "eval"), names, {"__flow_start__": target.start}
            )
        except FlowsError as error:
            raise UsageError(f"%flow: {error}") from None
        return run

    @magic_arguments()
    @argument(
        "action",
        nargs="?",
        default="list",
        choices=("list", "show", "logs", "wait", "cancel", "pause", "resume"),
        help="What to do. Default: list.",
    )
    @argument("ids", nargs="*", help="Ids of runs, or unique beginnings of them.")
    @argument("--state", action="append", help="Only runs in this state; repeatable.")
    @argument("--name", help="Only runs of this name.")
    @argument("--tag", help="Only runs with this tag.")
    @argument("--all", action="store_true", help="All active runs.")
    @argument("--timeout", type=float, help="wait: give up after so many seconds.")
    @line_magic("flows")
    def flows(self, line: str) -> None:
        """List and control runs.

        Examples::

            %flows                       the runs of this kernel
            %flows logs 3f2a             the log of one
            %flows cancel 3f2a 77b0      by ids, or unique beginnings of ids
            %flows pause --name train    or by filters
            %flows wait                  until all runs have ended: a notebook's last cell
        """
        options = _parsed(self.flows, line)
        try:
            getattr(self, f"_{options.action}")(options)
        except FlowsError as error:
            raise UsageError(f"%flows {options.action}: {error}") from None

    def _chosen(self, options: argparse.Namespace, *, needed: bool = True) -> list[FlowRun]:
        filters = bool(options.state or options.name or options.tag or options.all)
        if options.ids and filters:
            raise UsageError(f"%flows {options.action}: give ids or filters, not both.")
        if options.ids:
            return [all_runs.get(each) for each in options.ids]
        if needed and not filters:
            raise UsageError(f"%flows {options.action}: say which runs: ids, a filter, or --all.")
        return [
            run
            for run in all_runs.list(
                state=options.state, name=options.name, tag=options.tag, limit=10_000
            )
            if options.action == "list" or not run.state_is_final()
        ]

    def _list(self, options: argparse.Namespace) -> None:
        print(table(self._chosen(options, needed=False)))

    def _show(self, options: argparse.Namespace) -> None:
        for run in self._chosen(options):
            self._views.show(run)

    def _logs(self, options: argparse.Namespace) -> None:
        for run in self._chosen(options):
            for entry in run.logs:
                print(entry.message)

    def _wait(self, options: argparse.Namespace) -> None:
        chosen = self._chosen(options, needed=False)
        left = barrier.wait_for(chosen, options.timeout)
        if left:
            raise UsageError(
                f"%flows wait: {len(left)} of {len(chosen)} runs have not ended within "
                f"{options.timeout:g} s; they go on."
            )
        for run in chosen:
            barrier.fail_with(run)

    def _cancel(self, options: argparse.Namespace) -> None:
        for run in self._chosen(options):
            run.cancel()

    def _pause(self, options: argparse.Namespace) -> None:
        for run in self._chosen(options):
            run.pause()

    def _resume(self, options: argparse.Namespace) -> None:
        for run in self._chosen(options):
            run.resume()


def _parsed(magic: Any, line: str) -> argparse.Namespace:
    """Parse a magic's line; what is wrong with it is a one-line error."""
    try:
        shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%{magic.__name__}: {error}.") from None
    options: argparse.Namespace = parse_argstring(magic, line)
    return options


def _unquoted(name: str) -> str:
    """Take off the quotes of a name with spaces, which IPython leaves on."""
    if len(name) >= 2 and name[0] == name[-1] and name[0] in "'\"":
        return name[1:-1]
    return name


def _cell_id(shell: Any) -> str | None:
    """Return the front end's id of the cell that is being run, if it has one."""
    if current.get() is not None:
        return None
    try:
        parent = shell.get_parent()
    except Exception:
        return None
    cell = (parent.get("metadata") or {}).get("cellId")
    return cell if isinstance(cell, str) else None

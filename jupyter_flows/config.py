"""Every default that users can set, by ``%config`` or in a config file."""

from __future__ import annotations

import os
from typing import Any

from traitlets import (
    Bool,
    CaselessStrEnum,
    Float,
    Int,
    List,
    TraitError,
    Unicode,
    default,
    validate,
)
from traitlets.config import SingletonConfigurable

from jupyter_flows.engine import log_lines

WAIT_VARIABLE = "JUPYTER_FLOWS_WAIT"


class FlowsConfig(SingletonConfigurable):
    """The defaults of ``%%flow`` and of the store of past runs."""

    on = CaselessStrEnum(
        ["thread", "async", "process", "main"],
        default_value=None,
        allow_none=True,
        help="The worker of a cell: async when it awaits at top level, else thread, if not set.",
    ).tag(config=True)
    timeout = Float(
        None, allow_none=True, min=0.0, help="Seconds until a run has failed for taking too long."
    ).tag(config=True)
    retries = Int(0, min=0, help="How many attempts may follow a failed one.").tag(config=True)
    retry_delay = Float(0.0, min=0.0, help="Seconds before each of them.").tag(config=True)
    tags = List(Unicode(), help="Tags that every run of a cell gets.").tag(config=True)
    grace = Float(
        1.0,
        min=0.0,
        help="Seconds from a cancel until code that reached no checkpoint is interrupted.",
    ).tag(config=True)
    kill_grace = Float(
        30.0, min=0.0, help="Seconds from a cancel until what has not stopped is killed."
    ).tag(config=True)
    log_prints = Bool(True, help="Whether what a cell prints becomes its run's log.").tag(
        config=True
    )
    on_rerun = CaselessStrEnum(
        ["enqueue", "replace", "reject", "parallel"],
        default_value="enqueue",
        help="What running a cell again does while its run is active.",
    ).tag(config=True)
    max_runs = Int(
        None,
        allow_none=True,
        min=1,
        help="How many runs may be active in the background of the kernel at once: further ones "
        "wait. Default: any number.",
    ).tag(config=True)
    wait = Bool(
        help="Whether cells wait for their runs, and fail with them. "
        f"Default: whether ${WAIT_VARIABLE} is set, as in CI."
    ).tag(config=True)
    view = Bool(True, help="Whether a cell shows its run.").tag(config=True)
    widget = Bool(
        help="Whether a shown run has a widget, for front ends without the labextension. "
        "Default: unless cells wait, as nobody looks then."
    ).tag(config=True)
    loop_progress = Bool(
        True, help="Whether a cell's top-level loops over sized iterables show a bar."
    ).tag(config=True)

    log_level = CaselessStrEnum(
        ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        default_value="INFO",
        help="The least level that get_run_logger() and the extra loggers write; other loggers "
        "write what their own level says, and prints are always written.",
    ).tag(config=True)
    log_format = Unicode(
        log_lines.PREFECTS,
        help="How a line of a log is written as text: for foreground runs, and in exports. It "
        "may name asctime, date, msecs, created, levelname, levelno, name, flow_run_name, run, "
        "number and message, as a format of logging's does.",
    ).tag(config=True)
    extra_loggers = List(
        Unicode(),
        help="Loggers, such as a library's, whose lines of log_level and above are written in "
        "runs, though they have no level of their own. (Without it they write warnings, as ever.)",
    ).tag(config=True)

    store = Unicode(
        help="The file that keeps past runs. Default: $JUPYTER_FLOWS_STORE, or "
        "jupyter_flows/flows.sqlite in Jupyter's data directory. Cached results are in a folder "
        "beside it. Read when the extension is loaded."
    ).tag(config=True)
    keep_days = Float(
        30.0, min=0.0, help="How long past runs are kept, and cached results that nobody asks for."
    ).tag(config=True)
    keep_bytes = Int(
        2_000_000_000, min=0, help="How large the store may grow before the oldest runs go."
    ).tag(config=True)

    @validate("retries", "max_runs")
    def _check_count(self, proposal: Any) -> int | None:
        count: int | None = proposal["value"]
        if isinstance(count, bool):  # which traitlets takes for a number
            raise TraitError(f"{proposal['trait'].name} must be a whole number, not {count!r}.")
        return count

    @validate("log_format")
    def _check_log_format(self, proposal: Any) -> str:
        form: str = proposal["value"]
        try:
            log_lines.formatted((0, 0.0, 20, "", ""), "", form)
        except ValueError as error:
            raise TraitError(str(error)) from None
        if "%(message)" not in form:
            raise TraitError(f"{form!r} is no format of a line: it leaves %(message)s out.")
        return form

    @default("wait")
    def _default_wait(self) -> bool:
        return os.environ.get(WAIT_VARIABLE, "") not in ("", "0")

    @default("widget")
    def _default_widget(self) -> bool:
        return not self.wait

    @default("store")
    def _default_store(self) -> str:
        from jupyter_flows.history.store import default_path

        return str(default_path())

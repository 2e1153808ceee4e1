"""Every default that users can set, by ``%config`` or in a config file."""

from __future__ import annotations

import os

from traitlets import Bool, CaselessStrEnum, Float, Int, List, Unicode, default
from traitlets.config import SingletonConfigurable

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

    store = Unicode(
        help="The file that keeps past runs. Default: $JUPYTER_FLOWS_STORE, or "
        "jupyter_flows/flows.sqlite in Jupyter's data directory. Read when the extension is loaded."
    ).tag(config=True)
    keep_days = Float(30.0, min=0.0, help="How long past runs are kept.").tag(config=True)
    keep_bytes = Int(
        2_000_000_000, min=0, help="How large the store may grow before the oldest runs go."
    ).tag(config=True)

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

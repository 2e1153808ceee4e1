"""Prefect's place for commands."""

from jupyter_flows.commands import run_process

__all__ = ["run_process"]

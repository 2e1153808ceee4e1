"""Prefect's place for pausing and resuming runs."""

from typing import Any

from jupyter_flows.context import pause_flow_run, resume_flow_run


async def apause_flow_run(*args: Any, **kwargs: Any) -> Any:
    """Do what `pause_flow_run` does, in async code."""
    return await pause_flow_run(*args, **kwargs)


async def aresume_flow_run(*args: Any, **kwargs: Any) -> None:
    """Do what `resume_flow_run` does, in async code."""
    resume_flow_run(*args, **kwargs)


__all__ = ["apause_flow_run", "aresume_flow_run", "pause_flow_run", "resume_flow_run"]

"""Prefect's place for blocks that may not take longer than so long."""

from jupyter_flows.timeouts import timeout, timeout_async

__all__ = ["timeout", "timeout_async"]

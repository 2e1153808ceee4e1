"""`concurrency` under the name that Prefect has it under for sync code."""

from jupyter_flows.concurrency import concurrency

__all__ = ["concurrency"]

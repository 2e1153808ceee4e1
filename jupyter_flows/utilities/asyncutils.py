"""Prefect's place for what joins sync and async code."""

from jupyter_flows.worker_threads import run_sync_in_worker_thread

run_sync_in_interruptible_worker_thread = run_sync_in_worker_thread

__all__ = ["run_sync_in_interruptible_worker_thread", "run_sync_in_worker_thread"]

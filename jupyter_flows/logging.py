"""Prefect's place for loggers."""

import logging

from jupyter_flows.context import get_run_logger


def get_logger(name: str | None = None) -> logging.Logger:
    """Return a logger below ``jupyter_flows``: what a run's code writes there is in its log."""
    return logging.getLogger(f"jupyter_flows.{name}" if name else "jupyter_flows")


__all__ = ["get_logger", "get_run_logger"]

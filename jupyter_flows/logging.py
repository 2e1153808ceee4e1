"""Prefect's place for loggers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from jupyter_flows.context import get_run_logger, run_loggers


def get_logger(name: str | None = None) -> logging.Logger:
    """Return a logger below ``jupyter_flows``: what a run's code writes there is in its log."""
    return logging.getLogger(f"jupyter_flows.{name}" if name else "jupyter_flows")


@contextmanager
def disable_run_logger() -> Iterator[None]:
    """Let the loggers of runs write nothing, in the whole process, for a block.

    `get_run_logger` works outside of runs there, so that a test can call ``my_task.fn``.
    """
    loggers = run_loggers()
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


__all__ = ["disable_run_logger", "get_logger", "get_run_logger"]

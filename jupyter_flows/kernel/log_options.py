"""What the configuration says of logs, put into force: levels of loggers, and the format of lines.

A logger that is named in `FlowsConfig.extra_loggers` gets the level `log_level`, unless
it has one of its own. As everything in `logging` this is for the process: outside of runs
its handlers, if it has any, get these lines too. In process runs it holds as well, as the
levels of loggers travel there.
"""

from __future__ import annotations

import logging
from typing import Any

from jupyter_flows.config import FlowsConfig
from jupyter_flows.engine import log_lines

_TRAITS = ["log_level", "log_format", "extra_loggers"]

_BEFORE = {"jupyter_flows": logging.INFO}  # what `get_run_logger` sets
_ours: dict[str, int] = dict(_BEFORE)  # the levels that we have set, by logger


def apply(config: FlowsConfig) -> None:
    """Do as the configuration says, now and whenever it changes."""
    _apply(config)
    config.observe(_changed, names=_TRAITS)


def withdraw(config: FlowsConfig) -> None:
    """Leave the loggers as they were."""
    config.unobserve(_changed, names=_TRAITS)
    _set_levels({})
    log_lines.line_format = log_lines.PREFECTS


def _changed(change: Any) -> None:
    _apply(change["owner"])


def _apply(config: FlowsConfig) -> None:
    level = logging.getLevelNamesMapping()[config.log_level]
    _set_levels(dict.fromkeys(("jupyter_flows", *config.extra_loggers), level))
    log_lines.line_format = config.log_format


def _set_levels(wanted: dict[str, int]) -> None:
    """Have loggers at these levels, and those of before that are not wanted without one.

    A level that somebody else has set stays.
    """
    ours = {}
    for name in _ours.keys() | wanted.keys():
        logger = logging.getLogger(name)
        if logger.level in (logging.NOTSET, _ours.get(name)):
            ours[name] = wanted.get(name, logging.NOTSET)
            logger.setLevel(ours[name])
    _ours.clear()
    _ours.update(_BEFORE, **ours)

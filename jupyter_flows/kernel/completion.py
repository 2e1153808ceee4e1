"""Tab completion behind ``%%flow``, ``%flow`` and ``%flows``: a matcher of IPython's."""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable, Iterable
from typing import Any

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)
from IPython.core.interactiveshell import InteractiveShell

from jupyter_flows.engine import registry
from jupyter_flows.flows import Flow
from jupyter_flows.kernel.options import ACTIONS, FLOW_CELL, FLOWS, Options

_ID_LENGTH = 8  # of a UUID: enough to be unique among the runs of a kernel
_NAME = "jupyter_flows"


def install(shell: InteractiveShell) -> None:
    """Offer completions in this shell; harmless when they are offered."""

    def match(context: CompletionContext) -> SimpleMatcherResult:
        line, word = context.text_until_cursor, context.token
        before = line.removesuffix(word).split()
        found = _found(shell, before, word) if before else []
        fitting = [SimpleCompletion(each) for each in found if each.startswith(word)]
        return {"completions": fitting, "suppress": bool(fitting)}

    uninstall(shell)
    _matchers(shell).append(context_matcher(identifier=_NAME)(match))


def uninstall(shell: InteractiveShell) -> None:
    """Offer nothing more."""
    matchers = _matchers(shell)
    matchers[:] = [each for each in matchers if getattr(each, "matcher_identifier", "") != _NAME]


def _matchers(shell: Any) -> list[Any]:
    matchers: list[Any] = shell.Completer.custom_matchers
    return matchers


def _found(shell: InteractiveShell, before: list[str], word: str) -> Iterable[str]:
    """Return what may stand after the words `before`, the magic's name first."""
    match before[0]:
        case "%%flow":
            return _of_options(FLOW_CELL, before[-1], word, _choices)
        case "%flow" if len(before) == 1:
            return _flows(shell)
        case "%flows":
            return _control(before, word)
    return []


def _flows(shell: InteractiveShell) -> Iterable[str]:
    for name, value in list(shell.user_ns.items()):
        if isinstance(value, Flow) and not name.startswith("_"):
            yield f"{name}("


def _control(before: list[str], word: str) -> Iterable[str]:
    runs = registry.known()

    def values(option: Action) -> Iterable[str]:
        match option.dest:
            case "name":
                return sorted({run.name for run in runs})
            case "tag":
                return sorted({tag for run in runs for tag in run.tags})
            case "meta":
                return sorted({f"{k}={v}" for run in runs for k, v in run.metadata.items()})
        return _choices(option)

    if word.startswith("-") or FLOWS.takes(before[-1]):
        return _of_options(FLOWS, before[-1], word, values)
    if len(before) == 1:
        return ACTIONS
    fitting = {"show": runs, "logs": runs, "replay": [run for run in runs if run.state_is_final()]}
    active = [run for run in runs if not run.state_is_final()]
    ids = (run.id[:_ID_LENGTH] for run in fitting.get(before[1], active))
    return [each for each in ids if each not in before]


def _choices(option: Action) -> Iterable[str]:
    return option.choices or ()


def _of_options(
    options: Options, before: str, word: str, values: Callable[[Action], Iterable[str]]
) -> Iterable[str]:
    option = options.takes(before)
    if option is not None:
        return values(option)
    return options.names() if word.startswith("-") else []

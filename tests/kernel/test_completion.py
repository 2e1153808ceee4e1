"""Tab completion of the magics, through a real kernel."""

from typing import Any

import pytest


@pytest.fixture(scope="module")
def with_run(flows: Any) -> Any:
    """A kernel with a flow, and a run that has ended."""
    flows.run("from jupyter_flows import flow\n@flow\ndef etl(day): return day")
    flows.run("%%flow train --tag demo --meta customer=42 --no-view --wait\n1")
    return flows


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("%%flow train --on", ["--on", "--on-rerun"]),
        ("%%flow train --no", ["--no-log-prints", "--no-view", "--no-wait"]),
        ("%%flow train --on ", ["async", "main", "process", "thread"]),
        ("%%flow train --on-rerun re", ["reject", "replace"]),
        ("%flow ", ["etl("]),
        (
            "%flows ",
            ["cancel", "kill", "list", "logs", "pause", "replay", "resume", "show", "wait"],
        ),
        ("%flows ca", ["cancel"]),
        ("%flows list --state CANC", ["CANCELLED", "CANCELLING"]),
        ("%flows list --name ", ["train"]),
        ("%flows list --tag ", ["demo"]),
        ("x = 1\n%flows re", ["replay", "resume"]),
        ("%flows list --meta ", ["customer=42"]),
        ("%flows cancel --s", ["--since", "--state"]),
    ],
)
def test_tab_offers_what_may_follow(with_run: Any, line: str, offers: list[str]) -> None:
    """Tab completes options, their values, actions and the names of flows, and nothing else."""
    assert sorted(with_run.complete(line)) == offers


def test_tab_offers_ids_of_runs(with_run: Any) -> None:
    """Tab completes ids: of all runs to show them, of active ones to act on them."""
    run = with_run.latest()
    assert with_run.complete("%flows show ") == [run[:8]]
    assert with_run.complete(f"%flows logs {run[:2]}") == [run[:8]]
    assert with_run.complete("%flows replay ") == [run[:8]]
    assert run[:8] not in with_run.complete("%flows cancel ")


def test_other_lines_are_completed_as_ever(with_run: Any) -> None:
    """What is no magic of ours is left to IPython."""
    assert "print" in with_run.complete("pri")
    assert "%%flow" in with_run.complete("%%fl")


def test_options_of_decorators_are_completed(with_run: Any) -> None:
    """Tab and `?` know what `@flow` and `@task` take."""
    with_run.run("from jupyter_flows import task")
    assert "retries=" in with_run.complete("@flow(ret")
    assert "cache_policy=" in with_run.complete("@task(retries=2, cache_")
    page = with_run.run("task?")["payload"][0]["data"]["text/plain"]
    assert "retry_delay_seconds:" in page.partition("Docstring")[0]

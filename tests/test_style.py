"""The code is as the tools want it: types, lint and format, in both languages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHON = (sys.executable, "-m")


def run(*command: str, folder: Path = ROOT) -> None:
    """Run a tool and show what it says if it finds fault."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)],
    ids=["lint", "format", "types"],
)
def test_python(command: tuple[str, ...]) -> None:
    """ruff finds no fault, everything is formatted, and all types are strict."""
    run(*PYTHON, *command)


@pytest.mark.parametrize("script", ["lint", "test"])
def test_typescript(script: str) -> None:
    """The view is formatted and typed, and its own tests pass."""
    npm = shutil.which("npm")
    assert npm is not None, "npm is missing: install Node.js 20 or later"
    run(npm, "run", "--silent", script, folder=ROOT / "labextension")


def test_top_level() -> None:
    """At the top level there is nothing but what belongs there."""
    listed = subprocess.run(
        ["git", "ls-tree", "--name-only", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    belongs = {
        "pyproject.toml",
        "jupyter_flows",
        "labextension",
        "notebooks",
        "tests",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
    }
    assert {name for name in listed if not name.startswith(".")} <= belongs

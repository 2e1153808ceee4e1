"""What is repeated in full only, so that CI stays short: with ``JUPYTER_FLOWS_FULL=1``."""

import os

import pytest

FULL = os.environ.get("JUPYTER_FLOWS_FULL", "") not in ("", "0")

in_full = pytest.mark.skipif(not FULL, reason="with JUPYTER_FLOWS_FULL=1 only")
"""Marks what another test shows, too, in another front end or once more."""

on_lab_and_in_full_on_both = pytest.mark.parametrize(
    "server", ["lab", pytest.param("notebook7", marks=in_full)], indirect=True
)

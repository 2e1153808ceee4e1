"""What every test of the engine is held to."""

import pytest


@pytest.fixture(autouse=True)
def _nothing_is_left(nothing_is_left):
    """No test leaves a run that has not ended, nor a thread of one."""

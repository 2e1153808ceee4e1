"""What a progress bar says of itself."""

import pytest

from jupyter_flows.engine import progress
from jupyter_flows.engine.progress import Bar


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets."""
    clock = [1_000.0]
    monkeypatch.setattr(progress, "time", lambda: clock[0])
    return clock


def test_rate_of_a_slow_step(now: list[float]) -> None:
    """A step that takes long lowers the rate to one such step, however often it is looked at."""
    bar = Bar(0, None, "page", 10)
    for _ in range(5):
        now[0] += 1
        bar.done += 1
        assert bar.record().rate == pytest.approx(1)
    for _ in range(100):
        now[0] += 0.1
        rate = bar.record().rate
    assert rate == pytest.approx(1 / 10)
    bar.done += 1
    assert 1 / 10 <= bar.record().rate <= 1


def test_rate_is_not_known_before_the_first_step(now: list[float]) -> None:
    """Nothing is said of the rate until a step was made."""
    bar = Bar(0, None, "page", 10)
    now[0] += 5
    assert bar.record().rate is None


def test_rate_of_quick_steps(now: list[float]) -> None:
    """Looking often at a quick loop does not change its rate."""
    bar = Bar(0, None, "page", 1_000)
    for _ in range(200):
        now[0] += 0.01
        bar.done += 1
        rate = bar.record().rate
    assert rate == pytest.approx(100)

"""The defaults that users can set."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from traitlets import TraitError
from traitlets.config import Config

from jupyter_flows.config import FlowsConfig


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """Every test makes its own."""
    FlowsConfig.clear_instance()
    yield
    FlowsConfig.clear_instance()


@pytest.mark.parametrize(
    ("value", "waits"), [(None, False), ("", False), ("0", False), ("1", True), ("yes", True)]
)
def test_the_variable_decides_whether_cells_wait(
    monkeypatch: pytest.MonkeyPatch, value: str | None, waits: bool
) -> None:
    """Cells wait by default where $JUPYTER_FLOWS_WAIT is set, and then make no widgets."""
    if value is None:
        monkeypatch.delenv("JUPYTER_FLOWS_WAIT", raising=False)
    else:
        monkeypatch.setenv("JUPYTER_FLOWS_WAIT", value)
    config = FlowsConfig()
    assert (config.wait, config.widget) == (waits, not waits)


def test_configuration_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a config file says stands, whatever the environment."""
    monkeypatch.setenv("JUPYTER_FLOWS_WAIT", "1")
    assert FlowsConfig(config=Config({"FlowsConfig": {"wait": False}})).wait is False


def test_the_store_lies_where_the_variable_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """$JUPYTER_FLOWS_STORE moves the store; a trait moves it too."""
    monkeypatch.setenv("JUPYTER_FLOWS_STORE", str(tmp_path / "x.sqlite"))
    assert FlowsConfig().store == str(tmp_path / "x.sqlite")
    assert FlowsConfig(store="y.sqlite").store == "y.sqlite"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on", "dask"),
        ("on_rerun", "twice"),
        ("retries", -1),
        ("retries", True),
        ("max_runs", True),
        ("retry_delay", -0.5),
        ("grace", -1.0),
        ("timeout", -1.0),
        ("keep_days", -1.0),
        ("wait", "perhaps"),
    ],
)
def test_a_wrong_default_is_refused_where_it_is_set(name: str, value: object) -> None:
    """A value that no cell could use is an error at once."""
    with pytest.raises(TraitError):
        setattr(FlowsConfig(), name, value)


def test_every_trait_says_what_it_does() -> None:
    """Each default has a help text, for `%config` and the documentation."""
    traits = FlowsConfig.class_traits(config=True)
    assert traits
    assert all(trait.help for trait in traits.values())

from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_flows.history import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "flows.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened

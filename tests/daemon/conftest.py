"""Service managers that the daemon notifies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service_manager import Manager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@reaper-test-{os.getpid()}")
    yield made
    made.close()


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Manager]:
    """A manager at a path, where it does not matter."""
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()

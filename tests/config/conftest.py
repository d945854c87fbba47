"""The working directory of the tests of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from reaper.config import file


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a `config` folder: no file of the project or the machine is found."""
    (tmp_path / "config").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(file, "SEARCHED", (Path("config/reaper.toml"), tmp_path / "etc" / "reaper.toml"))
    return tmp_path

"""The log file: while it cannot be written, lines go to stderr; afterwards they go to the file again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from reaper.observers.logging_setup import LogFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "reaper.log"


@pytest.fixture
def log(path: Path) -> Iterator[logging.Logger]:
    path.parent.mkdir()
    logger = logging.Logger("test")
    handler = LogFile(path, encoding="utf-8")
    logger.addHandler(handler)
    yield logger
    handler.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_log_comes_back_after_a_full_disk(log: logging.Logger, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log.warning("before")
    moved = path.rename(path.with_suffix(".1"))
    path.symlink_to("/dev/full")
    before = descriptors()
    for number in range(100):
        log.warning("full %d", number)
    assert descriptors() <= before
    path.unlink()
    log.warning("after")
    assert (moved.read_text(), path.read_text()) == ("before\n", "after\n")
    assert capfd.readouterr().err == "".join(f"full {number}\n" for number in range(100))


def test_log_comes_back_after_its_folder(log: logging.Logger, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log.warning("before")
    away = path.parent.rename(path.parent.with_name("away"))
    log.warning("gone")
    path.parent.write_text("a file in its place")
    log.warning("blocked")
    path.parent.unlink()
    away.rename(path.parent)
    log.warning("after")
    assert path.read_text() == "before\nafter\n"
    assert capfd.readouterr().err == "gone\nblocked\n"

"""How a line of the log is written."""

from __future__ import annotations

import json
from pathlib import Path

from reaper.observers.logging_setup import standalone_logger


def test_json_line_begins_with_when_how_bad_and_what(tmp_path: Path) -> None:
    with standalone_logger("info", "json", tmp_path / "log") as logger:
        logger.warning("Reaped stale job.", source="main", job="1", age_seconds=3.5)
    fields = json.loads((tmp_path / "log").read_text())
    assert list(fields)[:3] == ["timestamp", "level", "event"]
    assert (fields["level"], fields["event"], fields["source"]) == ("warning", "Reaped stale job.", "main")

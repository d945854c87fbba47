"""`config/reaper.toml`, the file that is shipped: valid, complete, and true about the defaults."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from reaper.config import load
from reaper.config.schema import RENAMED_SETTINGS, SCALAR_SETTINGS
from reaper.config.settings import PurgeSettings
from tests.config.support import BROKER, URL, write

SHIPPED = Path(__file__).parents[2] / "config" / "reaper.toml"


def uncommented(pattern: str) -> str:
    """The shipped file with the commented lines that match made real; the rest stays a comment."""
    return re.sub(pattern, "", SHIPPED.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_shipped_file_is_valid_and_changes_nothing() -> None:
    settings = load({"config": SHIPPED}, {})
    assert settings.described()[1:] == load({}, {}).described()[1:]


def test_shipped_file_shows_the_defaults() -> None:
    text = uncommented(r"^#(?=\w+ = )")
    given: dict[str, Any] = tomllib.loads(text)
    without_default = {
        "database_url",
        "database_url_file",
        "broker_url",
        "broker_url_file",
        "max_age_seconds",
        "close_interrupted_holder",
        "time_zone",
        "most",
        "http_token_file",
        "state_dir",
        "log_file",
    }
    assert set(given) == SCALAR_SETTINGS - without_default - RENAMED_SETTINGS.keys()
    write(text)
    environ = {"REAPER_DATABASE_URL": URL}
    settings = load({}, environ)
    Path("config/reaper.toml").unlink()
    defaults = load({}, environ)
    values = [[row[:2] for row in each.described()[1:]] for each in (settings, defaults)]
    assert values[0] == values[1]


def test_shipped_file_has_valid_examples() -> None:
    text = uncommented(r"^#   (?=\[|[\w.]+ = )")
    assert text.count("\n[") == 8
    # The examples of a URL, and of the file that holds it, are alternatives of each other: the last one is tried.
    text = re.sub(r"^(#.*)?\n", "", text, flags=re.MULTILINE)
    for name in ("database_url", "broker_url"):
        text = re.sub(rf"^{name}(_file)? = .*\n(?={name})", "", text, flags=re.MULTILINE)
    # Needs a profile whose jobs have a holder.
    text = re.sub(r"^close_interrupted_holder = .*\n", "", text, flags=re.MULTILINE)
    write(URL, "secret")
    write(BROKER, "broker")
    text = text.replace("/run/secrets/reaper-broker-url", "broker")
    text = re.sub("/run/secrets/(main|reaper)-database-url", "secret", text)
    write(text)
    settings = load({}, {})
    assert settings.sources["scans"].purge == PurgeSettings("30 3 * * mon-fri", days_to_keep=90, batch_size=500)
    assert set(settings.sources) == {"main", "archive", "scans"}
    assert settings.log_file == Path("logs/worker-reaper.log")

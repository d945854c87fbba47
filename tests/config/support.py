"""What the tests of the configuration share: a file in the working directory, and what is said to be wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from reaper.config import SourceSettings, load
from reaper.errors import ConfigError

URL = "postgresql://u:hunter2@db/app"
BROKER = "redis://:hunter2@broker:6379/0"
PROTEA_TIMEOUT = "PROTEA_TUNING__WORKER__REAPER_MAIN_TIMEOUT_SECONDS"
PROTEA_STALL = "PROTEA_TUNING__WORKER__REAPER_STALL_SECONDS"

THRESHOLDS = """timeout_seconds = "1h"
database_url = "postgresql://u:hunter2@db/app"

[kinds.embed]
timeout_seconds = "3h"
stall_seconds = "3m"

[sources.main]
timeout_seconds = "2h"

[sources.main.kinds.embed]
timeout_seconds = "4h"

[sources.other]
database_url = "postgresql:///other"
"""


def write(text: str, path: str = "config/reaper.toml") -> None:
    Path(path).write_text(text, encoding="utf-8")


def problems(environ: Mapping[str, str] | None = None, **flags: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(flags, environ or {})
    assert "hunter2" not in str(caught.value)
    return caught.value.problems


def problem(environ: Mapping[str, str] | None = None, **flags: object) -> str:
    (only,) = problems(environ, **flags)
    return only


def sources_of(text: str, environ: Mapping[str, str] | None = None, **flags: object) -> Mapping[str, SourceSettings]:
    write(text)
    return load(flags, environ or {}).sources

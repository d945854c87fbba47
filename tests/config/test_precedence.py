"""Precedence of the layers: flag, environment, credential, file, default; and the defaults themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from reaper.common.durations import parse_duration
from reaper.config import Settings, load
from tests.config.support import PROTEA_STALL, PROTEA_TIMEOUT, THRESHOLDS, problem, write


def test_defaults_apply_where_nothing_is_given_and_no_source_exists() -> None:
    settings = load({}, {})
    assert settings == Settings(origins=settings.origins)
    assert (settings.interval_seconds, settings.timeout_seconds, settings.stall_seconds) == (60, 21600, 1800)
    assert (settings.batch_size, settings.breaker_min, settings.breaker_share) == (1000, 50, 0.5)
    assert (settings.restart_grace_seconds, settings.statement_timeout_seconds) == (60, 300)
    assert (settings.http_host, settings.http_port, settings.connect_timeout_seconds) == ("127.0.0.1", 9469, 5)
    assert (settings.log_level, settings.log_format, settings.log_file) == ("info", "auto", None)
    assert settings.sources == {}
    assert set(settings.origins.values()) == {"default"}


def test_flag_beats_environment_beats_file_beats_default() -> None:
    write('batch_size = 5\nhttp_port = 5\nstall_seconds = "5m"\nlog_level = "debug"')
    environ = {"REAPER_BATCH_SIZE": "6", "REAPER_HTTP_PORT": "6", "REAPER_STALL_SECONDS": ""}
    settings = load({"batch_size": 7, "http_port": None}, environ)
    assert (settings.batch_size, settings.http_port, settings.stall_seconds) == (7, 6, 300)
    assert settings.origins["batch_size"] == "--batch-size"
    assert settings.origins["http_port"] == "REAPER_HTTP_PORT"
    assert settings.origins["stall_seconds"] == "config/reaper.toml:3"
    assert settings.origins["log_level"] == "config/reaper.toml:4"
    assert settings.origins["interval_seconds"] == "default"


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("REAPER_INTERVAL_SECONDS", " 30 ", "interval_seconds", 30),
        ("REAPER_TIMEOUT_SECONDS", "6h", "timeout_seconds", 21600),
        (PROTEA_TIMEOUT, "172800", "timeout_seconds", 172800),
        ("REAPER_STALL_SECONDS", "1h30m", "stall_seconds", 5400),
        (PROTEA_STALL, "3600", "stall_seconds", 3600),
        ("REAPER_BATCH_SIZE", "1", "batch_size", 1),
        ("REAPER_BREAKER_MIN", "7", "breaker_min", 7),
        ("REAPER_BREAKER_SHARE", "1", "breaker_share", 1.0),
        ("REAPER_RESTART_GRACE", "0", "restart_grace_seconds", 0),
        ("REAPER_HTTP_HOST", "[::1]", "http_host", "::1"),
        ("REAPER_HTTP_HOST", "0.0.0.0", "http_host", "0.0.0.0"),
        ("REAPER_HTTP_PORT", "0", "http_port", 0),
        ("REAPER_LOG_LEVEL", "DEBUG", "log_level", "debug"),
        ("REAPER_LOG_FORMAT", "json", "log_format", "json"),
        ("REAPER_LOG_FILE", "logs/x.log", "log_file", Path("logs/x.log")),
        ("REAPER_STATEMENT_TIMEOUT_SECONDS", "10m", "statement_timeout_seconds", 600),
        ("REAPER_CONNECT_TIMEOUT_SECONDS", "2.5", "connect_timeout_seconds", 2.5),
    ],
)
def test_variable_sets_its_setting(variable: str, text: str, name: str, value: object) -> None:
    settings = load({}, {variable: text})
    assert getattr(settings, name) == value
    assert settings.origins[name.replace("grace_seconds", "grace")] == variable


def test_environment_of_the_process_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REAPER_BATCH_SIZE", "17")
    assert load().batch_size == 17
    assert load({}, {}).batch_size == 1000


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load({}, {}).batch_size = 3  # type: ignore[misc]


def test_stall_window_may_be_longer_than_the_timeout() -> None:
    assert load({}, {"REAPER_TIMEOUT_SECONDS": "1m", "REAPER_STALL_SECONDS": "1h"}).stall_seconds == 3600


def test_variables_of_kubernetes_and_other_programs_are_ignored() -> None:
    kubernetes = {
        "REAPER_SERVICE_HOST": "10.0.0.1",
        "REAPER_SERVICE_PORT": "9469",
        "REAPER_SERVICE_PORT_METRICS": "9469",
        "REAPER_PORT": "tcp://10.0.0.1:9469",
        "REAPER_PORT_9469_TCP": "tcp://10.0.0.1:9469",
        "REAPER_PORT_9469_TCP_ADDR": "10.0.0.1",
    }
    load({}, {"PROTEA_TUNING__WORKER__OTHER": "x", "REAPERS": "x", "REAPER_EMPTY": "", **kubernetes})


def test_protea_variables_must_agree_with_reaper_variables() -> None:
    assert load({}, {PROTEA_STALL: "1h", "REAPER_STALL_SECONDS": "3600"}).stall_seconds == 3600
    message = problem({PROTEA_STALL: "1h", "REAPER_STALL_SECONDS": "2h"})
    assert message.startswith(f"REAPER_STALL_SECONDS and {PROTEA_STALL} mean the same threshold and differ")


@pytest.mark.parametrize(
    ("host", "port", "exposed"),
    [
        ("127.0.0.1", "9469", False),
        ("::1", "9469", False),
        ("localhost", "9469", False),
        ("0.0.0.0", "9469", True),
        ("::", "9469", True),
        ("example.org", "9469", True),
        ("0.0.0.0", "0", False),
    ],
)
def test_http_port_is_exposed_unless_it_is_local_or_off(host: str, port: str, exposed: bool) -> None:
    assert load({}, {"REAPER_HTTP_HOST": host, "REAPER_HTTP_PORT": port}).http_exposed is exposed


def test_described_settings_show_each_value_with_its_origin_and_no_secret() -> None:
    write(THRESHOLDS + '[kinds."a.b"]\nstall_seconds = 100000')
    settings = load({}, {"REAPER_RESTART_GRACE": "90"})
    rows = {name: (value, origin) for name, value, origin in settings.described()}
    assert "hunter2" not in f"{rows} {settings!r} {settings}"
    assert set(rows) == set(settings.origins)
    assert rows["config"] == ("config/reaper.toml", "default")
    assert rows["restart_grace"] == ("1m 30s", "REAPER_RESTART_GRACE")
    assert rows["sources.main.database_url"] == (
        "postgresql+psycopg://u:***@db/app",
        "config/reaper.toml:2",
    )
    assert rows['sources.main.kinds."a.b".stall_seconds'] == ("100000s", "kind a.b (config/reaper.toml:17)")
    durations = {value for name, (value, _) in rows.items() if name.endswith("_seconds") and value != "none"}
    assert {parse_duration(value) for value in durations} >= {3600, 7200, 14400, 100000}

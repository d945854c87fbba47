"""Settings: what is accepted, what is refused and in which words, what wins, and what is never shown."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import make_url

from reaper.common.durations import format_duration, parse_duration
from reaper.config import Settings, SourceSettings, broker_url, file, load
from reaper.config.database_url import connection_identity, database_location, mask_database_url, normalise_database_url
from reaper.config.schema import SCALAR_SETTINGS
from reaper.config.settings import PurgeSettings
from reaper.config.toml_lines import line_index
from reaper.daemon.reload import needs_rebuild
from reaper.database.timeouts import Timeouts
from reaper.errors import ConfigError
from reaper.model import Threshold
from reaper.source import Source

SHIPPED = Path(__file__).parents[2] / "config" / "reaper.toml"
URL = "postgresql://u:hunter2@db/app"
BROKER = "redis://:hunter2@broker:6379/0"
PROTEA_TIMEOUT = "PROTEA_TUNING__WORKER__REAPER_MAIN_TIMEOUT_SECONDS"
PROTEA_STALL = "PROTEA_TUNING__WORKER__REAPER_STALL_SECONDS"


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a `config` folder: no file of the project or the machine is found."""
    (tmp_path / "config").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(file, "SEARCHED", (Path("config/reaper.toml"), tmp_path / "etc" / "reaper.toml"))
    return tmp_path


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


# Defaults and precedence


def test_without_anything_given_the_defaults_hold_and_there_is_no_source() -> None:
    settings = load({}, {})
    assert settings == Settings(origins=settings.origins)
    assert (settings.interval_seconds, settings.timeout_seconds, settings.stall_seconds) == (60, 21600, 1800)
    assert (settings.batch_size, settings.breaker_min, settings.breaker_share) == (1000, 50, 0.5)
    assert (settings.restart_grace_seconds, settings.statement_timeout_seconds) == (60, 300)
    assert (settings.http_host, settings.http_port, settings.connect_timeout_seconds) == ("127.0.0.1", 9469, 5)
    assert (settings.log_level, settings.log_format, settings.log_file) == ("info", "auto", None)
    assert settings.sources == {}
    assert set(settings.origins.values()) == {"default"}


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() -> None:
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
def test_every_variable_is_read(variable: str, text: str, name: str, value: object) -> None:
    settings = load({}, {variable: text})
    assert getattr(settings, name) == value
    assert settings.origins[name.replace("grace_seconds", "grace")] == variable


def test_the_environment_of_the_process_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REAPER_BATCH_SIZE", "17")
    assert load().batch_size == 17
    assert load({}, {}).batch_size == 1000


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load({}, {}).batch_size = 3  # type: ignore[misc]


def test_a_stall_window_longer_than_the_timeout_is_legal() -> None:
    assert load({}, {"REAPER_TIMEOUT_SECONDS": "1m", "REAPER_STALL_SECONDS": "1h"}).stall_seconds == 3600


# What is refused


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("timeout_seconds", text) for text in ("0", "-1", "11y", "3651d", "nan", "inf", "6 hours", "1e3")),
        *(("stall_seconds", text) for text in ("0", "-5m", "30m1h", "true", "9" * 400)),
        *(("interval_seconds", text) for text in ("0", "0.5", "8d")),
        *(("batch_size", text) for text in ("0", "-1", "100001", "1.5", "many", "9" * 5000)),
        *(("breaker_min", text) for text in ("0", "-1")),
        *(("breaker_share", text) for text in ("0", "1.1", "-0.5", "nan", "half")),
        *(("restart_grace", text) for text in ("-1", "2d")),
        *(("http_port", text) for text in ("-1", "65536", "http")),
        *(("http_host", text) for text in ("*", "127.0.0.1:80", "http://x", "1.2.3.400", "a b")),
        ("log_level", "inf"),
        ("log_format", "xml"),
        ("statement_timeout_seconds", "0"),
        ("connect_timeout_seconds", "0"),
        ("log_file", "file://x"),
        ("action", "redis://x"),
        *(("max_age_seconds", text) for text in ("0", "-1", "3651d", "old")),
        *(("broker_deadline_seconds", text) for text in ("0", "0.4", "61", "1h", "soon")),
        *(("queues", text) for text in (",", "a,", "a,,b", "amqp://q")),
        *(("resume_window_seconds", text) for text in ("0", "0.9", "25h", "nan")),
        *(("resume_at_start", text) for text in ("1", "yes", "ture")),
    ],
)
def test_absurd_values_are_refused_in_the_environment_and_in_the_file(name: str, text: str) -> None:
    variable = f"REAPER_{name.upper()}"
    assert problem({variable: text}).startswith(f"{variable}: ")
    write(f'# a comment\n\n{name} = "{text}"')
    assert problem().startswith(f"config/reaper.toml:3: {name}: ")


@pytest.mark.parametrize(
    "line",
    [
        *(f"timeout_seconds = {v}" for v in ("true", "nan", "inf", "-1", "0", "0.0", "[]", "{}", "1979-05-27")),
        *(f"batch_size = {v}" for v in ("true", "1.0", '"5"', "0")),
        *(f"breaker_share = {v}" for v in ("true", '"half"', "nan")),
        *(f"{n} = {v}" for n in ("http_host", "profile", "log_file", "database_url") for v in ("3", '""', "[]")),
        *(f"{section} = 3" for section in ("kinds", "sources", "profiles")),
        *(f"{section}.x = 3" for section in ("kinds", "sources", "profiles")),
        "database_url_file = true",
        *(f"queues = {v}" for v in ('"celery"', "[]", "[3]", '[""]', "true", "{}")),
        *(f"resume_at_start = {v}" for v in ("1", '"yes"', "[]")),
        *(f"{n} = {v}" for n in ("action", "broker_url", "broker_url_file") for v in ("3", '""', "[]")),
        *(f"{n} = true" for n in ("max_age_seconds", "broker_deadline_seconds", "resume_window_seconds")),
    ],
)
def test_wrong_types_in_the_file_are_refused_with_their_line(line: str) -> None:
    write(f"\n{line}\n")
    name = line.partition(" = ")[0]
    assert problem().startswith(f"config/reaper.toml:2: {name}: expected ")


def test_a_name_that_is_not_known_is_refused_with_the_nearest_one() -> None:
    write('stall = "3m"\n[kinds.a]\ntimeout = 3\n[sources.m]\ndatabase_ulr = "x"\ndatabase_url = "postgresql:///x"\n')
    assert problems({"REAPER_TIMOUT_SECONDS": "3", "REAPER_GIBBERISH": "3"}, bacth_size=3) == (
        "REAPER_TIMOUT_SECONDS: unknown variable; did you mean 'REAPER_TIMEOUT_SECONDS'?",
        problems({"REAPER_GIBBERISH": "1"})[0],
        "--bacth-size: unknown name; did you mean 'batch_size'?",
        "config/reaper.toml:1: stall: unknown name; did you mean 'stall_seconds'?",
        "config/reaper.toml:3: kinds.a.timeout: unknown name; did you mean 'timeout_seconds'?",
        "config/reaper.toml:5: sources.m.database_ulr: unknown name; did you mean 'database_url'?",
    )
    assert (
        "REAPER_GIBBERISH: unknown variable; expected one of: REAPER_ACTION, REAPER_BATCH_SIZE, "
        in problems({"REAPER_GIBBERISH": "1"})[0]
    )


def test_each_setting_has_one_spelling() -> None:
    write('Batch_Size = 3\nrestart_grace_seconds = 3\n_env_file = ".env"')
    assert [line.split(":")[2] for line in problems()] == [" Batch_Size", " restart_grace_seconds", " _env_file"]


def test_a_setting_below_a_section_is_told_where_it_belongs() -> None:
    write('database_url = "postgresql:///x"\n[sources.main]\nbatch_size = 3')
    assert "stands above the first [section]" in problem()


def test_a_kind_with_dots_is_told_about_quotes() -> None:
    write("[kinds.app.tasks]\nstall_seconds = 3")
    assert '[kinds."app.tasks"]' in problem()
    write('[kinds."app.tasks"]\nstall_seconds = 3')
    assert load({}, {}).sources == {}


def test_variables_of_others_are_none_of_our_business() -> None:
    kubernetes = {
        "REAPER_SERVICE_HOST": "10.0.0.1",
        "REAPER_SERVICE_PORT": "9469",
        "REAPER_SERVICE_PORT_METRICS": "9469",
        "REAPER_PORT": "tcp://10.0.0.1:9469",
        "REAPER_PORT_9469_TCP": "tcp://10.0.0.1:9469",
        "REAPER_PORT_9469_TCP_ADDR": "10.0.0.1",
    }
    load({}, {"PROTEA_TUNING__WORKER__OTHER": "x", "REAPERS": "x", "REAPER_EMPTY": "", **kubernetes})


def test_protea_names_and_our_own_must_agree() -> None:
    assert load({}, {PROTEA_STALL: "1h", "REAPER_STALL_SECONDS": "3600"}).stall_seconds == 3600
    told = problem({PROTEA_STALL: "1h", "REAPER_STALL_SECONDS": "2h"})
    assert told.startswith(f"REAPER_STALL_SECONDS and {PROTEA_STALL} mean the same threshold and differ")


def test_everything_wrong_is_told_at_once() -> None:
    write('batch_size = 0\nlog_level = "x"\n[sources.a]\nprofile = "protae"\n[profiles.p]\nextends = "protea"\nx = 1')
    told = problems({"REAPER_HTTP_PORT": "x", "REAPER_NO": "1", "CREDENTIALS_DIRECTORY": "nowhere"}, timeout_seconds=0)
    assert [line.partition(": ")[0] for line in told] == [
        "REAPER_NO",
        "--older-than",
        "REAPER_HTTP_PORT",
        "config/reaper.toml:1",
        "config/reaper.toml:2",
        "config/reaper.toml:7",
        "config/reaper.toml:4",
        "config/reaper.toml:3",
    ]


# The file


def test_a_file_that_is_named_must_exist() -> None:
    assert problem({"REAPER_CONFIG": "no.toml"}) == "REAPER_CONFIG: cannot read no.toml: No such file or directory"
    assert problem({}, config=Path("no.toml")).startswith("--config: cannot read no.toml")
    assert problem({"REAPER_CONFIG": "config"}).startswith("REAPER_CONFIG: cannot read config")


def test_a_named_file_is_read_instead_of_the_usual_one() -> None:
    write("batch_size = 1")
    write("batch_size = 2", "other.toml")
    write("batch_size = 3", "flag.toml")
    assert load({}, {}).batch_size == 1
    settings = load({}, {"REAPER_CONFIG": "other.toml"})
    assert (settings.batch_size, settings.config_file) == (2, Path("other.toml"))
    assert settings.origins["config"] == "REAPER_CONFIG"
    assert load({"config": "flag.toml"}, {"REAPER_CONFIG": "other.toml"}).batch_size == 3


def test_the_system_wide_file_is_read_when_there_is_none_here(working_directory: Path) -> None:
    (working_directory / "etc").mkdir()
    write("batch_size = 4", "etc/reaper.toml")
    assert load({}, {}).batch_size == 4
    write("batch_size = 5")
    assert load({}, {}).batch_size == 5


def test_a_file_that_is_there_but_cannot_be_read_is_never_passed_over() -> None:
    Path("config/reaper.toml").symlink_to("gone.toml")
    assert problem() == "config/reaper.toml: cannot read config/reaper.toml: No such file or directory"


def test_a_wrong_value_is_told_even_where_a_stronger_one_hides_it() -> None:
    write("batch_size = 0")
    assert problem({"REAPER_BATCH_SIZE": "5"}).startswith("config/reaper.toml:1: batch_size: ")


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"a = 1\nb = \n", ":2: not valid TOML: "),
        (b"a = 1\na = 2", ":2: not valid TOML: "),
        (b'a = 1\nb = "x', ":2: not valid TOML: "),
        (b"a = 1\n\xff", ":2: not UTF-8 text"),
        (b"a = " + b"[" * 100_000, ": not valid TOML: "),
        (b"a = " + b"9" * 5000, ": not valid TOML: "),
    ],
)
def test_a_file_that_cannot_be_parsed_is_named_with_the_line(content: bytes, where: str) -> None:
    Path("config/reaper.toml").write_bytes(content)
    assert re.match(rf"config/reaper\.toml{re.escape(where)}", problem())


def test_windows_line_ends_and_a_byte_order_mark_are_read() -> None:
    Path("config/reaper.toml").write_bytes(b"\xef\xbb\xbfhttp_port = 1\r\nbatch_size = 0\r\n")
    assert problem().startswith("config/reaper.toml:2: batch_size: ")


def test_every_place_of_a_document_is_found_on_its_line() -> None:
    text = '''a = 1
# [x]
s = """
[not.a.table]
k = 1
"""
list = [
  1, # ]
  { x = 1 },
]

[ t . "u.v" ] # comment
k.l = { m = 1, "n" = 2 }
[[arr]]
x = 1
[[arr.sub]]
[[arr]]
[arr.inner]
y = 'a#b'
'''
    found = line_index(text)
    assert found == {
        ("a",): 1,
        ("s",): 3,
        ("list",): 7,
        ("list", "0"): 7,
        ("list", "1"): 7,
        ("list", "1", "x"): 7,
        ("t", "u.v"): 12,
        ("t", "u.v", "k"): 13,
        ("t", "u.v", "k", "l"): 13,
        ("t", "u.v", "k", "l", "m"): 13,
        ("t", "u.v", "k", "l", "n"): 13,
        ("arr", "0"): 14,
        ("arr", "0", "x"): 15,
        ("arr", "0", "sub", "0"): 16,
        ("arr", "1"): 17,
        ("arr", "1", "inner"): 18,
        ("arr", "1", "inner", "y"): 19,
    }


# Sources and their databases


def test_a_url_alone_makes_one_source_called_default() -> None:
    settings = load({}, {"REAPER_DATABASE_URL": URL})
    (source,) = settings.sources.values()
    assert source.name == "default"
    assert source.database_url.get_secret_value() == "postgresql+psycopg://u:hunter2@db/app"
    assert source.profile.name == "protea"
    assert source.thresholds.timeout == Threshold(21600, "default")
    assert settings.origins["sources.default.database_url"] == "REAPER_DATABASE_URL"


def test_sources_without_a_url_take_the_common_one_and_profiles_may_be_our_own() -> None:
    write(f"""
        database_url = "{URL}"
        profile = "mine"
        [sources.a]
        [sources.b]
        profile = "protea"
        [sources.c]
        database_url = "postgres://x/y"
        [profiles.mine]
        extends = "protea"
        jobs.running.in = ["RUNNING"]
        actions.fail.set.status = "FAILED"
    """)
    sources = load({}, {}).sources
    assert [(s.name, s.profile.name, make_url(s.database_url.get_secret_value()).host) for s in sources.values()] == [
        ("a", "mine", "db"),
        ("b", "protea", "db"),
        ("c", "mine", "x"),
    ]
    running = sources["a"].profile.jobs.running
    assert running is not None
    assert running.values == ("RUNNING",)


def test_a_source_without_any_database_is_told_how_to_get_one() -> None:
    write("\n[sources.main]\n")
    told = problem()
    assert told.startswith("config/reaper.toml:2: sources.main: no database; ")
    for way in ("database_url_file", "REAPER_DATABASE_URL", "REAPER_DATABASE_URL_FILE", "main.database_url"):
        assert way in told


def test_two_sources_that_are_one_are_refused() -> None:
    write(f'[sources.a]\ndatabase_url = "{URL}"\n[sources.b]\ndatabase_url = "postgres://u:other@DB:5432/app"\n')
    assert problem() == (
        "config/reaper.toml:3: sources.b: the same database and profile as source 'a' (config/reaper.toml:1); "
        "drop one of them"
    )


def test_an_unknown_profile_is_told_once_with_the_nearest_name() -> None:
    nearest = "there is no profile 'prota'; did you mean 'protea'?"
    assert problem({"REAPER_PROFILE": "prota"}) == f"REAPER_PROFILE: {nearest}"
    write('[sources.a]\ndatabase_url = "postgresql:///a"\n[sources.b]\ndatabase_url = "postgresql:///b"')
    assert problem({"REAPER_PROFILE": "prota"}) == f"REAPER_PROFILE: {nearest}"
    write('[sources.a]\ndatabase_url = "postgresql:///a"\nprofile = "prota"')
    assert problem() == f"config/reaper.toml:3: {nearest}"


def test_a_wrong_profile_is_told_with_its_lines_even_when_unused() -> None:
    write("""[profiles.mine]
extends = "protea"
[profiles.mine.jobs]
tabel = "x"
[[profiles.mine.alive]]
witness = "a"
column = "c"
[[profiles.mine.alive]]
witness = "b"
events = { job = ["id"] }
[profiles.other]
extends = "minee"
""")
    assert problems() == (
        "config/reaper.toml:4: profile 'mine': jobs.tabel: unknown name; did you mean 'table'?",
        "config/reaper.toml:10: profile 'mine': alive.1.events.table: missing",
        "config/reaper.toml:10: profile 'mine': alive.1.events.at: missing",
        "config/reaper.toml:12: unknown profile 'minee'; did you mean 'mine'?",
    )


# Thresholds


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


def test_the_most_specific_threshold_counts_and_says_where_it_stands() -> None:
    write(THRESHOLDS)
    sources = load({}, {"REAPER_STALL_SECONDS": "9m"}).sources
    main, other = sources["main"].thresholds, sources["other"].thresholds
    assert main.timeout_of("embed") == Threshold(14400, "kind embed of source main (config/reaper.toml:12)")
    assert main.stall_of("embed") == Threshold(180, "kind embed (config/reaper.toml:6)")
    assert main.timeout_of("x") == Threshold(7200, "source main (config/reaper.toml:9)")
    assert main.stall_of(None) == Threshold(540, "REAPER_STALL_SECONDS")
    assert other.timeout_of("embed") == Threshold(10800, "kind embed (config/reaper.toml:5)")
    assert other.timeout_of("x") == Threshold(3600, "config/reaper.toml:1")


def test_a_timeout_given_as_a_flag_is_above_every_other() -> None:
    write(THRESHOLDS)
    settings = load({"timeout_seconds": "5m"}, {"REAPER_TIMEOUT_SECONDS": "9h"})
    for source in settings.sources.values():
        for kind in ("embed", "x", None):
            assert source.thresholds.timeout_of(kind) == Threshold(300, "--older-than")
        assert source.thresholds.stall_of("embed").seconds == 180
    assert settings.origins["timeout_seconds"] == "--older-than"


# How a source is dealt with


def sources(text: str, environ: Mapping[str, str] | None = None, **flags: object) -> Mapping[str, SourceSettings]:
    write(text)
    return load(flags, environ or {}).sources


def test_what_a_source_does_not_say_about_itself_is_the_default() -> None:
    source = sources(f'[sources.main]\ndatabase_url = "{URL}"')["main"]
    assert (source.action, source.max_age_seconds, source.broker) == ("fail", None, None)
    assert (source.broker_deadline_seconds, source.queues) == (5, ("celery",))
    assert source.worker_absence_seconds == 300
    assert (source.resume_at_start, source.resume_window_seconds) == (False, 300)
    assert source.purge == PurgeSettings(cron=None, days_to_keep=30, batch_size=1000)
    made = SourceSettings("main", source.database_url, source.profile, source.thresholds)
    assert made == source


@pytest.mark.parametrize(
    ("name", "in_file", "in_variable", "expected"),
    [
        ("action", ('"fail"', '"drop"'), "drop", ("drop", "fail")),
        ("max_age_seconds", ('"1d"', "60"), "2h", (7200, 86400)),
        ("broker_deadline_seconds", ("0.5", '"60s"'), "1.5", (1.5, 0.5)),
        ("worker_absence_seconds", ("0", '"10m"'), "90", (90, 0)),
        ("queues", ('["a", " b "]', '["c"]'), " x, y ", (("x", "y"), ("a", "b"))),
        ("resume_at_start", ("false", "false"), "TRUE", (True, False)),
        ("resume_window_seconds", ('"1d"', "1"), "90", (90, 86400)),
    ],
)
def test_a_sources_own_word_is_above_the_one_for_all(
    name: str, in_file: tuple[str, str], in_variable: str, expected: tuple[object, object]
) -> None:
    text = f"""
        {name} = {in_file[1]}
        database_url = "{URL}"
        profile = "mine"
        [sources.own]
        {name} = {in_file[0]}
        [sources.other]
        database_url = "postgresql:///other"
        [profiles.mine]
        extends = "protea"
        actions.drop.set.status = "dropped"
    """
    write(text)
    variable = f"REAPER_{name.upper()}"
    settings = load({}, {variable: in_variable})
    assert (getattr(settings.sources["other"], name), getattr(settings.sources["own"], name)) == expected
    assert settings.origins[f"sources.other.{name}"] == variable
    assert settings.origins[f"sources.own.{name}"] == "config/reaper.toml:6"
    assert load({}, {}).origins[f"sources.other.{name}"] == "config/reaper.toml:2"
    flagged = load({name: in_variable}, {})
    assert getattr(flagged.sources["own"], name) == expected[0]
    assert flagged.origins[f"sources.own.{name}"] == f"--{name.replace('_', '-')}"


def test_an_action_that_the_profile_does_not_have_is_told_once_with_the_nearest_one() -> None:
    nearest = "profile 'protea' has no action 'fial'; did you mean 'fail'?"
    write('[sources.a]\ndatabase_url = "postgresql:///a"\n[sources.b]\ndatabase_url = "postgresql:///b"')
    assert problem({"REAPER_ACTION": "fial"}) == f"REAPER_ACTION: {nearest}"
    write('[sources.a]\ndatabase_url = "postgresql:///a"\naction = "fial"')
    assert problem() == f"config/reaper.toml:3: {nearest}"
    write('[sources.a]\ndatabase_url = "postgresql:///a"\naction = "xyz"')
    assert problem() == "config/reaper.toml:3: profile 'protea' has no action 'xyz'; expected one of: fail"
    write('[sources.a]\ndatabase_url = "postgresql:///a"\naction = "dlete"\nprofile = "adhese"')
    assert problem() == "config/reaper.toml:3: profile 'adhese' has no action 'dlete'; did you mean 'delete'?"


def test_a_profile_that_asks_workers_wants_a_broker_and_says_how_to_give_one() -> None:
    message = "profile 'vuls' asks Celery's workers, and no broker is given; give broker_url or broker_url_file"
    write('[sources.main]\ndatabase_url = "postgresql:///a"\nprofile = "vuls"')
    told = problem()
    assert told.startswith(f"config/reaper.toml:1: sources.main: {message} here or above the first [section], ")
    assert told.endswith("REAPER_BROKER_URL, REAPER_BROKER_URL_FILE, or the credential main.broker_url")
    write("")
    environ = {"REAPER_DATABASE_URL": URL, "REAPER_PROFILE": "vuls"}
    alone = problem(environ)
    assert alone.startswith(f"REAPER_PROFILE: {message}, REAPER_BROKER_URL, ")
    assert alone.endswith("or the credential broker_url")
    # One that is wrong is told as such, not as missing.
    assert problem({**environ, "REAPER_BROKER_URL": "x"}).startswith("REAPER_BROKER_URL: expected a")
    assert load({}, {**environ, "REAPER_BROKER_URL": BROKER}).sources["default"].broker is not None


def broker_of(settings: Settings, source: str) -> tuple[str | None, str]:
    broker = settings.sources[source].broker
    return broker.get_secret_value() if broker else None, settings.origins[f"sources.{source}.broker_url"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://s3cretpw@host/0", "redis://***@host/0"),
        ("rediss://s3cretpw:@host/0", "rediss://***@host/0"),
        ("redis+socket://s3cretpw@/run/redis.sock", "redis+socket://***@/run/redis.sock"),
        ("sentinel://s3cretpw@a:1;sentinel://s3cretpw@b:2", "sentinel://***@a:1;sentinel://***@b:2"),
        ("redis://someone:s3cretpw@host/0", "redis://someone:***@host/0"),
        ("redis://host/0", "redis://host/0"),
        ("amqp://someone@host//", "amqp://someone@host//"),
    ],
)
def test_a_password_that_stands_where_redis_has_a_user_is_not_shown(url: str, shown: str) -> None:
    assert broker_url.mask_broker_url(broker_url.normalise_broker_url(url)) == shown


def test_a_broker_is_found_wherever_a_database_would_be() -> None:
    Path("credentials").mkdir()
    write("redis://common", "credentials/broker_url")
    write("redis://main\n", "credentials/main.broker_url")
    write("redis://own", "secret")
    write(f"""
        broker_url = "redis://file"
        database_url = "{URL}"
        [sources.main]
        [sources.b]
        database_url = "postgresql:///b"
        [sources.c]
        database_url = "postgresql:///c"
        broker_url_file = "secret"
        [sources.d]
        database_url = "postgresql:///d"
        broker_url = "{BROKER}"
    """)
    environ = {"CREDENTIALS_DIRECTORY": "credentials"}
    settings = load({}, environ)
    assert {name: broker_of(settings, name) for name in settings.sources} == {
        "main": ("redis://main", "credential main.broker_url"),
        "b": ("redis://common", "credential broker_url"),
        "c": ("redis://own", "config/reaper.toml:9 (secret)"),
        "d": (BROKER, "config/reaper.toml:12"),
    }
    assert broker_of(load({}, environ | {"REAPER_BROKER_URL": BROKER}), "b") == (BROKER, "REAPER_BROKER_URL")
    own = load({}, {"REAPER_BROKER_URL_FILE": "secret"})
    assert broker_of(own, "b") == ("redis://own", "REAPER_BROKER_URL_FILE (secret)")
    assert broker_of(load({}, {}), "main") == ("redis://file", "config/reaper.toml:2")
    write(f'[sources.main]\ndatabase_url = "{URL}"')
    assert broker_of(load({}, {}), "main") == (None, "default")


def test_a_brokers_file_or_credential_that_is_wrong_is_refused_by_name() -> None:
    Path("credentials").mkdir()
    write("http://:hunter2@x", "credentials/mian.broker_url")
    write("http://:hunter2@x", "secret")
    write(f'[sources.main]\ndatabase_url = "{URL}"\nbroker_url = "{BROKER}"\nbroker_url_file = "secret"')
    told = problems({"CREDENTIALS_DIRECTORY": "credentials", "REAPER_BROKER_URL_FILE": "secret"})
    assert told == (
        "config/reaper.toml:3: sources.main.broker_url: config/reaper.toml:4 gives the URL too; keep one of the two",
        "credential mian.broker_url: there is no such source; did you mean 'main.broker_url'?",
    )
    write(f'[sources.main]\ndatabase_url = "{URL}"\nbroker_url_file = "secret"')
    assert problem().startswith("config/reaper.toml:3 (secret): http:// is no broker whose workers can be asked; ")


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://h:6379/0",
        "rediss://u:hunter2@h/0?ssl_cert_reqs=required",
        "redis+socket://:hunter2@/run/redis.sock?virtual_host=1",
        "redis://:hunter2@[::1]:6379/1",
        "amqp://u:p%40%2F%3A@h:5672//",
        "amqps://u:hunter2@h/app",
        "pyamqp://",
        "sentinel://:hunter2@a:26379;sentinel://:hunter2@b:26379",
        "amqp://u:hunter2@a//;amqp://u:hunter2@b//",
    ],
)
def test_a_broker_is_read_by_kombu_as_it_was_meant_and_shown_without_its_password(url: str) -> None:
    kombu = pytest.importorskip("kombu")
    normal = broker_url.normalise_broker_url(f" {url}\n")
    assert normal == url
    with kombu.Connection(normal) as connection:
        assert connection.transport_cls == url.partition(":")[0].partition("+")[0]
    assert "hunter2" not in broker_url.mask_broker_url(normal)
    settings = load({}, {"REAPER_DATABASE_URL": URL, "REAPER_BROKER_URL": url})
    rows = {name: value for name, value, _ in settings.described()}
    assert (
        rows["sources.default.broker_url"]
        == broker_url.mask_broker_url(url)
        == url.replace("hunter2", "***").replace("p%40%2F%3A", "***")
    )
    assert "hunter2" not in f"{rows} {settings!r} {settings}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("hunter2", "expected a URL such as redis://"),
        ("broker:6379/hunter2", "expected a URL such as redis://"),
        ("rediz://:hunter2@h", "rediz:// is no broker whose workers can be asked; did you mean 'redis'?"),
        ("ampq://u:hunter2@h", "did you mean 'amqp'?"),
        ("sqs://u:hunter2@", "sqs:// is no broker whose workers can be asked; expected one of: amqp, amqps, "),
        ("hunter 2://h", "the URL's scheme cannot be read; expected one of: amqp, "),
        ("redis://u:hunter2 @h", "a blank or a control character"),
        ("redis://u:a/hunter2@h:1/0", "the URL cannot be read"),
        ("redis://u:12/hunter2@h:1/0", "the URL cannot be read"),
        ("redis://u:12?hunter2@h:1/0", "the URL cannot be read"),
        ("redis://u:12#hunter2", "the URL cannot be read"),
        ("redis://u:x@hunter2@h", "the URL cannot be read"),
        ("redis://u:hunter2", "the URL cannot be read"),
        ("redis://:hunter2@h:99999", "the URL cannot be read"),
        ("redis://:hunter2@h:0", "the URL cannot be read"),
        ("redis://:hunter2@[::1", "the URL cannot be read"),
        ("redis://:hun;ter2hunter2@h", "the URL cannot be read"),
        ("redis://a;hunter2", "expected a URL such as redis://"),
    ],
)
def test_no_refusal_shows_any_part_of_a_brokers_url_but_its_scheme(url: str, expected: str) -> None:
    told = problem({"REAPER_BROKER_URL": url})
    assert told.startswith("REAPER_BROKER_URL: ")
    assert expected in told
    write(f'[sources.s]\ndatabase_url = "{URL}"\nbroker_url = "{url}"')
    assert problem().startswith("config/reaper.toml:3: sources.s.broker_url: ")


def purge(lines: str) -> str:
    """A source of a profile that says which jobs are finished."""
    above = f'broker_url = "{BROKER}"\nprofile = "vuls"'
    return f'{above}\n[sources.main]\ndatabase_url = "{URL}"\n[sources.main.purge]\n{lines}'


def test_a_purge_of_a_profile_that_knows_no_finished_jobs_is_refused() -> None:
    write(f'[sources.main]\ndatabase_url = "{URL}"\nprofile = "adhese"\n[sources.main.purge]\ndays_to_keep = 3')
    assert problem() == (
        "config/reaper.toml:4: sources.main.purge: profile 'adhese' does not say which jobs are finished, "
        "so that none can be purged"
    )


def test_a_purge_is_described_with_its_origins() -> None:
    write(purge('cron = "30 3 * * 0"\ndays_to_keep = 3650'))
    settings = load({}, {})
    rows = {name.removeprefix("sources.main.purge."): (value, origin) for name, value, origin in settings.described()}
    assert rows["cron"] == ("30 3 * * 0", "config/reaper.toml:6")
    assert rows["days_to_keep"] == ("3650", "config/reaper.toml:7")
    assert rows["batch_size"] == ("1000", "default")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        *((f"{n} = {v}", "expected a whole number from 1 to") for n in ("days_to_keep", "batch_size") for v in (0, -1)),
        ("days_to_keep = 3651", "expected a whole number from 1 to 3650"),
        ("batch_size = 100001", "expected a whole number from 1 to 100000"),
        ('days_to_keep = "30"', "expected a whole number"),
        ("batch_size = true", "expected a whole number"),
        ("cron = 3", "expected text, not 3"),
        ("days_to_kepp = 3", "unknown name; did you mean 'days_to_keep'?"),
        ("queues = []", "unknown name here; queues stands in [sources.NAME], or above the first [section] for all"),
    ],
)
def test_a_wrong_purge_is_refused_with_its_line(line: str, expected: str) -> None:
    write(purge(line))
    assert problem().startswith(f"config/reaper.toml:6: sources.main.purge.{line.partition(' ')[0]}: {expected}")


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("purge.cron = 3", "purge", "unknown name"),
        ("days_to_keep = 3", "days_to_keep", "unknown name here; days_to_keep stands in [sources.NAME.purge]"),
        ("[sources.m]\ncron = 3", "sources.m.cron", "unknown name here; cron stands in [sources.m.purge]"),
        ("[kinds.x]\naction = 3", "kinds.x.action", "unknown name here; action stands in [sources.NAME], or above"),
        ("[sources.m]\nbroker_ulr = 3", "sources.m.broker_ulr", "unknown name; did you mean 'broker_url'?"),
        ("[sources.m]\nmax_age = 3", "sources.m.max_age", "unknown name; did you mean 'max_age_seconds'?"),
        ("quues = []", "quues", "unknown name; did you mean 'queues'?"),
    ],
)
def test_a_setting_in_the_wrong_place_is_told_where_it_belongs(text: str, place: str, expected: str) -> None:
    write(text)
    told = problems({"REAPER_DATABASE_URL": URL})
    line = text.count("\n") + 1
    assert [one for one in told if one.startswith(f"config/reaper.toml:{line}: {place}: {expected}")] == list(told)


@pytest.mark.parametrize(
    "line",
    [
        'action = "drop"',
        'broker_url = "redis://:other@broker:6379/0"',
        "broker_deadline_seconds = 2",
        'queues = ["mail"]',
        "max_age_seconds = 60",
        "resume_at_start = true",
        'resume_window_seconds = "1m"',
        'purge.cron = "0 3 * * *"',
        "purge.days_to_keep = 31",
        "purge.batch_size = 999",
    ],
)
def test_a_change_of_any_of_them_is_a_change_of_the_source_and_of_no_other(line: str) -> None:
    common = f"""
        [sources.other]
        database_url = "postgresql:///other"
        [profiles.mine]
        extends = "protea"
        actions.drop.set.status = "dropped"
        purge = {{ where = [{{ column = "status", in = ["failed"] }}], at = ["finished_at"] }}
        [sources.main]
        profile = "mine"
        database_url = "{URL}"
    """
    before = f'broker_url = "{BROKER}"'
    after = line if line.startswith("broker_url") else f"{before}\n{line}"

    def settings(text: str) -> Settings:
        write(common + text)
        return load({}, {})

    old, same, fresh = settings(before), settings(f"{before}\n\n"), settings(after)
    assert not needs_rebuild("main", old, same)
    assert needs_rebuild("main", old, fresh)
    assert not needs_rebuild("other", old, fresh)


# Secrets


def test_a_url_may_stand_in_a_file_of_its_own() -> None:
    write(f"{URL}\n\n", "secret")
    settings = load({}, {"REAPER_DATABASE_URL_FILE": "secret"})
    assert settings.sources["default"].database_url.get_secret_value().endswith("hunter2@db/app")
    assert settings.origins["sources.default.database_url"] == "REAPER_DATABASE_URL_FILE (secret)"
    write('[sources.main]\ndatabase_url_file = "secret"')
    assert load({}, {}).origins["sources.main.database_url"] == "config/reaper.toml:2 (secret)"


def test_a_secret_that_is_missing_empty_or_wrong_is_refused_by_name() -> None:
    write(" \n", "empty")
    write("oracle://u:hunter2@h/d", "wrong")
    Path("binary").write_bytes(b"\xff")
    for path, message in {
        "none": "cannot read none: No such file or directory",
        "config": "cannot read config: Is a directory",
        "empty": "empty is empty",
        "binary": "binary is not UTF-8 text",
        "wrong": "expected postgresql://, postgres://, postgresql+psycopg://, mariadb:// or mysql://, not oracle://",
    }.items():
        environ = {"REAPER_DATABASE_URL_FILE": path}
        assert problem(environ) == f"REAPER_DATABASE_URL_FILE ({path}): {message}"
    assert problem({"REAPER_DATABASE_URL_FILE": URL}).startswith("REAPER_DATABASE_URL_FILE: expected the path")


def test_a_secret_file_that_does_not_count_is_not_read() -> None:
    write('database_url_file = "none"')
    assert load({}, {"REAPER_DATABASE_URL": URL}).sources


def test_a_url_and_its_file_in_one_place_contradict_each_other() -> None:
    write(URL, "secret")
    told = problem({"REAPER_DATABASE_URL": URL, "REAPER_DATABASE_URL_FILE": "secret"})
    assert told == "REAPER_DATABASE_URL: REAPER_DATABASE_URL_FILE gives the URL too; keep one of the two"
    write(f'[sources.main]\ndatabase_url = "{URL}"\ndatabase_url_file = "secret"')
    assert problem().startswith("config/reaper.toml:2: sources.main.database_url: config/reaper.toml:3 gives")


def test_credentials_of_systemd_are_used_below_the_environment_and_above_the_file() -> None:
    Path("credentials").mkdir()
    environ = {"CREDENTIALS_DIRECTORY": "credentials"}
    write("postgresql://common/x\n", "credentials/database_url")
    write("postgresql://main/x\n", "credentials/main.database_url")
    write('database_url = "postgresql://file/x"\n[sources.main]\ndatabase_url = "postgresql:///y"\n[sources.b]')

    def hosts(environ: Mapping[str, str]) -> dict[str, tuple[str | None, str]]:
        settings = load({}, environ)
        return {
            name: (
                make_url(source.database_url.get_secret_value()).host,
                settings.origins[f"sources.{name}.database_url"],
            )
            for name, source in settings.sources.items()
        }

    assert hosts(environ) == {
        "main": ("main", "credential main.database_url"),
        "b": ("common", "credential database_url"),
    }
    assert hosts(environ | {"REAPER_DATABASE_URL": URL})["b"] == ("db", "REAPER_DATABASE_URL")
    write("", "credentials/database_url")
    assert problem(environ) == "credential database_url: credentials/database_url is empty"


def test_a_credential_for_no_source_is_refused() -> None:
    Path("credentials").mkdir()
    write("postgresql://main/x", "credentials/mian.database_url")
    write(f'[sources.main]\ndatabase_url = "{URL}"')
    told = problem({"CREDENTIALS_DIRECTORY": "credentials"})
    assert told == "credential mian.database_url: there is no such source; did you mean 'main.database_url'?"


def test_a_file_that_was_read_does_not_show_its_secrets_to_whoever_prints_it() -> None:
    write(f'broker_url = "{BROKER}"\n[sources.main]\ndatabase_url = "{URL}"\nbroker_url = "{BROKER}"')
    found = file.read(None, {}, [])
    assert found is not None
    assert "hunter2" not in repr(found)
    assert len(found.values) == 2


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "host=x password=hunter2",
        "oracle://u:hunter2@h/d",
        "mysql://u:hunter2@h",
        "mysql+mysqldb://u:hunter2@h/d",
        "mariadb://u:hunter2@h/d?hunter2=1",
        "postgresql+asyncpg://u:hunter2@h/d",
        "postgresql://u:hun@ter2hunter2@h/d",
        "postgresql://u:x/hunter2@h@d",
        "postgresql://u:hunter2",
        "postgresql://u:hunter2@h:port/d",
        "postgresql://u:hunter2@h:99999/d",
        "postgresql://u:hunter2@h:/d",
        "postgresql://u:hunter2@h:0/d",
        "postgresql://u:hunter2@h1:1,h2:2/d",
        "postgresql://u:hunter2@h/d?hunter2",
        "postgresql://u:hunter2@[::1/d",
        "postgresql://u:hunter2 @h/d",
        "postgresql://u:p@h/d?password=hunter2&x",
    ],
)
def test_no_refusal_shows_any_part_of_a_url_but_its_scheme(url: str) -> None:
    assert problem({"REAPER_DATABASE_URL": url}).startswith("REAPER_DATABASE_URL: ")
    write(f'[sources."s"]\ndatabase_url = "{url}"')
    assert problem().startswith("config/reaper.toml:2: sources.s.database_url: ")


@pytest.mark.parametrize("name", sorted(SCALAR_SETTINGS - {"database_url"}))
def test_a_url_in_the_wrong_place_is_not_shown_either(name: str) -> None:
    for told in problems({f"REAPER_{name.upper()}": URL}):
        assert told.startswith(f"REAPER_{name.upper()}: ")
    write(f'{name} = "{URL}"\n"{URL}" = 1\n[sources."{URL}"]\n[kinds.x]\n"{URL}" = 3')
    assert len(problems()) >= 4


def test_what_is_described_shows_every_value_and_its_origin_but_no_secret() -> None:
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


# URLs


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "PostgreSQL"])
@pytest.mark.parametrize(
    "rest",
    [
        "",
        "/",
        "host",
        "/app",
        "host/app",
        "u@host:5432/app",
        "u:p@[::1]:5432/app",
        "u:p%40%2F%3A@host/app",
        "/app?host=/run/postgresql",
        "u:p/w?x#y@host/app?host=a:1&host=b:2",
        "?service=x",
        "u:@host",
        "u:p@host:05432",
    ],
)
def test_urls_are_normalised_for_sqlalchemy_and_mean_the_same(scheme: str, rest: str) -> None:
    url = normalise_database_url(f" {scheme}://{rest}\n")
    assert url == f"postgresql+psycopg://{rest}"
    assert make_url(url).drivername == "postgresql+psycopg"
    shown = make_url(mask_database_url(url))
    assert shown == (parsed := make_url(url)).set(password="***" if parsed.password is not None else None)


@given(st.text(st.sampled_from("au1:/?@#%[]&=. ,-2"), max_size=30))
def test_what_is_accepted_is_read_by_sqlalchemy_as_it_is_read_here(rest: str) -> None:
    try:
        url = normalise_database_url(f"postgresql://{rest}")
    except ValueError:
        return
    parsed = make_url(url)
    user, host, port, database, _ = connection_identity(url)
    assert (user, host, int(str(port)), database) == (
        parsed.username or "",
        (parsed.host or "").casefold(),
        parsed.port or 5432,
        parsed.database or "",
    )
    assert "@" not in (parsed.host or "")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sslmod=require", "parameter 1 after the ? of the URL is not known to PostgreSQL's client; did you mean 'ssl"),
        ("sslmode=require&bogus=1", "parameter 2 after the ?"),
        ("bogus=", "parameter 1 after the ?"),
        ("plugin=foo", "parameter 1 after the ?"),
        ("plugin=foo&plugin=bar", "parameter 1 after the ?"),
        ("client_cert=x", "not known"),
        ("prepare_threshold=3", "not known"),
        ("autocommit=1", "not known"),
        ("replication=database", "not known"),
        ("SSLMODE=require", "did you mean 'sslmode'?"),
        ("sslmode=bogus", "sslmode in the URL: expected one of: disable, allow, prefer, require, verify-ca, verify-f"),
        ("target_session_attrs=readwrite", "expected one of: any, read-write, "),
        ("require_auth=md5,hunter2", "expected one or more, joined by commas, of: password, md5, "),
        ("connect_timeout=abc", "connect_timeout in the URL: expected a whole number"),
        ("keepalives_idle=-1", "keepalives_idle in the URL: expected a whole number"),
        ("sslmode=require&sslmode=require", "sslmode is given more than once"),
        ("host=a:1&host=b:x", "not a number from 1 to 65535"),
        ("host=a:1&host=b:99999", "not a number from 1 to 65535"),
        ("host=a&host=b&port=5432", "several hosts are written"),
        ("host=a,b&port=5432", "one port for several hosts"),
        ("host=a,b&port=1,2,3", "not as many ports as hosts"),
        ("host=a&port=x", "not a number from 1 to 65535"),
    ],
)
def test_a_parameter_that_the_client_would_refuse_is_refused_first(query: str, expected: str) -> None:
    told = problem({"REAPER_DATABASE_URL": f"{URL}?{query}"})
    assert told.startswith("REAPER_DATABASE_URL: ")
    assert expected in told
    assert "bogus" not in told


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=verify-full&sslrootcert=/etc/ca.pem&connect_timeout=10&target_session_attrs=read-write",
        "options=-csearch_path%3Dtenant&application_name=x&require_auth=!password,!md5",
        "sslmode=",
        "host=a:1&host=b:2",
        "host=a&host=b",
        "host=a,b&port=1,2",
        "host=/run/postgresql&port=5433",
        "host=a:5433",
        "hostaddr=::1",
        "service=x&passfile=/p",
    ],
)
def test_a_parameter_that_the_client_takes_is_accepted_and_an_engine_can_be_made_of_it(query: str) -> None:
    [source] = load({}, {"REAPER_DATABASE_URL": f"postgresql:///app?{query}"}).sources.values()
    Source("main", source.database_url.get_secret_value(), source.profile, source.thresholds, Timeouts(1, 1))


def test_an_engine_that_cannot_be_made_is_a_wrong_configuration() -> None:
    [source] = load({}, {"REAPER_DATABASE_URL": URL}).sources.values()
    for query in ("plugin=foo", "host=a,b&port=1,2,3"):
        with pytest.raises(ConfigError, match="source main: database_url: "):
            Source("main", f"postgresql+psycopg:///d?{query}", source.profile, source.thresholds, Timeouts(1, 1))


def test_secrets_among_the_parameters_are_masked() -> None:
    url = normalise_database_url("postgresql://h/d?sslmode=require&password=hunter2&sslpassword=hunter2")
    assert mask_database_url(url) == "postgresql+psycopg://h/d?sslmode=require&password=***&sslpassword=***"


def test_the_password_does_not_make_another_place_but_user_and_schema_do() -> None:
    def same(one: str, other: str) -> bool:
        return connection_identity(normalise_database_url(f"postgres://{one}")) == connection_identity(
            normalise_database_url(f"postgres://{other}")
        )

    assert same("u:a@h/d", "u:b@H:5432/d")
    assert not same("u@h/d", "v@h/d")
    assert not same("h/d", "h/e")
    assert not same("/d?host=/a", "/d?host=/b")
    assert not same("h/d?options=-csearch_path%3Da", "h/d?options=-csearch_path%3Db")


def test_a_place_is_the_same_whoever_asks_there_and_however() -> None:
    def same(one: str, other: str) -> bool:
        return database_location(normalise_database_url(f"postgres://{one}")) == database_location(
            normalise_database_url(f"postgres://{other}")
        )

    assert same("u:a@h/d", "v:b@H:5432/d?sslmode=require&options=-csearch_path%3Da")
    assert same("u:a@/d?host=/a", "u:b@/d?sslmode=disable&host=/a")
    assert not same("u@h/d", "u@h:5433/d")
    assert not same("u@h/d", "u@i/d")
    assert not same("u@h/d", "u@h/e")
    assert not same("u@h", "v@h")
    assert not same("/d?host=/a", "/d?host=/b")


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
def test_a_port_that_others_can_reach_is_known_as_such(host: str, port: str, exposed: bool) -> None:
    assert load({}, {"REAPER_HTTP_HOST": host, "REAPER_HTTP_PORT": port}).http_exposed is exposed


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("21600", 21600),
        ("1.5", 1.5),
        ("6h", 21600),
        ("30m", 1800),
        ("1h30m", 5400),
        (" 1h 30m ", 5400),
        ("45s", 45),
        ("2d", 172800),
        ("1d2h3m4s", 93784),
        ("0.5h", 1800),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "h", "-1", "+1", "6H", "1h1h", "30m1h", "1e3", "nan", "inf", "1,5h", "6 hours", "٣", "9" * 400]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"),
        (0.25, "0.2s"),
        (9.99, "9.9s"),
        (59.9, "59s"),
        (60, "1m"),
        (3600, "1h"),
        (3601, "1h"),
        (25952, "7h 12m"),
        (86399, "23h 59m"),
        (190000, "2d 4h"),
        (-90, "-1m 30s"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


@given(st.floats(min_value=0, max_value=1e9))
def test_words_are_never_more_than_the_duration_and_lose_less_than_a_unit(seconds: float) -> None:
    said = parse_duration(format_duration(seconds))
    unit = next(u for limit, u in ((10, 0.1), (3600, 1), (86400, 60), (math.inf, 3600)) if seconds < limit)
    assert said <= seconds < said + unit * 1.001


# The shipped file


def uncommented(pattern: str) -> str:
    """The shipped file with the commented lines that match made real; the rest stays a comment."""
    return re.sub(pattern, "", SHIPPED.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_shipped_file_is_valid_and_changes_nothing() -> None:
    settings = load({"config": SHIPPED}, {})
    assert settings.described()[1:] == load({}, {}).described()[1:]


def test_the_shipped_file_shows_every_default_as_it_is() -> None:
    text = uncommented(r"^#(?=\w+ = )")
    given: dict[str, Any] = tomllib.loads(text)
    without_default = {
        "database_url",
        "database_url_file",
        "broker_url",
        "broker_url_file",
        "max_age_seconds",
        "http_token_file",
        "state_dir",
        "log_file",
    }
    assert set(given) == SCALAR_SETTINGS - without_default
    write(text)
    environ = {"REAPER_DATABASE_URL": URL}
    settings = load({}, environ)
    Path("config/reaper.toml").unlink()
    defaults = load({}, environ)
    values = [[row[:2] for row in each.described()[1:]] for each in (settings, defaults)]
    assert values[0] == values[1]


def test_the_examples_of_the_shipped_file_are_valid() -> None:
    text = uncommented(r"^#   (?=\[|[\w.]+ = )")
    assert text.count("\n[") == 8
    # The examples of a URL, and of the file that holds it, are alternatives of each other: the last one is tried.
    text = re.sub(r"^(#.*)?\n", "", text, flags=re.MULTILINE)
    for name in ("database_url", "broker_url"):
        text = re.sub(rf"^{name}(_file)? = .*\n(?={name})", "", text, flags=re.MULTILINE)
    write(URL, "secret")
    write(BROKER, "broker")
    text = text.replace("/run/secrets/reaper-broker-url", "broker")
    text = re.sub("/run/secrets/(main|reaper)-database-url", "secret", text)
    write(text)
    settings = load({}, {})
    assert settings.sources["scans"].purge == PurgeSettings("30 3 * * mon-fri", days_to_keep=90, batch_size=500)
    assert set(settings.sources) == {"main", "archive", "scans"}
    assert settings.log_file == Path("logs/worker-reaper.log")

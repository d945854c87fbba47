"""Wrong settings: refused with the place, what was expected and the nearest name, all at once."""

from __future__ import annotations

import pytest

from reaper.config import load
from tests.config.support import PROTEA_STALL, PROTEA_TIMEOUT, URL, problem, problems, write


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
        *(("close_interrupted_window_seconds", text) for text in ("0", "0.9", "25h", "nan")),
        *(("close_interrupted_at_start", text) for text in ("1", "yes", "ture")),
    ],
)
def test_absurd_values_are_refused_in_environment_and_file(name: str, text: str) -> None:
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
        *(f"close_interrupted_at_start = {v}" for v in ("1", '"yes"', "[]")),
        *(f"{n} = {v}" for n in ("action", "broker_url", "broker_url_file") for v in ("3", '""', "[]")),
        *(f"{n} = true" for n in ("max_age_seconds", "broker_deadline_seconds", "close_interrupted_window_seconds")),
    ],
)
def test_wrong_types_in_the_file_are_refused_with_their_line(line: str) -> None:
    write(f"\n{line}\n")
    name = line.partition(" = ")[0]
    assert problem().startswith(f"config/reaper.toml:2: {name}: expected ")


def test_unknown_name_is_refused_with_the_nearest_name() -> None:
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


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("PROTEA_TUNING__WORKER__REAPER_TIMOUT", PROTEA_TIMEOUT),
        ("PROTEA_TUNING__WORKER__REAPER_TIMEOUT_SECONDS", PROTEA_TIMEOUT),
        ("PROTEA_TUNING__WORKER__REAPER_STAL_SECONDS", PROTEA_STALL),
        ("PROTEA_TUNING__WORKER__REAPER_STALL", PROTEA_STALL),
        (PROTEA_STALL.lower(), PROTEA_STALL),
    ],
)
def test_wrong_name_of_a_protea_variable_is_refused_with_the_nearest_name(wrong: str, right: str) -> None:
    assert problem({wrong: "3600"}) == f"{wrong}: unknown variable; did you mean {right!r}?"


def test_protea_variable_that_is_near_no_other_is_refused_with_all_names() -> None:
    wrong = "PROTEA_TUNING__WORKER__REAPER_INTERVAL"
    assert problem({wrong: "60"}) == f"{wrong}: unknown variable; expected one of: {PROTEA_TIMEOUT}, {PROTEA_STALL}"
    assert load({}, {wrong: " "}).interval_seconds == 60


def test_setting_has_one_spelling() -> None:
    write('Batch_Size = 3\nrestart_grace_seconds = 3\n_env_file = ".env"')
    assert [line.split(":")[2] for line in problems()] == [" Batch_Size", " restart_grace_seconds", " _env_file"]


def test_setting_below_a_section_is_refused_with_where_it_belongs() -> None:
    write('database_url = "postgresql:///x"\n[sources.main]\nbatch_size = 3')
    assert "belongs above the first [section]" in problem()


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("purge.cron = 3", "purge", "unknown name"),
        ("days_to_keep = 3", "days_to_keep", "unknown name here; days_to_keep belongs in [sources.NAME.purge]"),
        ("[sources.m]\ncron = 3", "sources.m.cron", "unknown name here; cron belongs in [sources.m.purge]"),
        ("[kinds.x]\naction = 3", "kinds.x.action", "unknown name here; action belongs in [sources.NAME], or above"),
        ("[sources.m]\nbroker_ulr = 3", "sources.m.broker_ulr", "unknown name; did you mean 'broker_url'?"),
        ("[sources.m]\nmax_age = 3", "sources.m.max_age", "unknown name; did you mean 'max_age_seconds'?"),
        ("quues = []", "quues", "unknown name; did you mean 'queues'?"),
    ],
)
def test_setting_in_a_wrong_table_is_refused_with_where_it_belongs(text: str, place: str, expected: str) -> None:
    write(text)
    messages = problems({"REAPER_DATABASE_URL": URL})
    line = text.count("\n") + 1
    assert [one for one in messages if one.startswith(f"config/reaper.toml:{line}: {place}: {expected}")] == list(
        messages
    )


def test_kind_with_unquoted_dots_is_refused_with_the_quoted_form() -> None:
    write("[kinds.app.tasks]\nstall_seconds = 3")
    assert '[kinds."app.tasks"]' in problem()
    write('[kinds."app.tasks"]\nstall_seconds = 3')
    assert load({}, {}).sources == {}


def test_problems_of_all_layers_are_reported_at_once() -> None:
    write('batch_size = 0\nlog_level = "x"\n[sources.a]\nprofile = "protae"\n[profiles.p]\nextends = "protea"\nx = 1')
    messages = problems(
        {"REAPER_HTTP_PORT": "x", "REAPER_NO": "1", "CREDENTIALS_DIRECTORY": "nowhere"}, timeout_seconds=0
    )
    assert [line.partition(": ")[0] for line in messages] == [
        "REAPER_NO",
        "--older-than",
        "REAPER_HTTP_PORT",
        "config/reaper.toml:1",
        "config/reaper.toml:2",
        "config/reaper.toml:7",
        "config/reaper.toml:4",
        "config/reaper.toml:3",
    ]


def test_wrong_value_is_refused_even_where_a_higher_layer_hides_it() -> None:
    write("batch_size = 0")
    assert problem({"REAPER_BATCH_SIZE": "5"}).startswith("config/reaper.toml:1: batch_size: ")

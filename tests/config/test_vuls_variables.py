"""DATABASE_URL, CELERY_BROKER_URL and REDIS_URL: for sources of vuls alone, and only where no setting gives a URL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reaper.config import load
from tests.config.support import BROKER, URL, problem, problems, write
from tests.support.commands import environment
from tests.support.programs import PROJECT

OTHER = {
    "DATABASE_URL": "postgresql+psycopg://vuls:hunter2@localhost:5432/vuls",
    "REDIS_URL": "redis://localhost:6379/0",
}
VULS = """
[sources.runs]
profile = "vuls"
[sources.schedules]
profile = "vuls-schedule"
"""


def test_sources_of_vuls_take_the_urls_of_their_application() -> None:
    write(VULS)
    settings = load({}, OTHER)
    runs, schedules = settings.sources["runs"], settings.sources["schedules"]
    assert runs.database_url.get_secret_value() == schedules.database_url.get_secret_value() == OTHER["DATABASE_URL"]
    assert runs.broker is not None and runs.broker.get_secret_value() == OTHER["REDIS_URL"]
    assert (runs.borrowed_broker, schedules.borrowed_broker, schedules.broker) == ("REDIS_URL", None, None)
    assert settings.borrowed == {
        "sources.runs.database_url": "DATABASE_URL",
        "sources.runs.broker_url": "REDIS_URL",
        "sources.schedules.database_url": "DATABASE_URL",
    }
    shown = {name: (value, origin) for name, value, origin in settings.described()}
    url = "postgresql+psycopg://vuls:***@localhost:5432/vuls"
    assert shown["sources.runs.database_url"] == (url, "DATABASE_URL")


def test_profile_that_extends_one_of_vuls_is_one_of_vuls() -> None:
    write('[profiles.mine]\nextends = "vuls"\n[sources.runs]\nprofile = "mine"\n')
    assert load({}, OTHER).sources["runs"].borrowed_broker == "REDIS_URL"


def test_profile_in_the_environment_is_enough() -> None:
    settings = load({}, {**OTHER, "REAPER_PROFILE": "vuls", "CELERY_BROKER_URL": "amqp://broker//"})
    source = settings.sources["default"]
    assert source.broker is not None and source.broker.get_secret_value() == "amqp://broker//"
    assert source.borrowed_broker == "CELERY_BROKER_URL", "it has precedence over REDIS_URL"


def test_setting_has_precedence_and_is_believed() -> None:
    write(VULS)
    settings = load({}, {**OTHER, "REAPER_DATABASE_URL": URL, "REAPER_BROKER_URL": BROKER})
    runs = settings.sources["runs"]
    assert runs.database_url.get_secret_value().endswith("@db/app")
    assert (runs.borrowed_broker, settings.borrowed) == (None, {})


@pytest.mark.parametrize("environ", [OTHER, {**OTHER, "DATABASE_URL": "nonsense"}])
def test_other_profiles_never_look_at_them(environ: dict[str, str]) -> None:
    write('[sources.main]\nprofile = "protea"\n')
    assert problem(environ).startswith("config/reaper.toml:1: sources.main: no database; ")
    write("")
    settings = load({}, environ)
    assert (settings.sources, settings.notes, settings.borrowed) == ({}, (), {})


def test_url_of_another_kind_of_server_is_ignored_with_one_line() -> None:
    write(VULS)
    environ = {"DATABASE_URL": "sqlite:////var/app.db", "CELERY_BROKER_URL": "sqs://", "REDIS_URL": BROKER}
    assert len(problems(environ)) == 2, "both sources have no database"
    settings = load({}, {**environ, "REAPER_DATABASE_URL": URL})
    assert settings.notes == ("CELERY_BROKER_URL is ignored: it is not the URL of a broker that the reaper supports",)
    assert settings.sources["runs"].borrowed_broker == "REDIS_URL"


def test_wrong_url_of_a_supported_server_is_refused_by_name_and_once() -> None:
    write(VULS)
    environ = {**OTHER, "DATABASE_URL": "postgresql://u:hunter2@host:port/db"}
    assert problem(environ).startswith("DATABASE_URL: the port in the URL is not a number")


@pytest.mark.parametrize(
    ("environ", "extras"),
    [
        ({**OTHER}, ""),
        pytest.param({}, "", marks=pytest.mark.thorough),
        pytest.param({"REAPER_DATABASE_URL": URL, "REAPER_BROKER_URL": BROKER}, "", marks=pytest.mark.thorough),
        pytest.param({**OTHER, "REAPER_PROFILE": "vuls"}, "celery", marks=pytest.mark.thorough),
        ({"DATABASE_URL": "mysql://u@h/db", "REDIS_URL": BROKER, "REAPER_PROFILE": "vuls"}, "celery,mysql"),
        pytest.param({"REAPER_DATABASE_URL": "mariadb://u@h/db"}, "mysql", marks=pytest.mark.thorough),
    ],
)
def test_manage_sh_is_told_what_the_sources_need_installed(
    environ: dict[str, str], extras: str, tmp_path: Path
) -> None:
    probe = PROJECT / "scripts" / "probe.py"
    shown = subprocess.run(
        [sys.executable, str(probe), "settings", str(tmp_path)],
        env=environment(environ),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert f"extras={extras}" in shown
    assert ("database=none" in shown) == ("REAPER_PROFILE" not in environ and "REAPER_DATABASE_URL" not in environ)

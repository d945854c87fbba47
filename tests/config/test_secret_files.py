"""Secrets: URLs in files and credentials, and that no message and no output contains one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import make_url

from reaper.config import load
from reaper.config.schema import SCALAR_SETTINGS
from tests.config.support import URL, problem, problems, write


def test_database_url_may_be_in_a_file() -> None:
    write(f"{URL}\n\n", "secret")
    settings = load({}, {"REAPER_DATABASE_URL_FILE": "secret"})
    assert settings.sources["default"].database_url.get_secret_value().endswith("hunter2@db/app")
    assert settings.origins["sources.default.database_url"] == "REAPER_DATABASE_URL_FILE (secret)"
    write('[sources.main]\ndatabase_url_file = "secret"')
    assert load({}, {}).origins["sources.main.database_url"] == "config/reaper.toml:2 (secret)"


def test_missing_empty_or_wrong_secret_file_is_refused_by_name() -> None:
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


def test_secret_file_of_a_lower_layer_is_not_read() -> None:
    write('database_url_file = "none"')
    assert load({}, {"REAPER_DATABASE_URL": URL}).sources


def test_url_and_its_file_in_one_place_are_refused() -> None:
    write(URL, "secret")
    message = problem({"REAPER_DATABASE_URL": URL, "REAPER_DATABASE_URL_FILE": "secret"})
    assert message == "REAPER_DATABASE_URL: REAPER_DATABASE_URL_FILE gives the URL too; keep one of the two"
    write(f'[sources.main]\ndatabase_url = "{URL}"\ndatabase_url_file = "secret"')
    assert problem().startswith("config/reaper.toml:2: sources.main.database_url: config/reaper.toml:3 gives")


def test_credentials_of_systemd_rank_below_environment_and_above_file() -> None:
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


def test_credential_for_an_unknown_source_is_refused() -> None:
    Path("credentials").mkdir()
    write("postgresql://main/x", "credentials/mian.database_url")
    write(f'[sources.main]\ndatabase_url = "{URL}"')
    message = problem({"CREDENTIALS_DIRECTORY": "credentials"})
    assert message == "credential mian.database_url: there is no such source; did you mean 'main.database_url'?"


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
def test_refusal_shows_no_part_of_a_database_url_but_its_scheme(url: str) -> None:
    assert problem({"REAPER_DATABASE_URL": url}).startswith("REAPER_DATABASE_URL: ")
    write(f'[sources."s"]\ndatabase_url = "{url}"')
    assert problem().startswith("config/reaper.toml:2: sources.s.database_url: ")


@pytest.mark.parametrize("name", sorted(SCALAR_SETTINGS - {"database_url"}))
def test_refusal_does_not_show_a_url_in_the_wrong_setting(name: str) -> None:
    for message in problems({f"REAPER_{name.upper()}": URL}):
        assert message.startswith(f"REAPER_{name.upper()}: ")
    write(f'{name} = "{URL}"\n"{URL}" = 1\n[sources."{URL}"]\n[kinds.x]\n"{URL}" = 3')
    assert len(problems()) >= 4

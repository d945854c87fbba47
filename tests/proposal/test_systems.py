"""`reaper init` on a database with the tables of every shipped profile: in one place, in schemas, under prefixes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, NamedTuple

import pytest
from sqlalchemy import make_url

from reaper.common.durations import parse_duration
from reaper.profile import resolve, shipped
from tests.support.commands import Reaper
from tests.support.databases import TemporaryDatabases
from tests.support.documents import DOCS, blocks
from tests.support.worlds import WORLDS
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.servers import postgresql_database
from tests.support.worlds.vuls import VulsWorld
from tests.support.worlds.world import LATELY, new_role

BROKER = {"REAPER_BROKER_URL": "redis://127.0.0.1:1/0", "REAPER_BROKER_DEADLINE_SECONDS": "0.5s"}
"""No broker answers there: whether a job of Celery's workers is alive is unknown, so it is."""
ON_POSTGRESQL = [world for world in WORLDS if "postgresql" in world.servers]
PROFILES = sorted({world.profile for world in ON_POSTGRESQL})
SCHEMA, PREFIX = "tenant 7", "app_"
AGAIN = ("chancy-app", "pgqueuer-tenant-7")
"""The sources of a second installation, in another schema and with another prefix."""


class Written(NamedTuple):
    """A configuration that was written, the commands that use it, and the dead jobs of each source."""

    database: PostgreSQLDatabase
    reaper: Reaper
    text: str
    file: Mapping[str, Any]
    dead: Mapping[str, set[str]]


@pytest.fixture(scope="module")
def written(databases: TemporaryDatabases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    with postgresql_database(databases) as database:
        dead = fill(database)
        reaper = Reaper(tmp_path_factory.mktemp("init"), {"REAPER_DATABASE_URL": database.url, **BROKER})
        path = reaper.folder / "reaper.toml"
        result = reaper("init", "--write", str(path))
        assert result.exit_code == 0, result.output
        reaper.given["REAPER_CONFIG"] = str(path)
        text = path.read_text()
        file = tomllib.loads(text)
        yield Written(database, reaper, text, file, dead)


@pytest.fixture(scope="module")
def granted(written: Written, thorough: bool) -> Iterator[Reaper]:
    """The commands as a role that has what `reaper grants` prints: for the sources that the tests below check."""
    role, sources = new_role(), list(written.file["sources"]) if thorough else AGAIN
    printed = [written.reaper("grants", "--source", source, "--role", role).stdout for source in sources]
    # The first of them makes the role.
    statements = [sql if n == 0 else sql.replace("CREATE ROLE", "-- CREATE ROLE") for n, sql in enumerate(printed)]
    written.database.restrict_to_role(role, statements)
    yield Reaper(written.reaper.folder, {**written.reaper.given, "REAPER_DATABASE_URL": written.database.reaper})
    written.database.drop_role(role)


def fill(database: PostgreSQLDatabase) -> dict[str, set[str]]:
    """Every system, with a dead job, one that lives, one that is young and one that has ended; two systems twice."""
    dead = {name: set[str]() for name in (*PROFILES, *AGAIN)}
    # One world for each set of tables: where two profiles share them, its jobs are none of the other profile's.
    for kind in {world.script: world for world in reversed(ON_POSTGRESQL) if world is not VulsWorld}.values():
        with kind.create(database) as world:
            dead[world.profile] = {world.stale_job()}
            world.alive_job()
            world.job(age=LATELY, sign=None)
            world.ended_job()
    with database.session(autocommit=True) as session:
        session.do(f'CREATE SCHEMA "{SCHEMA}"')
        session.do(f'SET search_path = "{SCHEMA}"')
        session.do(tables("pgqueuer"))
        session.do("SET search_path = public")
        session.do(tables("chancy").replace("chancy_", PREFIX))
        session.do("CREATE SCHEMA old; CREATE TABLE old.chancy_jobs AS SELECT * FROM chancy_jobs WITH NO DATA")
    return dead


def tables(name: str) -> str:
    return resources.files("reaper.profiles").joinpath(f"{name}.sql").read_text()


def test_every_shipped_profile_is_recognised_once_and_again_in_another_schema_and_under_another_prefix(
    written: Written,
) -> None:
    expected = {name: name for name in (*PROFILES, *AGAIN)}
    assert {name: source["profile"] for name, source in written.file["sources"].items()} == expected
    assert sorted(written.file["profiles"]) == list(AGAIN)


def test_what_is_written_is_a_configuration(written: Written) -> None:
    checked = written.reaper("config", "check")
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize(
    "source",
    [pytest.param(name, marks=[] if name in AGAIN else [pytest.mark.thorough]) for name in (*PROFILES, *AGAIN)],
)
def test_source_fits_the_database_once_its_grants_are_given(granted: Reaper, source: str) -> None:
    document = granted.json("check", "--source", source, code=1 if source == "vuls" else 0)
    errors = [finding["subject"] for finding in document["sources"][0]["findings"] if finding["level"] == "error"]
    assert errors == (["Celery's workers"] if source == "vuls" else [])


def test_reaper_only_watches_and_a_dry_run_names_exactly_the_dead_jobs(written: Written) -> None:
    assert written.file["observe"] is True
    document = written.reaper.json("sweep", "--dry-run")
    found = {source["source"]: {job["key"] for job in source["would_reap"]} for source in document["sources"]}
    assert found == written.dead


def test_thresholds_are_those_that_the_profile_suggests_else_the_default(written: Written) -> None:
    thresholds = {name: (s["timeout_seconds"], s["stall_seconds"]) for name, s in written.file["sources"].items()}
    assert (thresholds["pgqueuer"], thresholds["protea"]) == (("10m", "3m"), ("6h", "30m"))


def test_tables_of_another_version_are_named_with_what_they_lack(written: Written) -> None:
    said = written.reaper("init").stderr
    assert "old.chancy_jobs looks like a table of chancy, and lacks table chancy_workers: it may be of another" in said


def test_password_is_written_neither_into_the_file_nor_to_the_terminal(written: Written) -> None:
    url = make_url(written.reaper.given["REAPER_DATABASE_URL"]).set(password="geheim")
    with_password = written.reaper("init", "--database-url", url.render_as_string(hide_password=False))
    assert with_password.exit_code == 0
    assert "database_url" not in tomllib.loads(with_password.stdout)
    assert '# database_url_file = "/run/secrets/reaper-database-url"' in with_password.stdout
    url = url.set(password=None)
    without = tomllib.loads(written.reaper("init", "--database-url", url.render_as_string()).stdout)
    assert without["database_url"] == url.render_as_string()


def test_file_with_the_url_is_named_as_it_was_given(written: Written) -> None:
    path = written.reaper.folder / 'the "url"'
    path.write_text(written.reaper.given["REAPER_DATABASE_URL"])
    result = written.reaper("init", REAPER_DATABASE_URL="", REAPER_DATABASE_URL_FILE=str(path))
    assert tomllib.loads(result.stdout)["database_url_file"] == str(path)


def test_file_that_exists_is_not_changed(written: Written) -> None:
    result = written.reaper("init", "--write", str(written.reaper.folder / "reaper.toml"))
    assert result.exit_code == 1
    assert "exists, and was not changed" in result.stderr
    assert (written.reaper.folder / "reaper.toml").read_text() == written.text


@pytest.mark.parametrize("name", [name for name in shipped() if (DOCS / "systems" / f"{name}.md").exists()])
def test_page_of_a_system_recommends_what_its_profile_suggests(name: str) -> None:
    first, *_ = blocks(DOCS / "systems" / f"{name}.md", "toml")
    [source] = tomllib.loads(first.text)["sources"].values()
    suggested = resolve(name).suggested
    assert suggested is not None
    assert [parse_duration(source[key]) for key in ("timeout_seconds", "stall_seconds")] == [
        suggested.timeout,
        suggested.stall,
    ]


def test_table_of_a_shipped_system_is_said_to_be_one(written: Written) -> None:
    said = written.reaper("init", "--table", "pgqueuer", "--watch", "0s").stderr
    assert "pgqueuer is a table of pgqueuer: without --table, reaper init writes the source of that system" in said

"""`reaper init` on MariaDB: shipped systems, and a table with an enum, moments without a zone, and a small number."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import Reaper
from tests.support.worlds.adhese import AdheseWorld
from tests.support.worlds.database import Database
from tests.support.worlds.servers import database_on

TABLE = """
CREATE TABLE Mailing (
    mailing_id int AUTO_INCREMENT PRIMARY KEY, kind varchar(20),
    status enum('new', 'sending', 'sent', 'failed') NOT NULL,
    is_deleted tinyint(1) NOT NULL DEFAULT 0, created datetime NOT NULL, started datetime, updated timestamp NULL,
    ended datetime, last_error varchar(60)
)
"""
ROWS = """
INSERT INTO Mailing (kind, status, is_deleted, created, started, updated, ended) VALUES
    ('news', 'new', 0, {9}, NULL, NULL, NULL), ('news', 'sending', 0, {9}, {8}, {0}, NULL),
    ('bill', 'sending', 0, {9}, {8}, {2}, NULL), ('bill', 'sending', 1, {9}, {8}, {2}, NULL),
    ('bill', 'sending', 0, {2}, {2}, {2}, NULL), ('news', 'sent', 0, {9}, {8}, {7}, {7})
"""


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_on(request, "mariadb") as made, made.session(autocommit=True) as session:
        ago = [f"(utc_timestamp() - INTERVAL {hours} HOUR)" for hours in range(10)]
        session.do(TABLE)
        session.do(ROWS.format(*ago))
        yield made


@pytest.fixture
def reaper(database: Database, tmp_path: Path) -> Reaper:
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database.url})


def written(reaper: Reaper, *options: str) -> dict[str, set[str]]:
    """The stale jobs of each source, by the file that is written."""
    path = reaper.folder / "reaper.toml"
    result = reaper("init", *options, "--watch", "0s", "--write", str(path))
    assert result.exit_code == 0, result.output
    reaper.given["REAPER_CONFIG"] = str(path)
    document = reaper.json("sweep", "--dry-run")
    return {source["source"]: {job["key"] for job in source["would_reap"]} for source in document["sources"]}


def test_enum_switch_and_moments_without_a_zone_make_a_profile(reaper: Reaper) -> None:
    assert written(reaper, "--table", "Mailing") == {"Mailing": {"3"}}
    checked = reaper("check")
    assert checked.exit_code == 0, checked.output
    file = tomllib.loads((reaper.folder / "reaper.toml").read_text())
    assert file["profiles"]["Mailing"]["actions"]["fail"]["set"]["status"] == "failed"


def test_shipped_systems_are_recognised_but_those_that_need_postgresql(reaper: Reaper, database: Database) -> None:
    with AdheseWorld.create(database) as world, database.session(autocommit=True) as session:
        columns = "execution_id int, event_id int, event_type text, created_at datetime, node_name text, status text"
        session.do(f"CREATE TABLE event (catalog_id int, context text, {columns})")
        dead = world.stale_job()
        world.alive_job()
        assert written(reaper) == {"adhese": {dead}, "adhese-schedule": set()}

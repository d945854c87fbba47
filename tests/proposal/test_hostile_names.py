"""`reaper init` where other people chose the names and the values: none of them becomes configuration, or runs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import Reaper
from tests.support.databases import TemporaryDatabases
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.servers import postgresql_database

LINE = 'x"\n[sources.evil]\nprofile = "protea"\nobserve = false # \\" \'\'\' """'
STATE = 'running"\n[evil]\nobserve = false'
SIGNS = "\x1b[2J\u2028\u202e\x7f\x85 \u200b"
STATE_COLUMN = "state\"\n[evil] # '"
ERROR_COLUMN = f"error = 1\n[evil]{SIGNS}"
TABLE = f'x"\n[evil]\n{SIGNS}'
LONG = "running " * 40


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture(scope="module")
def database(databases: TemporaryDatabases) -> Iterator[PostgreSQLDatabase]:
    with postgresql_database(databases) as made, made.session(autocommit=True) as session:
        session.do("CREATE TABLE trace (what text)")
        session.do(
            """CREATE FUNCTION "left"(t text, n integer) RETURNS text LANGUAGE plpgsql AS
               $$ BEGIN INSERT INTO public.trace VALUES ('left'); RETURN t; END $$"""
        )
        session.do(
            """CREATE FUNCTION evil() RETURNS text LANGUAGE plpgsql AS
               $$ BEGIN INSERT INTO public.trace VALUES ('view'); RETURN 'running'; END $$"""
        )
        session.do(f"ALTER DATABASE {session.one('SELECT current_database()')} SET search_path = public, pg_catalog")
        session.do(
            f"""CREATE TABLE {quoted(TABLE)} (id bigint PRIMARY KEY, {quoted(STATE_COLUMN)} text,
                kind text, started_at timestamptz, heartbeat_at timestamptz, {quoted(ERROR_COLUMN)} text)"""
        )
        for number, state in ((1, STATE), (2, STATE), (3, "failed" + SIGNS)):
            session.do(
                f"INSERT INTO {quoted(TABLE)} VALUES (%s, %s, %s, now() - interval '8 h', now() - interval '2 h', %s)",
                number,
                state,
                LONG,
                LINE,
            )
        session.do("CREATE VIEW told AS SELECT 1 AS id, evil() AS state, now() AS started_at")
        yield made


@pytest.fixture
def reaper(database: PostgreSQLDatabase, tmp_path: Path) -> Reaper:
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database.url})


def test_names_and_values_with_newlines_and_quotes_stay_where_they_are_written(
    reaper: Reaper, database: PostgreSQLDatabase
) -> None:
    path = reaper.folder / "reaper.toml"
    result = reaper("init", "--table", TABLE, "--watch", "0s", "--write", str(path))
    assert result.exit_code == 0, result.output
    text = path.read_text()
    assert not [line for line in text.split("\n") if not line.isprintable()]
    file = tomllib.loads(text)
    assert set(file) == {"observe", "sources", "profiles"}
    assert len(file["sources"]) == 1 and "evil" not in file["sources"]
    assert file["observe"] is True
    [profile] = file["profiles"].values()
    assert profile["jobs"]["table"] == TABLE
    assert profile["jobs"]["running"]["in"] == [STATE]
    assert profile["actions"]["fail"]["set"][ERROR_COLUMN] == {"is": "message"}
    reaper.given["REAPER_CONFIG"] = str(path)
    [source] = reaper.json("sweep", "--dry-run")["sources"]
    assert {job["key"] for job in source["would_reap"]} == {"1", "2"}


def test_no_function_of_the_tables_owners_runs(reaper: Reaper, database: PostgreSQLDatabase) -> None:
    result = reaper("init", "--table", "told", "--watch", "0s")
    assert "its rows were not read: to read it would call functions that are not the server's own" in result.stdout
    with database.session(autocommit=True) as session:
        assert session.ask("SELECT what FROM trace") == []

"""Commands work whatever a database, a role or a server sets for its sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.support.commands import Reaper
from tests.support.mariadb import MariaDB
from tests.support.protea import HOUR, MINUTE
from tests.support.worlds import World
from tests.support.worlds.database import Session
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.protea import ProteaWorld
from tests.support.worlds.servers import world_on
from tests.support.worlds.world import LATELY, OLD, SILENT, State

POSTGRESQL: Mapping[str, Mapping[str, str]] = {
    "notation": {
        "datestyle": "German, DMY",
        "intervalstyle": "'sql_standard'",
        "timezone": "'Asia/Kathmandu'",
        "bytea_output": "'escape'",
        "extra_float_digits": "-15",
        "quote_all_identifiers": "on",
        "standard_conforming_strings": "off",
        "default_transaction_isolation": "'serializable'",
        "default_transaction_deferrable": "on",
    },
    "limits": {
        "lock_timeout": "1",
        "datestyle": "SQL, MDY",
        "intervalstyle": "'postgres_verbose'",
        "timezone": "'<-13>+13'",
        "default_transaction_isolation": "'repeatable read'",
        "client_encoding": "'SQL_ASCII'",
        "array_nulls": "off",
        "transform_null_equals": "on",
    },
    "iso": {"datestyle": "Postgres, YMD", "intervalstyle": "'iso_8601'", "timezone": "'America/St_Johns'"},
}
MARIADB: Mapping[str, Mapping[str, str]] = {
    "modes": {
        "sql_mode": "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE,NO_ZERO_DATE,"
        "NO_ZERO_IN_DATE,ONLY_FULL_GROUP_BY,NO_UNSIGNED_SUBTRACTION,PAD_CHAR_TO_FULL_LENGTH,TIME_ROUND_FRACTIONAL,IGNORE_SPACE'",
        "sql_quote_show_create": "0",
        "time_zone": "'-05:00'",
        "tx_isolation": "'SERIALIZABLE'",
        "tx_read_only": "1",
        "autocommit": "0",
        "sql_safe_updates": "1",
        "sql_auto_is_null": "1",
        "completion_type": "'CHAIN'",
        "character_set_client": "'latin1'",
        "character_set_connection": "'latin1'",
        "character_set_results": "'latin1'",
        "collation_connection": "'latin1_general_cs'",
        "character_set_server": "'latin1'",
        "div_precision_increment": "0",
        "lc_time_names": "'ja_JP'",
    },
    "oracle": {"sql_mode": "'ORACLE'", "tx_isolation": "'READ-UNCOMMITTED'", "time_zone": "'+13:00'"},
    "loose": {"sql_mode": "''", "group_concat_max_len": "4", "lock_wait_timeout": "1"},
}


def first_of(settings: Mapping[str, Mapping[str, str]]) -> list[object]:
    """Test parameters: the first always, the others where there is time for them."""
    first, *others = settings
    return [first, *(pytest.param(name, marks=pytest.mark.thorough) for name in others)]


def set_for_the_database(url: str, session: Session, settings: Mapping[str, str]) -> None:
    name = make_url(url).database
    for setting, value in settings.items():
        session.do(f'ALTER DATABASE "{name}" SET {setting} = {value}')


@contextmanager
def settings_of_the_server(server: MariaDB, settings: Mapping[str, str]) -> Iterator[None]:
    with server.connect() as connection, connection.cursor() as cursor:
        before = dict[str, Any]()
        for setting, value in settings.items():
            cursor.execute(f"SELECT @@GLOBAL.{setting}")
            [[before[setting]]] = cursor.fetchall()
            cursor.execute(f"SET GLOBAL {setting} = {value}")
        try:
            yield
        finally:
            for setting, value in before.items():
                cursor.execute(f"SET GLOBAL {setting} = %s", [value])


def reaper_for(world: World, folder: Path) -> Reaper:
    reaper = Reaper(folder, {"REAPER_STATE_DIR": str(folder / "state")})
    reaper.configure(f"[sources.main]\ndatabase_url = '{world.database.url}'\n")
    return reaper


def use_all_commands(reaper: Reaper, world: World) -> None:
    """And see that they judge and end rightly."""
    stale, spared, young = world.stale_job(), world.alive_job(), world.young_job()
    third, old = world.job(age=OLD, sign=SILENT), world.job(age=60 * 24 * HOUR, sign=None)
    world.session.do(
        f"UPDATE job SET status = 'succeeded', finished_at = {world.database.ago} WHERE id = %s", 59 * 24 * HOUR, old
    )
    [checked] = reaper.json("check")["sources"]
    wrong = [f["message"] for f in checked["findings"] if f["level"] != "note"]
    assert [message for message in wrong if not message.startswith("has no time zone, and is read as UTC")] == []
    assert reaper("grants").exit_code == 0
    assert [each["state"] for each in reaper.json("fence", "status", code=1)["sources"]] == ["absent"]
    assert reaper("fence", "install", "--force").exit_code == 0
    [reported] = reaper.json("report")["sources"]
    verdicts = {job["key"]: job["verdict"] for job in reported["jobs"]}
    assert verdicts == {stale: "stale", third: "stale", spared: "spared", young: "young"}
    explained = reaper.json("explain", spared)["job"]
    assert explained["verdict"] == "spared"
    assert LATELY <= explained["silence_seconds"] < LATELY + 10 * MINUTE
    assert OLD <= explained["age_seconds"] < OLD + 10 * MINUTE
    assert reaper("sweep", "--dry-run").exit_code == 0
    assert reaper("fail", "--yes", third, "--reason", "x").exit_code == 0
    assert reaper("sweep", "--yes").exit_code == 0
    assert {job: world.state(job) for job in (stale, spared, young)} == {
        stale: State.REAPED, spared: State.RUNNING, young: State.RUNNING,
    }  # fmt: skip
    assert reaper("purge", "--dry-run").exit_code == 0
    assert reaper("purge", "--force").exit_code == 0
    assert [each["state"] for each in reaper.json("fence", "status")["sources"]] == ["installed"]
    assert reaper("fence", "remove", "--force").exit_code == 0
    assert reaper("sql").exit_code == 0


@pytest.mark.parametrize("name", first_of(POSTGRESQL))
def test_commands_work_whatever_the_settings_of_a_database_on_postgresql(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with world_on(request, ProteaWorld, "postgresql") as world:
        set_for_the_database(world.database.url, world.session, POSTGRESQL[name])
        use_all_commands(reaper_for(world, tmp_path), world)


KEYS_OF_BYTES_AND_INTERVALS = """
CREATE TABLE j (id bytea, part interval, state text NOT NULL, started_at timestamptz NOT NULL, most interval,
                seen timestamptz, PRIMARY KEY (id, part));
INSERT INTO j VALUES ('\\x00ff27', '1 day 2 hours', 'on', now() - interval '9h', '1h', now() - interval '2h'),
                     ('\\xdeadbeef', '1 month', 'on', now() - interval '9h', '20h', now()),
                     ('\\x5c5c27', '-1 month 3s', 'on', now() - interval '9h', NULL, NULL);
"""
PROFILE_OF_THEM = """
profiles.j.jobs = { table = "j", key = ["id", "part"], started = "started_at", running.where = [
    { column = "state", in = ["on"] } ] }
profiles.j.alive = [{ witness = "seen", column = "seen" }]
profiles.j.limits.timeout = { column = "most", unit = "s" }
profiles.j.actions.fail.set.state = "off"
sources.main.profile = "j"
"""


@pytest.mark.parametrize("name", ["notation", pytest.param("iso", marks=pytest.mark.thorough)])
def test_keys_are_written_alike_whatever_the_notation_of_a_database(
    empty: PostgreSQLDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": empty.url})
    reaper.configure(PROFILE_OF_THEM)
    with empty.session(autocommit=True) as session:
        session.do(KEYS_OF_BYTES_AND_INTERVALS)
        set_for_the_database(empty.url, session, {**POSTGRESQL[name], "bytea_output": "escape"})
        assert reaper("check").exit_code == 0
        keys = ["\\x00ff27,1 day 02:00:00", "\\x5c5c27,-1 mons +00:00:03", "\\xdeadbeef,1 mon"]
        assert sorted(",".join(job["key"]) for job in reaper.json("report")["sources"][0]["jobs"]) == keys
        assert reaper.json("explain", keys[2])["job"]["verdict"] == "young"
        assert reaper("sweep", "--yes").exit_code == 0
        assert session.ask("SELECT encode(id, 'hex') FROM j WHERE state = 'on'") == [("deadbeef",)]


@pytest.mark.parametrize("name", first_of(MARIADB))
def test_commands_work_whatever_the_settings_of_a_server_on_mariadb(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mariadb: MariaDB, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with world_on(request, ProteaWorld, "mariadb") as world, settings_of_the_server(mariadb, MARIADB[name]):
        use_all_commands(reaper_for(world, tmp_path), world)

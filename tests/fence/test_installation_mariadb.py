"""Installing, renewing and removing a fence on MariaDB: states, concurrent writers, privileges, hostile names."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pymysql.converters import escape_string

from reaper.errors import ReaperError
from reaper.fence.installation import FenceAction, FenceState, apply_plan, fence_status, plan_change
from reaper.fence.mariadb import trigger_name
from tests.profile.test_profile import HOSTILE
from tests.support.checks import protea_with
from tests.support.fences import MARIADB_TABLES, install, odd_profile, remove, source_of, state
from tests.support.mariadb import MariaDB

_numbers = itertools.count()
QUOTES = {"'", "`", "\\", "%"}
"""What may end a name or a value, or may be taken for a place in a statement."""


class FencedMariaDB:
    """A database with the protea tables, and a reaped job in them."""

    def __init__(self, server: MariaDB, name: str) -> None:
        self.server, self.name, self.url = server, name, server.url(name)
        self.connection = server.connect(name)
        self.run(
            "INSERT INTO job (operation, queue_name, status, error_code) VALUES ('x', 'q', 'failed', 'JobTimeout')"
        )

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def write_late(self) -> str:
        """Writes a late success, and returns the job's status."""
        self.run("UPDATE job SET status = 'succeeded'")
        [(status,)] = self.run("SELECT status FROM job")
        return str(status)

    def triggers(self) -> list[str]:
        return [name for (name,) in self.run("SELECT trigger_name FROM information_schema.triggers")]


@pytest.fixture
def database(mariadb: MariaDB) -> Iterator[FencedMariaDB]:
    name = f"fences_{next(_numbers)}"
    mariadb.create_database(name, MARIADB_TABLES)
    database = FencedMariaDB(mariadb, name)
    yield database
    database.connection.close()
    mariadb.drop_database(name)


def test_mariadb_fence_is_installed_once_and_removed_without_a_trace(database: FencedMariaDB) -> None:
    source = source_of(database.url)
    assert state(source) is FenceState.ABSENT and plan_change(source, FenceAction.REMOVE).change.statements == ()
    assert install(source) is FenceState.INSTALLED
    assert (state(source), plan_change(source, FenceAction.INSTALL).change.statements) == (FenceState.INSTALLED, ())
    assert database.write_late() == "failed"
    assert remove(source) is FenceState.ABSENT and database.triggers() == []
    assert database.write_late() == "succeeded"


def test_mariadb_fence_that_new_sessions_switch_off_is_seen(database: FencedMariaDB) -> None:
    source = source_of(database.url)
    install(source)
    database.run("""SET GLOBAL init_connect = "SET @reaper_fence = 'off'" """)
    try:
        status = fence_status(source)
        assert status.state is FenceState.DISABLED
        assert status.switched_off == ["take @reaper_fence out of the server's init_connect"]
        assert plan_change(source, FenceAction.INSTALL).change.statements == ()
    finally:
        database.run("SET GLOBAL init_connect = ''")
    assert state(source) is FenceState.INSTALLED


def test_mariadb_fence_of_another_definition_is_outdated_until_it_is_renewed(database: FencedMariaDB) -> None:
    first, second = (
        source_of(database.url),
        source_of(database.url, protea_with(fence={"again": ["queued", "cancelled"]})),
    )
    install(first)
    assert state(second) is FenceState.OUTDATED
    assert install(second) is FenceState.INSTALLED
    assert (state(first), len(database.triggers())) == (FenceState.OUTDATED, 1)
    database.run("UPDATE job SET status = 'cancelled'")
    assert database.run("SELECT status FROM job") == [("cancelled",)]


@pytest.mark.parametrize("action", FenceAction)
def test_foreign_mariadb_trigger_of_the_fences_name_is_left_alone(database: FencedMariaDB, action: FenceAction) -> None:
    database.run("CREATE TRIGGER reaper_fence_job BEFORE INSERT ON job_event FOR EACH ROW SET NEW.level = 'x'")
    source = source_of(database.url)
    assert state(source) is FenceState.FOREIGN
    with pytest.raises(ReaperError, match="that the reaper did not create"):
        plan_change(source, action)
    assert database.triggers() == ["reaper_fence_job"]


def test_tables_and_databases_each_have_their_own_fence(database: FencedMariaDB, mariadb: MariaDB) -> None:
    database.run("CREATE TABLE task LIKE job")
    other = f"{database.name}_other"
    mariadb.create_database(other, MARIADB_TABLES)
    names = ("job", "task", f"{other}.job")
    sources = [source_of(database.url, protea_with(jobs={"table": name})) for name in names]
    for source in sources:
        assert install(source) is FenceState.INSTALLED
    remove(sources[1])
    assert [state(source) for source in sources] == ["installed", "absent", "installed"]
    mariadb.drop_database(other)
    assert database.write_late() == "failed"


def test_mariadb_installation_gives_up_soon_when_a_transaction_holds_the_table(database: FencedMariaDB) -> None:
    planned = plan_change(source_of(database.url), FenceAction.INSTALL)
    worker = database.server.connect(database.name)
    with worker, worker.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE job SET progress_current = 1")
        begun = time.monotonic()
        with pytest.raises(ReaperError, match="in use by a long transaction; nothing was changed"):
            apply_plan(source_of(database.url), planned)
        assert time.monotonic() - begun < 4
        cursor.execute("COMMIT")
    assert database.triggers() == []


def test_missing_trigger_privilege_is_named_and_is_enough(database: FencedMariaDB) -> None:
    database.run("CREATE USER fencer@localhost")
    try:
        database.run(f"GRANT SELECT, UPDATE ON {database.name}.job TO fencer@localhost")
        source = source_of(database.server.url(database.name, "fencer"))
        with pytest.raises(ReaperError) as refused:
            fence_status(source)
        grant = f"GRANT TRIGGER ON TABLE `{database.name}`.`job` TO 'fencer'@'localhost'"
        assert str(refused.value) == (
            f"'fencer'@'localhost' may not see whether `{database.name}`.`job` has a fence; it needs: {grant}"
        )
        database.run(grant)
        assert install(source) is FenceState.INSTALLED and database.write_late() == "failed"
        assert remove(source) is FenceState.ABSENT
    finally:
        database.run("DROP USER fencer@localhost")


def test_mariadb_view_and_missing_table_are_refused_in_one_line(database: FencedMariaDB) -> None:
    database.run("CREATE VIEW jobs AS SELECT * FROM job")
    with pytest.raises(ReaperError, match="it is not a base table"):
        fence_status(source_of(database.url, protea_with(jobs={"table": "jobs"})))
    with pytest.raises(ReaperError, match="there is no table nothing"):
        fence_status(source_of(database.url, protea_with(jobs={"table": "nothing"})))


def test_long_names_that_begin_alike_have_different_triggers() -> None:
    names = {trigger_name("x" * 62 + end) for end in ("", "y", "z")}
    assert len(names) == 3 and max(map(len, names)) <= 64


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if set(name) & QUOTES else pytest.mark.thorough)
        for name in (*HOSTILE, "back`tick", "*/ */")
    ],
)
def test_hostile_names_and_values_are_quoted_on_mariadb(database: FencedMariaDB, name: str) -> None:
    profile, n = odd_profile(name)
    quoted = {role: "`" + called.replace("`", "``") + "`" for role, called in n.items()}
    value, table = n["value"], f"odd.{quoted['T']}"
    database.run("CREATE DATABASE odd")
    try:
        database.run(
            "CREATE TABLE {table} ({id} varchar(9) PRIMARY KEY, {state} varchar(200), {begun} datetime(6),"
            " {token} varchar(9), {why} varchar(50), {note} varchar(200), {flag} bool, {count} int,"
            " {far} double) CHARACTER SET utf8mb4".format(table=table, **quoted)
        )
        columns = ", ".join(quoted[role] for role in ("id", "state", "begun", "flag", "count", "why"))
        off = escape_string(f"off {value}")
        database.run(f"INSERT INTO {table} ({columns}) VALUES ('x', '{off}', now(), 0, 7, 'JobTimeout')")
        source = source_of(database.url, profile)
        assert install(source) is FenceState.INSTALLED and state(source) is FenceState.INSTALLED

        def write(state: str) -> str:
            database.run(f"UPDATE {table} SET {quoted['state']} = '{escape_string(state)}', {quoted['note']} = 'late'")
            [(found,)] = database.run(f"SELECT {quoted['state']} FROM {table}")
            return str(found)

        assert write(f"on {value}") == f"off {value}"
        assert write(f"again {value}") == f"again {value}"
        assert write(f"on {value}") == f"on {value}"
        assert remove(source) is FenceState.ABSENT and database.triggers() == []
    finally:
        database.run("DROP DATABASE odd")

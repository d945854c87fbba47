"""What a session is set to before a transaction of ours begins changes no judgement.

The server's `init_connect` may set it, or the client before in a pool of connections. A session whose clock is a year
ahead would make every living job look dead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from reaper.model import Outcome
from tests.support.protea import MINUTE
from tests.support.tasks import Tasks, tasks_in
from tests.support.worlds.servers import database_on

MARIADB = {
    "timestamp": "unix_timestamp() + 365 * 86400",
    "time_zone": "'+09:00'",
    "sql_select_limit": "1",
    "sql_auto_is_null": "1",
    "sql_mode": "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'",
    "completion_type": "'CHAIN'",
    "div_precision_increment": "0",
    "check_constraint_checks": "0",
    "sql_safe_updates": "1",
    "system_versioning_asof": "'2020-01-01 00:00:00'",
    "lc_time_names": "'ja_JP'",
    "character_set_results": "'latin1'",
    "collation_connection": "'utf8mb4_unicode_ci'",
}
POSTGRESQL = {
    "client_encoding": "'SQL_ASCII'",
    "TimeZone": "'Asia/Tokyo'",
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "'sql_standard'",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "standard_conforming_strings": "off",
    "bytea_output": "'escape'",
    "quote_all_identifiers": "on",
    "extra_float_digits": "-15",
    "row_security": "off",
    "default_transaction_isolation": "'serializable'",
}


@pytest.fixture
def mariadb(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, "mariadb") as database, tasks_in(database) as made:
        yield made


def filled(tasks: Tasks) -> None:
    """Two living tasks, then three dead ones, of which one has backslashes in what is written."""
    for number in (1, 2):
        tasks.add(number, beat=MINUTE)
    for number in (3, 4):
        tasks.add(number)
    tasks.add(5, kind="a\\'b")


EXPECTED = {"1": "working", "2": "working", "3": "dead", "4": "dead", "5": "dead"}


def sweep_in_odd_sessions(tasks: Tasks, statement: str) -> None:
    source = tasks.source()

    @event.listens_for(source.engine, "begin")
    def _set(connection: Any) -> None:
        cursor = connection.connection.driver_connection.cursor()
        cursor.execute(statement)
        cursor.close()

    report = tasks.sweep(source)
    source.close()
    assert (report.outcome, report.error, report.failures, report.reaped) == (Outcome.DONE, None, (), 3), statement
    assert tasks.states() == EXPECTED, statement
    assert {entry for entry, _ in tasks.logged()} == {3, 4, 5}


@pytest.mark.parametrize("name", MARIADB)
def test_settings_of_a_session_on_mariadb_change_no_judgement(mariadb: Tasks, name: str) -> None:
    filled(mariadb)
    sweep_in_odd_sessions(mariadb, f"SET SESSION {name} = {MARIADB[name]}")


def test_settings_of_a_session_on_postgresql_change_no_judgement(request: pytest.FixtureRequest) -> None:
    for name, value in POSTGRESQL.items():
        with database_on(request, "postgresql") as database, tasks_in(database) as tasks:
            filled(tasks)
            sweep_in_odd_sessions(tasks, f"SET {name} = {value}")

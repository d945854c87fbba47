"""MariaDB: what another user may create in the database is not called, or read, in the place of the server's own.

Nothing has to be pinned there: a stored function that is called like one of the server's own is not found by its bare
name, and a bare name of a table leads into the database of the connection alone.
"""

from __future__ import annotations

import re

import pymysql
import pytest

from reaper.model import Outcome
from reaper.sql_listing import ListingOptions, list_statements
from tests.support.worlds import State
from tests.support.worlds.protea import ProteaWorld

_CALLED = "an overload was called"
_CALL = re.compile(r"\b([a-z_]+)\(", re.IGNORECASE)


@pytest.mark.parametrize("world", [(ProteaWorld, "mariadb")], ids=["mariadb"], indirect=True)
def test_stored_functions_named_like_those_of_the_server_are_not_called(world: ProteaWorld) -> None:
    source = world.source()
    statements = list(list_statements(source, ListingOptions(60, 300, 10)))
    made = []
    names = {name.lower() for statement in statements for name in _CALL.findall(statement.sql)}
    for name in sorted({*names, "not_of_the_server"}):
        try:
            world.session.do(
                f"CREATE FUNCTION `{name}`(a TEXT) RETURNS TEXT DETERMINISTIC"
                f" BEGIN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{_CALLED}'; RETURN a; END"
            )
        except pymysql.Error:  # a word of the grammar, such as IN
            continue
        made.append(name)
    assert {"coalesce", "concat", "json_object"} <= set(made)
    with pytest.raises(pymysql.Error, match=_CALLED):
        world.session.do("SELECT not_of_the_server('a')")
    stale, alive = world.stale_job(), world.alive_job()
    report = world.sweep(source)
    assert (report.outcome, report.reaped, report.failures) == (Outcome.DONE, 1, ())
    assert world.state(stale) is State.REAPED and world.state(alive) is State.RUNNING

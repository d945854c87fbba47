"""JSON objects on both servers."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import literal, select

from reaper.sql import expressions as sql
from tests.support.checks import connected
from tests.support.worlds.servers import database_on

pytestmark = pytest.mark.every_server


@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
@pytest.mark.parametrize("members", [0, 1, 50, 51, 168])
def test_object_has_any_number_of_members(request: pytest.FixtureRequest, where: str, members: int) -> None:
    expected = {f"name {n}": n for n in range(members)}
    document = sql.json_object({name: literal(value) for name, value in expected.items()})
    with database_on(request, where) as database, connected(database.url) as connection:
        found = connection.execute(select(document)).scalar_one()
    assert (json.loads(found) if isinstance(found, str) else found) == expected

"""NULL among the values of a condition: whether it is met is said, and `check` counts what falls through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reaper.check import Level
from reaper.errors import ConfigError
from tests.support.checks import OwnTables, profile_of
from tests.support.worlds.servers import database_on, mostly_on

TABLE = "CREATE TABLE t (id int PRIMARY KEY, state varchar(9) NULL, started_at MOMENT NOT NULL, done int NULL)"
PROFILE = """
jobs = {{ table = "t", key = "id", started = "started_at", running = {{ {running} }} }}
actions.fail.set = {{ done = 1, state = "off" }}
"""


@pytest.fixture(params=["postgresql", "mariadb"])
def own(request: pytest.FixtureRequest) -> Iterator[OwnTables]:
    with database_on(request, request.param) as database:
        own = OwnTables(database)
        own.do(TABLE, "CREATE INDEX t_state ON t (state, started_at)")
        own.do(
            "INSERT INTO t (id, state, started_at)"
            " VALUES (1, 'on', AGO), (2, NULL, AGO), (3, 'off', AGO), (4, NULL, now())"
        )
        yield own


RUNNING = (
    ('where = [{ column = "state", not_in = ["off"] }]', [1]),
    ('where = [{ column = "state", not_in = ["off"], or_null = true }]', [1, 2]),
    ('where = [{ column = "state", not_in = ["off", { is = "null" }] }]', [1]),
    ('where = [{ column = "state", in = ["on", { is = "null" }] }]', [1, 2]),
    ('column = "state", in = ["on", { is = "null" }]', [1, 2]),
    ('column = "state", in = ["on"], or_null = true', [1, 2]),
    ('column = "state", in = ["on"]', [1]),
)


@mostly_on("postgresql", "own")
@pytest.mark.parametrize(("running", "ended"), RUNNING)
def test_null_meets_a_list_where_that_is_said(own: OwnTables, running: str, ended: list[int]) -> None:
    mapping = profile_of(PROFILE.format(running=running))
    assert own.sweep(mapping).reaped == len(ended)
    assert own.rows("SELECT id FROM t WHERE done = 1 ORDER BY id") == [(number,) for number in ended]


def test_running_rows_that_fall_through_are_counted(own: OwnTables) -> None:
    [finding] = own.check(profile_of(PROFILE.format(running='where = [{ column = "state", not_in = ["off"] }]')))
    assert (finding.level, finding.subject) == (Level.WARNING, "t.state")
    assert finding.message.startswith("2 row(s) have NULL, and jobs.running.where.0.not_in is not met by NULL")
    with_more = 'where = [{ column = "state", not_in = ["off"] }, { column = "id", less_than = 4 }]'
    [finding] = own.check(profile_of(PROFILE.format(running=with_more)))
    assert finding.message.startswith("1 row(s) have NULL")


@mostly_on("postgresql", "own")
@pytest.mark.parametrize(
    "said",
    ['not_in = ["off"], or_null = true', 'not_in = ["off"], or_null = false', 'not_in = ["off", { is = "null" }]'],
)
def test_nothing_is_counted_where_it_is_said(own: OwnTables, said: str) -> None:
    assert own.check(profile_of(PROFILE.format(running=f'where = [{{ column = "state", {said} }}]'))) == []


def test_column_without_null_is_not_asked_about(own: OwnTables) -> None:
    mapping = profile_of(
        PROFILE.format(running='where = [{ column = "id", not_in = [9] }, { column = "done", is = "null" }]')
    )
    assert not [finding for finding in own.check(mapping) if "NULL" in finding.message]


@pytest.mark.parametrize(
    ("running", "says"),
    [
        ('where = [{ column = "state", is = "null", or_null = true }]', "'or_null' requires 'in' or 'not_in'"),
        ('where = [{ column = "state", in = ["on", { is = "null" }], or_null = false }]', "NULL is named twice"),
        ('or_null = true, where = [{ column = "state", is = "null" }]', "'or_null' requires 'in'"),
        ('column = "state", in = ["on", { is = "now" }]', "expected a text"),
    ],
)
def test_null_in_other_places_is_refused(running: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        profile_of(PROFILE.format(running=running))


def test_state_that_becomes_null_has_not_ended_where_null_means_running() -> None:
    running = 'column = "state", in = ["on", { is = "null" }]'
    with pytest.raises(ConfigError, match="must be set to a value that does not mean running"):
        profile_of(PROFILE.format(running=running).replace('state = "off"', 'state = { is = "null" }'))

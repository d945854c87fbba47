"""`reaper check`: moments that mean "none", jobs without a start, formats of single columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reaper.check import Finding, Level, examine
from reaper.profile import resolve
from tests.support.checks import STALL, connected
from tests.support.worlds import Database
from tests.support.worlds.servers import database_on

PROFILE: dict[str, Any] = {
    "time": "naive",
    "alive": [{"witness": "heartbeat", "column": "beat"}],
    "jobs": {
        "table": "g",
        "key": "id",
        "started": ["started", "created"],
        "running": {"column": "state", "in": ["running"]},
    },
    "actions": {"fail": {"set": {"state": "failed"}}},
}


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_on(request, request.param) as made:
        moment = "datetime" if request.param == "mariadb" else "timestamp"
        columns = f"started {moment}, created {moment}, beat {moment}, begun bigint, said varchar(40)"
        _do(made, f"CREATE TABLE g (id int PRIMARY KEY, state varchar(20), {columns})")
        yield made


def _do(database: Database, statement: str) -> None:
    session = database.session(autocommit=True)
    session.do(statement)
    session.close()


def check(database: Database, **changes: Any) -> list[Finding]:
    with connected(database.url) as connection:
        return examine(connection, resolve("g", {"g": {**PROFILE, **changes}}), STALL)


@pytest.mark.parametrize(
    "value", ["0001-01-01 00:00:00", pytest.param("1970-01-01 00:00:00", marks=pytest.mark.thorough)]
)
def test_columns_that_hold_moments_that_mean_none_are_named(database: Database, value: str) -> None:
    _do(database, f"INSERT INTO g VALUES (1, 'running', '{value}', now(), '{value}', NULL, NULL)")
    notes = {finding.subject: finding for finding in check(database) if "counts as NULL" in finding.message}
    assert set(notes) == {"g.started", "g.beat"}
    assert notes["g.started"].level is Level.NOTE
    assert value in notes["g.started"].message
    assert notes["g.started"].message.endswith("it counts as NULL, so that the next start column counts")
    _do(database, "UPDATE g SET state = 'done'")
    assert not [finding for finding in check(database) if "counts as NULL" in finding.message]


def test_running_jobs_without_a_start_are_a_warning(database: Database) -> None:
    _do(database, "INSERT INTO g (id, state, begun) VALUES (7, 'running', 0), (8, 'done', 0)")
    [found] = [finding for finding in check(database) if "no start" in finding.message]
    assert (found.level, found.subject) == (Level.WARNING, "g")
    assert found.message.startswith("1 running job(s), such as 7, have no start: started, created have no moment.")


def test_format_of_a_single_column_is_proposed(database: Database) -> None:
    """Numbers and texts among timestamps."""
    _do(database, "INSERT INTO g VALUES (1, 'running', NULL, now(), now(), 1782907200, '2026-07-01T12:00:00Z')")
    jobs = {**PROFILE["jobs"], "started": ["begun", "said", "created"]}
    wrong = [finding for finding in check(database, jobs=jobs) if finding.level is Level.ERROR]
    assert {finding.subject for finding in wrong} == {"g.begun", "g.said"}
    assert all(finding.message.endswith("for this column?") for finding in wrong)
    for line in ('times."g.begun" = "epoch s"', 'times."g.said" = "iso text"'):
        assert line in (wrong[0].fix or "")
    times = {"g.begun": "epoch s", "g.said": "iso text"}
    assert not [finding for finding in check(database, jobs=jobs, times=times) if finding.level is Level.ERROR]


@pytest.mark.parametrize(
    ("said", "meant", "unit"),
    [("epoch ms", "epoch s", 1), pytest.param("epoch s", "epoch ms", 1000, marks=pytest.mark.thorough)],
)
def test_numbers_of_the_other_unit_are_an_error_with_the_line_that_says_it(
    database: Database, said: str, meant: str, unit: int
) -> None:
    """Read in the wrong unit, a heartbeat of now is one of January 1970, or of a year without a calendar."""
    _do(database, f"INSERT INTO g (id, state, created, begun) VALUES (1, 'running', now(), {1782907200 * unit})")
    _do(database, "INSERT INTO g (id, state, created, begun) VALUES (2, 'running', now(), 0), (3, 'new', now(), NULL)")
    changes: dict[str, Any] = {"alive": [{"witness": "heartbeat", "column": "begun"}]}
    [wrong] = [
        finding for finding in check(database, times={"g.begun": said}, **changes) if finding.level is Level.ERROR
    ]
    assert wrong.subject == "g.begun"
    assert f"is no moment of a job: the living would be taken for silent; did you mean '{meant}'" in wrong.message
    assert f'times."g.begun" = "{meant}"' in (wrong.fix or "")
    right = check(database, times={"g.begun": meant}, **changes)
    assert not [finding for finding in right if finding.level is Level.ERROR]
    # A single number that fits leaves it open.
    fitting = 1782907200 * (1000 // unit)
    _do(database, f"INSERT INTO g (id, state, created, begun) VALUES (4, 'new', now(), {fitting})")
    left_open = check(database, times={"g.begun": said}, **changes)
    assert not [finding for finding in left_open if finding.level is Level.ERROR]

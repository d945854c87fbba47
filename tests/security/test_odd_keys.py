"""Keys with which jobs cannot be told apart, or that are not supported, are refused in words, and no job is ended."""

from __future__ import annotations

import pytest

from reaper.errors import KeyNotUnique, SpellingUnclear
from reaper.model import Outcome
from reaper.operations.report import ReportQuery, report
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import HOUR, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds import Database
from tests.support.worlds.servers import database_on

PROFILE = {
    "jobs": {"table": "j", "key": "id", "started": ["started"], "running": {"column": "state", "in": ["running"]}},
    "actions": {"fail": {"set": {"state": "failed"}}},
}
OPTIONS = SweepOptions("test-host", 1000, Breaker(50, 1.0))
EVERYTHING = ReportQuery(None, None, 50)


def source_of(database: Database, key_type: str, *keys: object) -> Source:
    """Two stale jobs with these keys, on a table without a unique key."""
    moment = "timestamptz" if "postgresql" in database.url else "datetime(6)"
    with database.session(autocommit=True) as session:
        session.do(f"CREATE TABLE j (id {key_type}, state varchar(20), started {moment})")
        for key in keys:
            session.do(f"INSERT INTO j VALUES (%s, 'running', {database.ago})", key, 9 * HOUR)
    return Source("main", database.url, resolve("own", {"own": PROFILE}), thresholds(), PATIENCE)


def states(database: Database) -> list[str]:
    with database.session(autocommit=True) as session:
        return [state for (state,) in session.ask("SELECT state FROM j")]


@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
def test_jobs_with_one_key_are_refused_with_the_words_of_check(request: pytest.FixtureRequest, where: str) -> None:
    with database_on(request, where) as database:
        source = source_of(database, "integer", 1, 1, 2)
        swept = sweep(source, DowntimeTracker(0), SourceState(), OPTIONS, None, SweepRecorder())
        assert swept.outcome is Outcome.FAILED and swept.error is not None
        assert swept.error.startswith("j: jobs.key ('id') is not unique: there is no primary key or unique constraint")
        with pytest.raises(KeyNotUnique, match="not unique"):
            report(source, DowntimeTracker(0), EVERYTHING)
        with source.connect() as connection, pytest.raises(KeyNotUnique):
            source.lookup.find(connection, ["1"])
        assert set(states(database)) == {"running"}
        with database.session(autocommit=True) as session:
            session.do("UPDATE j SET state = 'over' WHERE id = 1")
        assert sweep(source, DowntimeTracker(0), SourceState(), OPTIONS, None, SweepRecorder()).reaped == 1
        source.close()


def test_key_of_an_array_is_refused_by_every_command(request: pytest.FixtureRequest) -> None:
    with database_on(request, "postgresql") as database:
        source = source_of(database, "text[]", ["a", "b"], ["c"])
        swept = sweep(source, DowntimeTracker(0), SourceState(), OPTIONS, None, SweepRecorder())
        assert swept.error == "j.id is an array, and part of jobs.key: keys of arrays are not supported"
        with pytest.raises(SpellingUnclear, match="keys of arrays are not supported"):
            report(source, DowntimeTracker(0), EVERYTHING)
        assert set(states(database)) == {"running"}
        source.close()

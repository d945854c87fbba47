"""A name that leads to another table later is never followed silently."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import event

from reaper.model import Outcome, SweepReport
from reaper.observers.status import Status
from reaper.operations.purge import NullPurgeListener, PurgeOptions, purge
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from tests.support.protea import HOUR, PATIENCE, Protea, thresholds

_SCHEMA = "CREATE SCHEMA {0}; CREATE TABLE {0}.job (LIKE job INCLUDING ALL)"
_COPY = """
CREATE TABLE job_copy (LIKE job INCLUDING ALL);
INSERT INTO job_copy SELECT * FROM job;
ALTER TABLE job_event DROP CONSTRAINT job_event_job_id_fkey;
ALTER TABLE job RENAME TO job_before;
ALTER TABLE job_copy RENAME TO job;
"""


@pytest.fixture
def source(protea: Protea) -> Iterator[Source]:
    """After its first contact."""
    source = protea.source()
    with source.connect():
        pass
    yield source
    source.close()


def problems(report: SweepReport) -> list[str]:
    """What `/ready` says after this sweep."""
    status = Status()
    status.set_sources(["main"], 60)
    status.swept(report)
    return status.problems()["main"]


def test_table_in_a_schema_called_like_the_role_diverts_no_sweep(protea: Protea, source: Source) -> None:
    stale = protea.stale()
    protea.connection.execute(_SCHEMA.format(protea.connection.info.user).encode())
    report = protea.sweep(source)
    assert (report.outcome, report.reaped) == (Outcome.DONE, 1)
    [diverted] = report.diverted
    assert diverted.startswith("job leads to postgres.job now, and public.job was meant at the first contact")
    assert problems(report) == [diverted]
    row = protea.connection.execute("SELECT status::text FROM public.job WHERE id = %s", (stale,)).fetchone()
    assert row == ("failed",)
    protea.connection.execute(f"DROP SCHEMA {protea.connection.info.user} CASCADE".encode())
    assert problems(protea.sweep(source)) == []


def test_copy_in_the_place_of_a_table_is_followed_and_silence_begins_again(protea: Protea, source: Source) -> None:
    downtime, stale = DowntimeTracker(0), protea.stale()
    assert protea.sweep(source, downtime=downtime, dry_run=True).census.stale == 1  # type: ignore[union-attr]
    protea.connection.execute(_COPY.encode())
    report = protea.sweep(source, downtime=downtime)
    assert (report.outcome, report.reaped, report.error) == (Outcome.DONE, 0, None)
    assert report.census is not None and report.census.running == 1
    assert downtime.interruption is not None and "put in the place of another" in downtime.interruption.why
    assert protea.status(stale) == "running" and problems(report) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("DELETE FROM job", "does not have every running job of public.job_before"),
        ("DROP TABLE job_before CASCADE", "the one before is gone"),
        ("ALTER TABLE job OWNER TO pg_monitor", "is another table, of 'pg_monitor'"),
    ],
)
def test_another_table_in_its_place_waits_for_a_reload(
    change: str, reason: str, protea: Protea, source: Source
) -> None:
    protea.stale()
    protea.connection.execute(f"{_COPY}{change}".encode())
    for _ in range(2):
        report = protea.sweep(source)
        assert report.outcome is Outcome.FAILED and reason in (report.error or "")
        assert "reload the reaper" in problems(report)[0]
    assert protea.sweep(protea.source()).outcome is Outcome.DONE


def test_table_that_is_replaced_after_the_survey_loses_no_job(protea: Protea, source: Source) -> None:
    """The statement that locks the jobs compares the tables."""
    stale = protea.stale()

    @event.listens_for(source.engine, "before_cursor_execute")
    def _replace(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "FOR UPDATE" in statement and protea.connection.execute("SELECT to_regclass('job_before')").fetchone() == (
            None,
        ):
            protea.connection.execute(_COPY.encode())

    report = protea.sweep(source)
    assert (report.reaped, report.locked_total) == (0, 1) and protea.status(stale) == "running"


def test_view_with_another_definition_is_another_table(protea: Protea) -> None:
    """For views the definition is compared: a sign of life may be left out by it."""
    protea.connection.execute("ALTER TABLE job_event RENAME TO events; CREATE VIEW job_event AS TABLE events")
    source, downtime = protea.source(), DowntimeTracker(0)
    protea.stale()
    assert protea.sweep(source, downtime=downtime, dry_run=True).census.stale == 1  # type: ignore[union-attr]
    protea.connection.execute("CREATE OR REPLACE VIEW job_event AS SELECT * FROM events WHERE event <> 'progress'")
    assert protea.sweep(source, downtime=downtime).reaped == 0
    assert downtime.interruption is not None


def test_view_that_is_redefined_after_the_survey_loses_no_job(protea: Protea) -> None:
    protea.connection.execute("ALTER TABLE job_event RENAME TO events; CREATE VIEW job_event AS TABLE events")
    source, stale = protea.source(), protea.stale()
    with source.connect():
        pass

    @event.listens_for(source.engine, "before_cursor_execute")
    def _redefine(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "FOR UPDATE" in statement:
            protea.connection.execute("CREATE OR REPLACE VIEW job_event AS SELECT * FROM events WHERE event <> 'x'")

    report = protea.sweep(source)
    source.close()
    assert (report.reaped, report.locked_total) == (0, 1) and protea.status(stale) == "running"


def test_finished_jobs_of_a_table_that_is_replaced_are_not_deleted(protea: Protea, source: Source) -> None:
    """A purge compares the tables, too, in the statement that locks."""
    old = protea.job(status="succeeded", age=2400 * HOUR, finished=2390 * HOUR)

    @event.listens_for(source.engine, "before_cursor_execute")
    def _replace(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "FOR UPDATE" in statement and protea.connection.execute("SELECT to_regclass('job_before')").fetchone() == (
            None,
        ):
            protea.connection.execute(_COPY.encode())

    report = purge(source, PurgeOptions(days_to_keep=30, batch_size=10), NullPurgeListener())
    assert (report.purged, report.left) == (0, 1) and old in protea.statuses()


def test_table_that_stays_is_compared_in_the_statement_that_locks(protea: Protea, source: Source) -> None:
    listed = source.statements.identity_values
    numbers = protea.connection.execute("SELECT 'job'::regclass::int8, 'job_event'::regclass::int8").fetchone()
    assert tuple(listed.values()) == numbers
    protea.stale()
    assert protea.sweep(source).reaped == 1


def test_table_that_the_reaper_does_not_use_may_be_replaced(protea: Protea) -> None:
    """Such as that of an optional insert that is left out: the silence of jobs does not begin again."""
    note = {"insert": "note", "values": {"job_id": {"column": "id"}, "absent": "x"}, "optional": True}
    profile = resolve("own", {"own": {"extends": "protea", "actions": {"fail": {"also": [note]}}}})
    protea.connection.execute("CREATE TABLE note (job_id uuid)")
    source = Source("main", protea.url, profile, thresholds(), PATIENCE)
    protea.stale()
    assert protea.sweep(source, dry_run=True).census.stale == 1  # type: ignore[union-attr]
    protea.connection.execute("DROP TABLE note")
    protea.connection.execute("CREATE TABLE note (job_id uuid)")
    source.decision.renew()
    assert protea.sweep(source).reaped == 1
    source.close()

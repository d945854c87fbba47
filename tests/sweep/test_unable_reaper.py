"""A reaper that cannot do its work says so, does not blame single jobs, and does not keep a replica from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import select

from reaper.database.timeouts import Timeouts
from reaper.model import Outcome
from reaper.profile import resolve
from reaper.source import Source
from reaper.sql.statement import CompiledStatement
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.source_state import SourceState
from tests.support.protea import PATIENCE, Protea, thresholds


@contextmanager
def role(protea: Protea, *grants: str) -> Iterator[str]:
    """The URL for a role that has these privileges only."""
    name = f"limited_{protea.connection.info.dbname}"
    protea.connection.execute(f"CREATE ROLE {name} LOGIN")
    try:
        for grant in grants:
            protea.connection.execute(f"GRANT {grant} TO {name}")
        yield protea.url.replace("postgres@", f"{name}@")
    finally:
        protea.connection.execute(f"DROP OWNED BY {name}")
        protea.connection.execute(f"DROP ROLE {name}")


def source_of(url: str, timeouts: Timeouts = PATIENCE) -> Source:
    return Source("main", url, resolve("protea"), thresholds(), timeouts)


@pytest.mark.parametrize("stale", [1, 60])
def test_sweep_fails_without_the_privilege_to_update(protea: Protea, stale: int) -> None:
    jobs = [protea.stale() for _ in range(stale)]
    memory = SourceState()
    with role(protea, "SELECT ON job, job_event", "INSERT ON job_event") as url:
        for _ in range(2):
            report = protea.sweep(source_of(url), memory=memory, breaker=Breaker(10**6, 1.0))
            assert (report.outcome, report.succeeded, report.failures) == (Outcome.FAILED, False, ())
            assert report.error is not None and "permission denied for table job" in report.error
    assert {protea.status(job) for job in jobs} == {"running"}


def test_row_security_that_refuses_one_row_fails_that_job_alone(protea: Protea) -> None:
    bad, good = protea.stale(operation="bad"), protea.stale()
    rights = ("SELECT, UPDATE ON job", "SELECT, INSERT ON job_event")
    with role(protea, *rights) as url:
        protea.connection.execute("ALTER TABLE job ENABLE ROW LEVEL SECURITY")
        protea.connection.execute(
            "CREATE POLICY careful ON job USING (true) WITH CHECK (operation <> 'bad' OR status <> 'failed')"
        )
        report = protea.sweep(source_of(url))
        assert (report.outcome, report.reaped, [f.key for f in report.failures]) == (Outcome.DONE, 1, [(bad,)])
    assert (protea.status(bad), protea.status(good)) == ("running", "failed")


def test_reaper_that_cannot_work_releases_its_lease_for_one_that_can(protea: Protea) -> None:
    job = protea.stale()
    with role(protea, "SELECT ON job, job_event", "INSERT ON job_event") as url:
        unable, able = source_of(url), protea.source()
        mine, theirs = unable.lease(60), able.lease(60)
        try:
            assert protea.sweep(unable, lease=mine).outcome is Outcome.FAILED
            assert protea.sweep(able, lease=theirs).outcome is Outcome.DONE
        finally:
            mine.release()
            theirs.release()
    assert protea.status(job) == "failed"


def test_defect_of_ours_releases_the_lease_too(protea: Protea, monkeypatch: pytest.MonkeyPatch) -> None:
    unable, able = protea.source(), protea.source()
    mine, theirs = unable.lease(60), able.lease(60)

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("reaper.sweep.candidate_spool.CandidateSpool.fill", full)
        with pytest.raises(OSError, match="No space"):
            protea.sweep(unable, lease=mine)
    try:
        assert protea.sweep(able, lease=theirs).outcome is Outcome.DONE
    finally:
        theirs.release()


def test_locked_table_fails_the_sweep_and_blames_no_job(protea: Protea, monkeypatch: pytest.MonkeyPatch) -> None:
    """CREATE INDEX takes such a lock: no session may write meanwhile."""
    monkeypatch.setattr("reaper.database.postgresql.LOCK_MS", 200)
    jobs = [protea.stale() for _ in range(24)]
    memory = SourceState()
    with protea.connect() as migration:
        migration.execute("LOCK TABLE job_event IN SHARE MODE")
        report = protea.sweep(memory=memory)
        assert (report.outcome, report.reaped, report.failures) == (Outcome.FAILED, 0, ())
        assert report.error is not None and "lock timeout" in report.error
    assert protea.sweep(memory=memory).reaped == len(jobs)


def test_batch_that_takes_too_long_is_ended_in_parts(protea: Protea) -> None:
    protea.connection.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$"
    )
    protea.connection.execute("CREATE TRIGGER slow BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION slow()")
    for _ in range(30):
        protea.stale()
    report = protea.sweep(source_of(protea.url, Timeouts(statement=1, connect=5)))
    assert (report.outcome, report.reaped, report.failures) == (Outcome.DONE, 30, ())


def test_full_disk_of_the_database_is_downtime(protea: Protea) -> None:
    """A worker that cannot write cannot show a sign of life."""
    protea.stale()
    protea.connection.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE disk_full; END $$; CREATE TRIGGER full_disk BEFORE INSERT ON job_event"
        " FOR EACH ROW EXECUTE FUNCTION full_disk()"
    )
    report = protea.sweep(downtime=DowntimeTracker(0))
    assert (report.outcome, report.database_away) == (Outcome.FAILED, True)


def test_longest_locked_rows_are_looked_at_first(protea: Protea, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reaper.sweep.sweep.MAX_LISTED", 2)
    source, memory = protea.source(), SourceState()
    old = [protea.stale() for _ in range(2)]
    with protea.connect() as first, protea.connect() as second:
        first.execute("SELECT FROM job WHERE id = ANY (%s::uuid[]) FOR UPDATE", (old,))
        protea.sweep(source, memory=memory)
        fresh = [protea.stale() for _ in range(3)]
        second.execute("SELECT FROM job WHERE id = ANY (%s::uuid[]) FOR UPDATE", (fresh,))
        report = protea.sweep(source, memory=memory)
    assert report.locked_total == 5
    assert {locked.key for locked in report.locked} == {(job,) for job in old}


def test_rule_in_both_shapes_chooses_the_same(protea: Protea) -> None:
    """The survey asks each witness for a sign since the cutoff, the second check for its newest sign."""
    parent = protea.job()
    protea.job(parent=parent, status="succeeded", finished=7200)
    for shape in range(40):
        job = protea.job(age=(shape % 8) * 3600 + 60, status="running" if shape % 5 else "succeeded")
        if shape % 3:
            protea.event(job, age=(shape % 7) * 600)
    source = protea.source()
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        rule, values = source.statements.new_rule(), source.statements.values(context)
        jobs = rule.tables.jobs
        chosen = [
            set(CompiledStatement(query, connection.dialect).execute(connection, values).scalars())
            for query in (select(jobs.c.id).where(shape(jobs)) for shape in (rule.stale, rule.still_stale))
        ]
    assert chosen[0] == chosen[1] != set()


def test_missing_table_is_reported(protea: Protea) -> None:
    protea.connection.execute("DROP TABLE job CASCADE")
    source = protea.source()
    lease = source.lease(60)
    report = protea.sweep(source, lease=lease)
    assert report.outcome is Outcome.FAILED and report.error is not None and '"job" does not exist' in report.error


def test_server_ends_the_transaction_of_a_stopped_process(protea: Protea) -> None:
    """A daemon that is frozen in mid-batch must not hold the rows of a thousand jobs for ever."""
    source = protea.source()
    with source.connect() as connection, source.transaction(connection):
        shown = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one()
    assert shown == "10s"

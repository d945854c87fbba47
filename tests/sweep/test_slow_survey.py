"""A survey that takes too long says what is to be mended."""

from __future__ import annotations

from reaper.source import Source
from tests.support.protea import Protea


def remedies(source: Source) -> list[str]:
    with source.connect() as connection:
        return list(source.what_slows_survey(connection))


def analyze(protea: Protea) -> None:
    protea.connection.execute("SELECT pg_stat_force_next_flush()")
    protea.connection.execute("ANALYZE job, job_event")
    protea.connection.execute("SELECT pg_stat_force_next_flush()")


def test_old_statistics_and_a_missing_index_are_named_with_what_mends_them(protea: Protea) -> None:
    job, source, session = protea.job(), protea.source(), protea.connection
    protea.event(job)
    session.execute("SELECT pg_stat_force_next_flush()")
    assert "public.job has no statistics: run ANALYZE public.job" in remedies(source)
    analyze(protea)
    assert remedies(source) == []
    add = "INSERT INTO job_event (job_id, event) SELECT %s, 'progress' FROM generate_series(1, 2000)"
    session.execute(add, [job])
    session.execute("DROP INDEX ix_job_parent_job_id")
    session.execute("SELECT pg_stat_force_next_flush()")
    statistics, index = remedies(source)
    assert statistics == (
        "2,000 rows of public.job_event (of 2,001) have changed since its statistics were made: "
        "run ANALYZE public.job_event"
    )
    told, _, mend = index.partition(": run ")
    assert told == "no index of public.job begins with parent_job_id"
    session.execute(mend)
    analyze(protea)
    assert remedies(source) == []

"""Compares the rows that two ways of reaping leave in the database."""

from __future__ import annotations

from benchmark.fixtures import connect

# Points in time and durations differ between runs, and nothing else may. Of these fields only the type is compared.
_RUN_SPECIFIC = ["judged_at", "age_seconds", "silence_seconds", "audible_since", "sweep_id"]
_JOBS = r"""
SELECT concat_ws(' ', 'job', id, status, to_jsonb(job) - ARRAY['finished_at', 'error_message'],
                 finished_at IS NOT NULL, regexp_replace(error_message, '\d+h \d+m', '', 'g'))
FROM job
"""
_AUDITS = r"""
SELECT concat_ws(' ', 'event', job_id, level, event, regexp_replace(message, '\d+h \d+m', '', 'g'), (
  SELECT jsonb_object_agg(key, CASE WHEN key = ANY (%s) THEN to_jsonb(jsonb_typeof(value)) ELSE value END)
  FROM jsonb_each(fields)))
FROM job_event
"""


def read_rows(url: str) -> set[str]:
    """Every row of both tables as text, without the values that differ between any two runs."""
    with connect(url) as session:
        jobs, audits = session.execute(_JOBS), session.execute(_AUDITS, [_RUN_SPECIFIC])
        return {row[0] for rows in (jobs, audits) for row in rows}


def first_difference(some: set[str], others: set[str]) -> str | None:
    """Text with one row of each set that the other lacks; None when the sets are equal."""
    if some == others:
        return None
    return f"{min(some - others, default='nothing')!r} against {min(others - some, default='nothing')!r}"

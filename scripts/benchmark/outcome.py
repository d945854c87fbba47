"""Whether two ways of reaping leave the same behind."""

from __future__ import annotations

from benchmark.scene import connect

# Moments and measures of them differ from one run to the next, and only they may: what is left of them is their type.
_OF_THE_RUN = ["judged_at", "age_seconds", "silence_seconds", "audible_since", "sweep_id"]
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


def written(url: str) -> set[str]:
    """Every row of both tables, without what two runs cannot have in common."""
    with connect(url) as session:
        jobs, audits = session.execute(_JOBS), session.execute(_AUDITS, [_OF_THE_RUN])
        return {row[0] for rows in (jobs, audits) for row in rows}


def difference(some: set[str], others: set[str]) -> str | None:
    """One row of each that the other has not; None when there is none."""
    if some == others:
        return None
    return f"{min(some - others, default='nothing')!r} against {min(others - some, default='nothing')!r}"

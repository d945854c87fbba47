"""`reaper check`: rows in the future, and parents in a circle."""

from __future__ import annotations

import pytest

from reaper.check import Level
from tests.support.checks import JOB, A, B, C, only_problem, problems, run_check


def test_running_job_that_starts_in_the_future_is_a_warning(database: str) -> None:
    finding = only_problem(run_check(database, f"{JOB} ('{A}', 'x', 'q', 'running', now() + interval '1 hour', NULL)"))
    assert (finding.level, finding.subject) == (Level.WARNING, "job")
    assert finding.message.startswith(
        f"the job {A} cannot become stale for a long time: by the database's clock, its start"
    )


@pytest.mark.parametrize("context", ["now() + interval '1 hour'", "'infinity'"])
def test_event_in_the_future_is_a_warning(database: str, context: str) -> None:
    job = f"{JOB} ('{A}', 'x', 'q', 'running', now(), NULL)"
    finding = only_problem(
        run_check(database, job, f"INSERT INTO job_event (job_id, ts, event) VALUES ('{A}', {context}, 'x')")
    )
    assert "its newest sign of life (job_event) is in the future, at " in finding.message


def test_finished_jobs_and_starts_within_a_minute_give_no_warning(database: str) -> None:
    script = [
        f"{JOB} ('{A}', 'x', 'q', 'succeeded', now() + interval '1 hour', NULL)",
        f"{JOB} ('{B}', 'x', 'q', 'running', now() + interval '30 s', NULL)",
    ]
    assert problems(run_check(database, *script)) == []


def test_running_jobs_that_are_each_others_ancestors_are_a_warning(database: str) -> None:
    jobs = [f"{JOB} ('{job}', 'x', 'q', 'running', now(), NULL)" for job in (A, B, C)]
    circle = [f"UPDATE job SET parent_job_id = '{p}' WHERE id = '{c}'" for p, c in ((A, B), (B, C), (C, A))]
    finding = only_problem(run_check(database, *jobs, *circle))
    assert finding.level is Level.WARNING
    assert finding.message.startswith("running jobs are each other's parents and keep each other alive for ever")
    assert problems(run_check(database, f"UPDATE job SET status = 'failed' WHERE id = '{B}'")) == []


def test_job_that_is_its_own_parent_gives_no_warning(database: str) -> None:
    assert problems(run_check(database, f"{JOB} ('{A}', 'x', 'q', 'running', now(), '{A}')")) == []

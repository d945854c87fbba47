"""`reaper check`: timestamps that are not stored as the profile says."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from reaper.check import Level
from reaper.profile import resolve
from tests.support.checks import JOB, A, execute, only_problem, problems, profile_with_fix, protea_with, run_check


@pytest.mark.parametrize(
    ("words", "using", "meant"),
    [
        ("timestamp", "ts", "naive"),
        pytest.param("bigint", "extract(epoch FROM ts)", "epoch s", marks=pytest.mark.thorough),
        pytest.param("double precision", "extract(epoch FROM ts)", "epoch s", marks=pytest.mark.thorough),
        ("bigint", "extract(epoch FROM ts) * 1000", "epoch ms"),
    ],
)
def test_timestamp_in_another_format_is_an_error_with_the_line_that_declares_it(
    database: str, words: str, using: str, meant: str
) -> None:
    script = [
        f"{JOB} ('{A}', 'x', 'q', 'succeeded', now(), NULL)",
        f"INSERT INTO job_event (job_id, event) VALUES ('{A}', 'x')",
        f"ALTER TABLE job_event ALTER ts DROP DEFAULT, ALTER ts TYPE {words} USING {using}",
    ]
    finding = only_problem(run_check(database, *script))
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event.ts")
    assert finding.message.startswith(f"is {words}")
    assert finding.message.endswith(
        f", and the profile's time format of job_event is 'timestamptz', a timestamp with time zone; "
        f"did you mean {meant!r}?"
    )
    assert finding.fix == f'[profiles.protea]\nextends = "protea"\ntimes.job_event = "{meant}"'
    corrected = profile_with_fix(finding.fix)
    assert problems(run_check(database, profile=corrected)) == []
    back = only_problem(
        run_check(database, "ALTER TABLE job_event ALTER ts TYPE timestamptz USING now()", profile=corrected)
    )
    assert back.message.endswith("did you mean 'timestamptz'?")
    assert problems(run_check(database, profile=resolve("protea", {"protea": merged(finding.fix, back.fix)}))) == []


def merged(*fixes: str | None) -> dict[str, Any]:
    """The configuration of protea with these lines one after the other."""
    times: dict[str, Any] = {}
    for fix in fixes:
        times |= tomllib.loads(fix or "")["profiles"]["protea"]["times"]
    return {"extends": "protea", "times": times}


def test_numbers_without_a_row_may_be_seconds_or_milliseconds(database: str) -> None:
    script = "ALTER TABLE job_event ALTER ts DROP DEFAULT, ALTER ts TYPE bigint USING extract(epoch FROM ts)"
    finding = only_problem(run_check(database, script))
    assert finding.message.endswith("; a number is 'epoch s' or 'epoch ms', and there is no row that shows which")
    assert finding.fix is None


def test_single_column_without_a_time_zone_is_converted_by_the_fix(database: str) -> None:
    finding = only_problem(run_check(database, "ALTER TABLE job ALTER created_at TYPE timestamp"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job.created_at")
    execute(database, finding.fix)
    assert problems(run_check(database)) == []


def test_timestamp_that_is_only_written_may_have_a_time_zone_or_none(database: str) -> None:
    profile = protea_with(actions={"fail": {"set": {"done": {"is": "now"}}}})
    assert problems(run_check(database, "ALTER TABLE job ADD done timestamp", profile=profile)) == []
    finding = only_problem(run_check(database, "ALTER TABLE job ALTER done TYPE bigint USING 0", profile=profile))
    assert (finding.level, finding.subject) == (Level.ERROR, "job.done")


def test_number_among_timestamps_is_an_error(database: str) -> None:
    finding = only_problem(
        run_check(database, "ALTER TABLE job ALTER finished_at TYPE bigint USING extract(epoch FROM finished_at)")
    )
    assert finding.message == (
        "is bigint, and the profile's time format of job is 'timestamptz', a timestamp with time zone, which other "
        "columns of the table have"
    )

"""Does anything in the database say afterwards why a job was ended?"""

from __future__ import annotations

from collections.abc import Iterator

from reaper.preflight.examination import Examination, listed
from reaper.preflight.finding import Finding, warning


def check_evidence(exam: Examination) -> Iterator[Finding]:
    silent = [f"actions.{name}" for name, action in exam.profile.actions.items() if not action.writes_evidence]
    if "actions.fail" in silent:
        yield warning(
            exam.profile.jobs.table,
            f'{listed(silent)}: no {{ is = "evidence" }} is written anywhere, in an inserted row or a column of the '
            "job: why a job was ended stands in the reaper's log alone",
        )

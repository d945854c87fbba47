"""Does anything in the database say afterwards why a job was ended?"""

from __future__ import annotations

from collections.abc import Iterator

from reaper.preflight.examination import Examination, listed
from reaper.preflight.finding import Finding, warning
from reaper.profile import Action, Known


def check_evidence(exam: Examination) -> Iterator[Finding]:
    silent = [f"actions.{name}" for name, action in exam.profile.actions.items() if not _writes_evidence(action)]
    if "actions.fail" in silent:
        yield warning(
            exam.profile.jobs.table,
            f'{listed(silent)}: no {{ is = "evidence" }} is written anywhere, in an inserted row or a column of the '
            "job: why a job was ended stands in the reaper's log alone",
        )


def _writes_evidence(action: Action) -> bool:
    return any(isinstance(value, Known) and value.known == "evidence" for value in action.values())

"""Stale jobs that are left, and why: what keeps sweeps from ending them although all else is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reaper.check.finding import Finding, warning
from reaper.common import messages
from reaper.model import Evidence
from reaper.sweep.reasons_not_ended import Left, LeftReason


def check_jobs_not_ended(table: str, stale: int, jobs: Sequence[tuple[Evidence, Sequence[Left]]]) -> Iterator[Finding]:
    """One finding for each reason. `jobs` are the first of the silent ones, each with why it is left; `stale` counts
    the stale jobs of the source.
    """
    examples, counts = dict[LeftReason, tuple[Evidence, Left]](), dict[LeftReason, int]()
    for job, reasons in jobs:
        for left in reasons:
            examples.setdefault(left.reason, (job, left))
            counts[left.reason] = counts.get(left.reason, 0) + 1
    looked_at = len(jobs)
    for reason, (job, left) in examples.items():
        number = stale if counts[reason] == looked_at and reason.of_source else counts[reason]
        yield warning(
            table, f"{number} silent job(s) are left ({reason}), such as {messages.format_key(job.key)}: {left.why}"
        )

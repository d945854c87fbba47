"""The page of one job, as values for its template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reaper import __version__
from reaper.common import messages
from reaper.errors import DatabaseUnavailable, NoSuchJob, ReaperError
from reaper.model import Evidence, Verdict
from reaper.observers.history import EndedRecord
from reaper.operations.explain import Explanation
from reaper.source.kept_jobs import kept_by_hold
from reaper.sweep.reasons_not_ended import Left
from reaper.web.service import AdminService
from reaper.web.ui.formatting import Text, absolute, distance, duration, link, text, visible
from reaper.web.ui.history_rows import EndedRow, LateRow, ended_row, late_row
from reaper.web.ui.next_step import NextStep
from reaper.web.ui.overview import Gauge, actions, gauge, source_view, verdict
from reaper.web.ui.timeline import Timeline, timeline

_LATE_SIGNS = 100  # as many as the history keeps


@dataclass(frozen=True, slots=True)
class JobDetails:
    """A job as its database has it. `facts` are like those of `reaper explain`."""

    verdict: str
    why: str
    next: NextStep
    started: str | None
    age: Gauge
    silence: Gauge
    timeline: Timeline | None
    facts: Sequence[tuple[str, str]]
    audits: Sequence[str]
    actions: Sequence[str]
    runs: bool


@dataclass(frozen=True, slots=True)
class JobPage:
    """One job. Without `known` it could not be read, and `trouble` says why."""

    version: str
    host: str
    source: str
    job: Text
    link: str
    kind: Text | None
    known: JobDetails | None
    trouble: str | None
    ended: EndedRow | None
    late: Sequence[LateRow]


def make_job_page(service: AdminService, source: str, job: str) -> JobPage:
    """Raises NoSuchSource, and NoSuchJob for a job that neither the database nor this daemon knows."""
    service.source_status(source)  # raises NoSuchSource, which is not the trouble of a database
    ending = next(
        (e for e in service.history.endings(1000) if e.source == source and messages.format_key(e.job.key) == job), None
    )
    try:
        explanation = service.explain(source, job)
    except NoSuchJob as error:
        if ending is None:
            raise
        return _page(service, source, job, ending, None, f"{error}: its row is gone. It was ended through this daemon.")
    except DatabaseUnavailable as error:
        return _page(service, source, job, ending, None, f"The database is away: {error}")
    except ReaperError as error:
        return _page(service, source, job, ending, None, str(error))
    return _page(service, source, messages.format_key(explanation.evidence.key), ending, explanation, None)


def _page(
    service: AdminService,
    source: str,
    job: str,
    ending: EndedRecord | None,
    explanation: Explanation | None,
    trouble: str | None,
) -> JobPage:
    signs = [
        late
        for late in service.history.late(_LATE_SIGNS)
        if (late.source, messages.format_key(late.sign.key)) == (source, job)
    ]
    kind = explanation.evidence.kind if explanation else ending.job.kind if ending else None
    return JobPage(
        version=__version__,
        host=visible(service.host),
        source=source,
        job=text(job),
        link=link(source, job),
        kind=text(kind) if kind is not None else None,
        known=_details(service, source, explanation) if explanation else None,
        trouble=visible(trouble) if trouble else None,
        ended=ended_row(ending, signs) if ending else None,
        late=[late_row(late) for late in signs],
    )


def _details(service: AdminService, source: str, explanation: Explanation) -> JobDetails:
    job = explanation.evidence
    state = source_view(service, source, None)
    if explanation.holder is not None:
        state = replace(state, holders={job.key: explanation.holder})
    records = service.history.late(_LATE_SIGNS)
    late = [record.sign for record in records if (record.source, record.sign.key) == (source, job.key)]
    runs = job.verdict is not Verdict.ENDED
    reasons = state.guards.of_job(job, explanation.holder)
    return JobDetails(
        verdict=verdict(job),
        why=visible(messages.describe_verdict(job)),
        next=state.next_step(job),
        started=job.started,
        age=gauge("age", job.age_seconds, job.timeout_seconds, "timeout"),
        silence=gauge("silence", job.silence_seconds, job.stall_seconds, "stall window"),
        timeline=timeline(job, explanation.audits, late),
        facts=[(name, visible(value)) for name, value in _facts(explanation, reasons)],
        audits=[visible(messages.describe_audit(audit)) for audit in explanation.audits],
        actions=[*actions(service, source), "hold" if explanation.hold is None else "unhold"] if runs else (),
        runs=runs,
    )


def _facts(explanation: Explanation, reasons: Sequence[Left]) -> Iterator[tuple[str, str]]:
    job = explanation.evidence
    if explanation.hold is not None and job.verdict is not Verdict.STALE:
        yield "hold", kept_by_hold(explanation.hold).why
    yield "status", job.status or "none"
    yield "started", _context(job.started, job.started_from, job.age_seconds, job.unknown)
    for witness, at in job.signs.items():
        yield f"sign of life: {witness}", absolute(at) if at else messages.describe_missing_sign(job)
    if job.worker is not None:
        yield "worker", job.worker
    yield "last sign of life", _context(job.last_sign, job.witness, job.silence_seconds, job.unknown)
    if job.unknown is not None:
        yield "unknown", job.unknown
    yield "timeout", f"{duration(job.timeout_seconds)}, from {job.timeout_from}"
    yield "stall window", f"{duration(job.stall_seconds)}, from {job.stall_from}"
    if job.verdict is not Verdict.ENDED:
        yield from _downtime(job)
    for left in reasons:
        yield f"left ({left.reason})", left.why
    if explanation.holder is not None and job.verdict is not Verdict.STALE:
        yield "locked", messages.describe_lock(explanation.holder)
    if job.judged_at is not None:
        yield "judged", absolute(job.judged_at)


def _downtime(job: Evidence) -> Iterator[tuple[str, str]]:
    if job.audible_since is not None:
        yield "a stall window back", f"{absolute(job.audible_since)}: a job whose last sign of life is older is silent"
    elif job.deaf_until is not None:
        yield "a stall window back", "not reached yet: no sign of life could be seen for so long"
    if job.deaf_until is not None:
        yield "silence counts from", f"{absolute(job.deaf_until)}: before that the database was away, or may have been"


def _context(at: str | None, where: str | None, seconds: float | None, unknown: str | None) -> str:
    if at is None:
        return "unknown"
    if seconds is None and unknown is not None:
        return f"unknown ({f'{where} ' if where else ''}is read as {absolute(at)})"
    passed = f", {distance(seconds)}" if seconds is not None else ""
    return f"{absolute(at)}{f' ({where})' if where else ''}{passed}"

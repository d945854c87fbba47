"""Everything that the page of one job shows, as values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reaper import __version__
from reaper.common import messages
from reaper.errors import DatabaseUnavailable, NoSuchJob, ReaperError
from reaper.model import Evidence, Verdict
from reaper.observers.history import EndedRecord
from reaper.operations.explain import Explanation
from reaper.web.service import AdminService
from reaper.web.ui.formatting import Text, absolute, duration, link, text, visible
from reaper.web.ui.history_rows import EndedRow, LateRow, ended_row, late_row
from reaper.web.ui.outlook import NextStep
from reaper.web.ui.overview import Gauge, actions, gauge, prospect, verdict
from reaper.web.ui.timeline import Timeline, timeline

_LATE_LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class Known:
    """What the database tells of a job. `facts` are like those of `reaper explain`."""

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
    """One job. Without `known` nothing could be read of it, and `trouble` says why."""

    version: str
    host: str
    source: str
    job: Text
    link: str
    kind: Text | None
    known: Known | None
    trouble: str | None
    ended: EndedRow | None
    late: Sequence[LateRow]


def make_job_board(service: AdminService, source: str, job: str) -> JobPage:
    """Raises NoSuchSource, and NoSuchJob for one that nobody has ever heard of."""
    service.standing(source)  # an unknown source is no trouble of a database's
    ending = next(
        (e for e in service.history.endings(1000) if e.source == source and messages.format_key(e.job.key) == job), None
    )
    try:
        told = service.explain(source, job)
    except NoSuchJob as error:
        if ending is None:
            raise
        return _board(
            service, source, job, ending, None, f"{error}: its row is gone. It was ended through this daemon."
        )
    except DatabaseUnavailable as error:
        return _board(service, source, job, ending, None, f"The database is away: {error}")
    except ReaperError as error:
        return _board(service, source, job, ending, None, str(error))
    return _board(service, source, messages.format_key(told.evidence.key), ending, told, None)


def _board(
    service: AdminService,
    source: str,
    job: str,
    ending: EndedRecord | None,
    told: Explanation | None,
    trouble: str | None,
) -> JobPage:
    signs = [
        late
        for late in service.history.late(_LATE_LOOKED_AT)
        if (late.source, messages.format_key(late.sign.key)) == (source, job)
    ]
    kind = told.evidence.kind if told else ending.job.kind if ending else None
    return JobPage(
        version=__version__,
        host=visible(service.host),
        source=source,
        job=text(job),
        link=link(source, job),
        kind=text(kind) if kind is not None else None,
        known=_known(service, source, told) if told else None,
        trouble=visible(trouble) if trouble else None,
        ended=ended_row(ending, signs) if ending else None,
        late=[late_row(late) for late in signs],
    )


def _known(service: AdminService, source: str, told: Explanation) -> Known:
    job = told.evidence
    expecting = prospect(service, source, None)
    if told.holder is not None:
        expecting = replace(expecting, holders={job.key: told.holder})
    late = [late.sign for late in service.history.late(_LATE_LOOKED_AT) if (late.source, late.sign.key) ==
            (source, job.key)]  # fmt: skip
    runs = job.verdict is not Verdict.ENDED
    return Known(
        verdict=verdict(job),
        why=visible(messages.describe_verdict(job)),
        next=expecting.of(job),
        started=job.started,
        age=gauge("age", job.age_seconds, job.timeout_seconds, "timeout"),
        silence=gauge("silence", job.silence_seconds, job.stall_seconds, "stall window"),
        timeline=timeline(job, told.audits, late),
        facts=[(name, visible(value)) for name, value in _facts(told)],
        audits=[visible(messages.describe_audit(written)) for written in told.audits],
        actions=actions(service, source) if runs else (),
        runs=runs,
    )


def _facts(told: Explanation) -> Iterator[tuple[str, str]]:
    job = told.evidence
    yield "status", job.status or "none"
    yield "started", _context(job.started, job.started_from, job.age_seconds)
    for witness, at in job.signs.items():
        yield f"sign of life: {witness}", absolute(at) if at else "none"
    yield "last sign of life", _context(job.last_sign, job.witness, job.silence_seconds)
    if job.unknown is not None:
        yield "unknown", job.unknown
    yield "timeout", f"{duration(job.timeout_seconds)}, from {job.timeout_from}"
    yield "stall window", f"{duration(job.stall_seconds)}, from {job.stall_from}"
    if job.verdict is not Verdict.ENDED:
        yield from _downtime(job)
    if told.holder is not None:
        held = "" if job.verdict is Verdict.ENDED else "; it is not ended while that lasts"
        yield "row held", f"by {messages.describe_holder(told.holder)}{held}"
    if job.judged_at is not None:
        yield "judged", absolute(job.judged_at)


def _downtime(job: Evidence) -> Iterator[tuple[str, str]]:
    if job.audible_since is not None:
        yield "a stall window back", f"{absolute(job.audible_since)}: what was last heard before it is silent"
    elif job.deaf_until is not None:
        yield "a stall window back", "not reached yet: nothing could be heard for so long"
    if job.deaf_until is not None:
        yield "silence counts from", f"{absolute(job.deaf_until)}: the database was away before, or nobody knows"


def _context(at: str | None, where: str | None, seconds: float | None) -> str:
    if at is None:
        return "unknown"
    passed = f", {duration(seconds)} ago" if seconds is not None else ""
    return f"{absolute(at)}{f' ({where})' if where else ''}{passed}"

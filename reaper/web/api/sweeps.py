"""Sweeps: the recent ones, and one now."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from reaper.common.messages import format_key
from reaper.errors import ReaperError
from reaper.model import FailedTransition, KeptJob, LockedCandidate, SweepReport
from reaper.observers.history import SweepRecord
from reaper.sweep.reasons_not_ended import held_by
from reaper.web.api.dependencies import Audited, Service
from reaper.web.api.dry_run_route import dry_run_router
from reaper.web.api.errors import Ambiguous, problems
from reaper.web.api.schemas import (
    LARGEST,
    WHOLE,
    Census,
    Job,
    Mirror,
    Model,
    Parameters,
    SourceName,
    census_of,
    job_of,
    mirrors,
)
from reaper.web.service import AdminService

reading = APIRouter(tags=["sweeps"])
sweeping = dry_run_router("sweeps")


class SweepsParameters(Parameters):
    """Which of the recent sweeps."""

    source: Annotated[SourceName | None, Field(description="Only sweeps of this source.")] = None
    limit: Annotated[int, Field(ge=1, le=500, description="At most so many.")] = 50


@mirrors(
    SweepRecord,
    without=["ended_at"],
    after={"seconds_ago": "outcome", "census": "judged_at"},
    described={
        "judged_at": "The database's clock when it began.",
        "lost": "Changed between the survey and the lock, and left alone.",
        "locked": "Alive: other sessions held their rows.",
        "refused": "The database refused to end them.",
        "late": "Jobs ended earlier that showed life.",
    },
)
class SweepInShort(Mirror):
    """One sweep that has ended."""

    seconds_ago: float
    census: Census | None


class Sweeps(Model):
    """Sweeps since the daemon was started, newest first; of each source the last 500."""

    sweeps: list[SweepInShort]


class SweepNow(Model):
    """What to sweep, and how."""

    source: Annotated[SourceName | None, Field(description="Only this source. Without it: all.")] = None
    dry_run: Annotated[bool, Field(description="End nothing, and return what would be ended.")] = False
    release: Annotated[
        Annotated[int, Field(ge=1, le=LARGEST), WHOLE] | None,
        Field(
            description="Go through although the breaker holds this source: how many stale jobs it holds, as you "
            "have seen them.",
        ),
    ] = None


@mirrors(
    LockedCandidate,
    without=["key", "holder"],
    described={"overdue": "For longer than its stall window."},
)
class RowHeld(Mirror):
    """A stale job whose row another session holds: alive, however long it has been silent."""

    id: str


@mirrors(FailedTransition, without=["key"])
class RowRefused(Mirror):
    """A job that the database refused to end, and its error."""

    id: str


@mirrors(KeptJob, without=["key"], described={"hold": "An operator holds it; else its kind is never ended."})
class RowKept(Mirror):
    """A stale job that nothing ends, and why."""

    id: str


@mirrors(
    SweepReport,
    only=[
        "source", "sweep_id", "outcome", "dry_run", "duration_seconds", "judged_at", "reaped", "lost", "locked_total",
        "refused_total", "error", "database_away", "cap", "quiet_until",
    ],
    after={
        "census": "judged_at", "breaker": "census", "would_reap": "breaker", "locked": "lost",
        "refused": "locked_total", "lines": "database_away",
    },
)  # fmt: skip
class SweepDone(Mirror):
    """One sweep, as it went."""

    census: Census | None
    breaker: Annotated[str | None, Field(description="Why the breaker holds it, or would hold it.")]
    would_reap: Annotated[list[Job], Field(description="Of a dry run: the first hundred.")]
    locked: list[RowHeld]
    kept: Annotated[list[RowKept], Field(description="Those of the stale jobs that nothing ends: the first hundred.")]
    refused: list[RowRefused]
    lines: Annotated[list[str], Field(description="The result in words.")]


class SweepRefused(Model):
    """A source that could not be swept now."""

    source: str
    detail: str


class SweepsDone(Model):
    """What was done."""

    sweeps: list[SweepDone]
    not_swept: list[SweepRefused]


@reading.get("/api/sweeps", summary="The recent sweeps")
async def sweeps(service: Service, parameters: Annotated[SweepsParameters, Query()]) -> Sweeps:
    """Newest first. Since the daemon was started: it keeps them in memory."""
    records = service.history.sweeps(parameters.source, parameters.limit)
    return Sweeps(sweeps=[SweepInShort.of(record, census=census_of(record.census)) for record in records])


@sweeping.post(
    "/api/sweeps", summary="Sweep now, or see what a sweep would do", name="sweep", responses=problems(404, 409)
)
def sweep(service: Service, audit: Audited, request: SweepNow) -> SweepsDone:
    """Outside the schedule. Refused while the supervisor is halted, except for a dry run, and while a source is being
    swept. With `release` the breaker lets just so many stale jobs of one source through; it is refused when the breaker
    holds another number by now. A dry run needs no token."""
    audit.target, audit.details = request.source or "all sources", request.model_dump(exclude_none=True)
    done, refused, errors = list[SweepReport](), list[SweepRefused](), list[ReaperError]()
    for name in _sources(service, request):
        try:
            done.append(service.actions.sweep(name, dry_run=request.dry_run, release=request.release or 0))
        except ReaperError as error:
            refused.append(SweepRefused(source=name, detail=str(error)))
            errors.append(error)
    if errors and not done:
        raise errors[0]
    swept = (f"{report.source}: {report.outcome}, reaped {report.reaped}" for report in done)
    audit.result = "; ".join([*swept, *(refusal.detail for refusal in refused)])
    return SweepsDone(sweeps=[_done(service, report) for report in done], not_swept=refused)


def _sources(service: AdminService, request: SweepNow) -> list[str]:
    if request.source is not None:
        return [request.source]
    if request.release and len(service.sources) > 1:
        raise Ambiguous(f"body source: say whose breaker is to be released: {', '.join(service.sources)}")
    return list(service.sources)


def _done(service: AdminService, report: SweepReport) -> SweepDone:
    breaker, census = service.breaker(report.source), report.census
    guards = service.guards(report.source)
    return SweepDone.of(
        report,
        census=census_of(census),
        breaker=held_by(breaker, census),
        kept=[RowKept.of(job, id=format_key(job.key)) for job in report.kept],
        would_reap=[job_of(report.source, evidence, guards) for evidence in report.would_reap],
        locked=[RowHeld.of(row, id=format_key(row.key)) for row in report.locked],
        refused=[RowRefused.of(row, id=format_key(row.key)) for row in report.failures],
        lines=service.sweep_summary(report),
    )

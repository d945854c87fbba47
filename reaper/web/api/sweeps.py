"""Sweeps: the recent ones, and one now."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from reaper.common.messages import format_key as spelled
from reaper.errors import ReaperError
from reaper.model import Outcome, SweepReport
from reaper.observers.history import SweepRecord
from reaper.web.api.dependencies import AtDesk, Audit, changing_router
from reaper.web.api.errors import Unclear, problems
from reaper.web.api.schemas import LARGEST, WHOLE, Census, Job, Model, SourceName, Wanted
from reaper.web.service import AdminService

reading = APIRouter(tags=["sweeps"])
sweeping = changing_router("sweeps")


class SweepsWanted(Wanted):
    """Which of the recent sweeps."""

    source: Annotated[SourceName | None, Field(description="Only sweeps of this source.")] = None
    limit: Annotated[int, Field(ge=1, le=500, description="At most so many.")] = 50


class SweepInShort(Model):
    """One sweep that has ended."""

    source: str
    sweep_id: str
    outcome: Outcome
    seconds_ago: float
    duration_seconds: float
    judged_at: Annotated[str | None, Field(description="The database's clock when it began.")]
    census: Census | None
    reaped: int
    lost: Annotated[int, Field(description="Moved between the survey and the lock, and left alone.")]
    locked: Annotated[int, Field(description="Alive: somebody held their rows.")]
    refused: Annotated[int, Field(description="The database refused to end them.")]
    late: Annotated[int, Field(description="Jobs ended earlier that showed life.")]
    error: str | None


class Sweeps(Model):
    """Sweeps since the daemon was started, newest first; of each source the last 500."""

    sweeps: list[SweepInShort]


class SweepNow(Model):
    """What to sweep, and how."""

    source: Annotated[SourceName | None, Field(description="Only this source. Without it: all.")] = None
    dry_run: Annotated[bool, Field(description="Only tell what would be ended.")] = False
    release: Annotated[
        Annotated[int, Field(ge=1, le=LARGEST), WHOLE] | None,
        Field(
            description="Go through although the breaker holds this source: how many stale jobs it holds, as you "
            "have seen them.",
        ),
    ] = None


class RowHeld(Model):
    """A stale job whose row somebody holds: alive, whatever its silence says."""

    id: str
    held_seconds: float
    overdue: Annotated[bool, Field(description="For longer than its stall window.")]


class RowRefused(Model):
    """A job that the database refused to end, and what it said."""

    id: str
    error: str


class SweepDone(Model):
    """One sweep, as it went."""

    source: str
    sweep_id: str
    outcome: Outcome
    dry_run: bool
    duration_seconds: float
    judged_at: str | None
    census: Census | None
    breaker: Annotated[str | None, Field(description="Why the breaker holds it, or would hold it.")]
    would_reap: Annotated[list[Job], Field(description="Of a dry run: the first hundred.")]
    reaped: int
    lost: int
    locked: list[RowHeld]
    locked_total: int
    refused: list[RowRefused]
    refused_total: int
    error: str | None
    database_away: bool
    lines: Annotated[list[str], Field(description="What it comes to, in words.")]

    @classmethod
    def of(cls, service: AdminService, report: SweepReport) -> SweepDone:
        breaker = service.breaker(report.source)
        held = report.census is not None and breaker.opens(report.census)
        return cls(
            source=report.source,
            sweep_id=report.sweep_id,
            outcome=report.outcome,
            dry_run=report.dry_run,
            duration_seconds=report.duration_seconds,
            judged_at=report.judged_at,
            census=Census.of(report.census),
            breaker=breaker.reason(report.census) if held and report.census else None,
            would_reap=[Job.of(report.source, evidence) for evidence in report.would_reap],
            reaped=report.reaped,
            lost=report.lost,
            locked=[
                RowHeld(id=spelled(row.key), held_seconds=row.held_seconds, overdue=row.overdue)
                for row in report.locked
            ],
            locked_total=report.locked_total,
            refused=[RowRefused(id=spelled(row.key), error=row.error) for row in report.failures],
            refused_total=report.refused_total,
            error=report.error,
            database_away=report.database_away,
            lines=service.account(report),
        )


class SweepRefused(Model):
    """A source that could not be swept now."""

    source: str
    detail: str


class SweepsDone(Model):
    """What was done."""

    sweeps: list[SweepDone]
    not_swept: list[SweepRefused]


@reading.get("/api/sweeps", summary="The recent sweeps")
async def sweeps(service: AtDesk, wanted: Annotated[SweepsWanted, Query()]) -> Sweeps:
    """Newest first. Since the daemon was started: it keeps them in memory."""
    return Sweeps(sweeps=[_in_short(each) for each in service.history.sweeps(wanted.source, wanted.limit)])


@sweeping.post(
    "/api/sweeps", summary="Sweep now, or see what a sweep would do", name="sweep", responses=problems(404, 409)
)
def sweep(service: AtDesk, deed: Audit, wanted: SweepNow) -> SweepsDone:
    """Whatever the schedule. Refused while the supervisor is halted, except for a dry run, and while a source is being
    swept. With `release` the breaker lets just so many stale jobs of one source through; it is refused when the breaker
    holds another number by now."""
    deed.target, deed.details = wanted.source or "all sources", wanted.model_dump(exclude_none=True)
    names = _named(service, wanted)
    done, refused, errors = list[SweepDone](), list[SweepRefused](), list[ReaperError]()
    for name in names:
        try:
            report = service.admin_actions.sweep(name, dry_run=wanted.dry_run, release=wanted.release or 0)
            done.append(SweepDone.of(service, report))
        except ReaperError as error:
            refused.append(SweepRefused(source=name, detail=str(error)))
            errors.append(error)
    if errors and not done:
        raise errors[0]
    deed.result = "; ".join(
        [*(f"{each.source}: {each.outcome}, reaped {each.reaped}" for each in done), *(each.detail for each in refused)]
    )
    return SweepsDone(sweeps=done, not_swept=refused)


def _named(service: AdminService, wanted: SweepNow) -> list[str]:
    if wanted.source is not None:
        return [wanted.source]
    if wanted.release and len(service.sources) > 1:
        raise Unclear(f"body source: say whose breaker is to be released: {', '.join(service.sources)}")
    return list(service.sources)


def _in_short(swept: SweepRecord) -> SweepInShort:
    return SweepInShort(
        source=swept.source,
        sweep_id=swept.sweep_id,
        outcome=swept.outcome,
        seconds_ago=swept.seconds_ago,
        duration_seconds=swept.duration_seconds,
        judged_at=swept.judged_at,
        census=Census.of(swept.census),
        reaped=swept.reaped,
        lost=swept.lost,
        locked=swept.locked,
        refused=swept.refused,
        late=swept.late,
        error=swept.error,
    )

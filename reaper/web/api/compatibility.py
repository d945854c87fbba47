"""Two endpoints as job systems have had them of their own: their payloads, with the reaper's care."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Request
from pydantic import Field

from reaper.model import Outcome
from reaper.operations.execution_cleanup import MAX_MINUTES
from reaper.sweep.summary import sweep_totals
from reaper.web.api.dependencies import AtDesk, Audit, changing_router
from reaper.web.api.errors import Unclear, problems
from reaper.web.api.schemas import WHOLE, Census, Model, SourceName
from reaper.web.background_clear import BackgroundClear, ClearTasks, Stage
from reaper.web.service import AdminService

reading = APIRouter(tags=["documents"])
ending = changing_router("documents")


async def _clearings(request: Request) -> ClearTasks:
    clearings: ClearTasks = request.app.state.clearings
    return clearings


AtClearings = Annotated[ClearTasks, Depends(_clearings)]

LONGEST_HOURS = 87_600


class CleanupWanted(Model):
    """Which executions are to be cancelled."""

    older_than_minutes: Annotated[
        int, Field(ge=1, le=MAX_MINUTES, description="Minimum age, and minimum silence."), WHOLE
    ] = 5
    dry_run: Annotated[bool, Field(description="Only tell what would be cancelled.")] = False
    source: Annotated[
        SourceName | None, Field(description="Which source. Without it: the only one, or the only log of events.")
    ] = None


class CleanupDone(Model):
    """What was cancelled; of a dry run, what would be."""

    cancelled_count: int
    execution_ids: Annotated[list[int | str], Field(description="Numbers where the keys are; the first 10000.")]
    message: str
    source: str
    dry_run: bool
    notes: Annotated[list[str], Field(description="Why something was spared although it looks stuck.")]


class ClearWanted(Model):
    """What is to be cleared."""

    max_age_hours: Annotated[
        float, Field(gt=0, le=LONGEST_HOURS, description="This timeout for every job; none may be silent for longer.")
    ] = 2
    dry_run: Annotated[bool, Field(description="Only tell what would be ended.")] = False


class ClearSubmitted(Model):
    """What was begun."""

    task_id: str
    status: Literal["submitted"]


class ClearSummary(Model):
    """What it came to in all sources."""

    total_stuck_jobs: int
    cleared: int
    spared: int
    dry_run: bool
    max_age_hours: float


class ClearedSource(Model):
    """One source that was cleared."""

    outcome: Outcome
    census: Census | None
    reaped: int
    lost: int
    locked: int
    refused: int
    notes: list[str]


class ClearResult(Model):
    """What was ended in each source, and what kept one from being cleared."""

    summary: ClearSummary
    sources: dict[str, ClearedSource]
    errors: dict[str, str]


class ClearTask(Model):
    """How far it has come."""

    task_id: str
    status: Stage
    result: ClearResult | None
    error: str | None


@ending.post(
    "/api/executions/cleanup",
    summary="Cancel executions that are older than some minutes, and silent",
    name="cleanup",
    responses=problems(404, 409, 502, 503),
)
def cleanup(service: AtDesk, deed: Audit, wanted: CleanupWanted) -> CleanupDone:
    """A sweep of one source, whose timeout and stall window are both these minutes, for every job. One that has shown a
    sign of life within them is spared; so are all of them when the breaker holds the sweep, and `notes` says so."""
    deed.details = wanted.model_dump(exclude_none=True)
    deed.target = source = wanted.source or _only(service)
    done = service.admin_actions.cleanup(source, wanted.older_than_minutes, dry_run=wanted.dry_run, who=deed.who)
    deed.result = done.message
    return CleanupDone(
        cancelled_count=done.count,
        execution_ids=list(done.ids),
        message=done.message,
        source=source,
        dry_run=done.dry_run,
        notes=list(done.notes),
    )


@ending.post(
    "/api/admin/clear-stuck-jobs",
    summary="Clear the stuck jobs of all sources, in the background",
    name="clear",
    status_code=202,
    responses=problems(409),
)
def clear(clearings: AtClearings, deed: Audit, wanted: ClearWanted) -> ClearSubmitted:
    """A sweep of every source whose timeout are these hours, and whose stall window is no longer. One works at a time.
    The breaker holds it like any sweep. It ends with the daemon, between two batches."""
    deed.target, deed.details = "all sources", wanted.model_dump()
    task = clearings.submit(wanted.max_age_hours, deed.who, dry_run=wanted.dry_run)
    deed.result = f"submitted {task.id}"
    return ClearSubmitted(task_id=task.id, status="submitted")


@reading.get(
    "/api/admin/clear-stuck-jobs/{task_id}",
    summary="How far a clearing has come",
    responses=problems(404),
)
async def cleared(
    service: AtDesk,
    clearings: AtClearings,
    task_id: Annotated[
        str, Path(max_length=100, description="As it was told when it was submitted.", examples=["1f0c2ba4e88f"])
    ],
) -> ClearTask:
    """The last twenty are remembered until the daemon ends."""
    found = clearings.known(task_id)
    over = found.stage in (Stage.DONE, Stage.FAILED)
    return ClearTask(
        task_id=found.id, status=found.stage, result=_result(service, found) if over else None, error=found.error
    )


def _only(service: AdminService) -> str:
    """The source that is meant when nobody said. Raises Unclear."""
    names = service.sources
    logs = [name for name in names if service.is_log(name)]
    if len(names) == 1 or len(logs) == 1:
        return (logs or names)[0]
    raise Unclear(f"body source: there are several sources, say which one: {', '.join(names)}")


def _result(service: AdminService, clearing: BackgroundClear) -> ClearResult:
    reports = clearing.reports
    totals = sweep_totals(reports)
    return ClearResult(
        summary=ClearSummary(
            total_stuck_jobs=totals.stale,
            cleared=totals.reaped,
            spared=totals.spared,
            dry_run=clearing.dry_run,
            max_age_hours=clearing.hours,
        ),
        sources={
            report.source: ClearedSource(
                outcome=report.outcome,
                census=Census.of(report.census),
                reaped=report.reaped,
                lost=report.lost,
                locked=report.locked_total,
                refused=report.refused_total,
                notes=service.account(report),
            )
            for report in reports
        },
        errors={report.source: report.error for report in reports if report.error is not None},
    )

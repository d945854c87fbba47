"""Endpoints with the addresses and payloads of job systems' own ones: their clients can be pointed at the reaper."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from fastapi.responses import RedirectResponse
from pydantic import BeforeValidator, Field

from reaper.model import SweepReport
from reaper.operations.execution_cleanup import MAX_MINUTES
from reaper.operations.guards import GuardPasses
from reaper.sweep.summary import sweep_totals
from reaper.web.api.dependencies import Audited, Service
from reaper.web.api.dry_run_route import dry_run_router
from reaper.web.api.errors import Ambiguous, problems
from reaper.web.api.jobs import JobsParameters
from reaper.web.api.schemas import WHOLE, Census, Mirror, Model, SourceName, census_of, mirrors
from reaper.web.clear_in_background import BackgroundClear, ClearTasks, Stage
from reaper.web.service import AdminService

reading = APIRouter(tags=["documents"])
ending = dry_run_router("documents")

_LONGEST_HOURS = 87_600


async def _clear_tasks(request: Request) -> ClearTasks:
    tasks: ClearTasks = request.app.state.clear_tasks
    return tasks


Tasks = Annotated[ClearTasks, Depends(_clear_tasks)]


WhileHalted = Annotated[bool, Field(description="Go on although the supervisor is halted.")]
Release = Annotated[
    int, Field(ge=0, description="Let the breaker pass so many stale jobs of a source, or fewer."), WHOLE
]
TrustSilence = Annotated[bool, Field(description="Count silence from before the database server's last start.")]


WhileObserved = Annotated[bool, Field(description="Go on although the source is only observed.")]


class CleanupWanted(Model):
    """Which executions are to be cancelled."""

    older_than_minutes: Annotated[
        int, Field(ge=1, le=MAX_MINUTES, description="Minimum age, and minimum silence."), WHOLE
    ] = 5
    dry_run: Annotated[bool, Field(description="Cancel nothing, and return what would be cancelled.")] = False
    source: Annotated[
        SourceName | None, Field(description="Which source. Without it: the only one, or the only log of events.")
    ] = None
    while_halted: WhileHalted = False
    release: Release = 0
    trust_silence: TrustSilence = False
    while_observed: WhileObserved = False


class CleanupDone(Model):
    """What was cancelled; of a dry run, what would be."""

    cancelled_count: int
    execution_ids: Annotated[list[int | str], Field(description="Numbers where the keys are; the first 10000.")]
    message: str
    source: str
    dry_run: bool
    spared_count: Annotated[int, Field(description="As old, and left alone: `notes` says why.")]
    notes: Annotated[list[str], Field(description="Why executions were spared although they look stuck.")]


class ClearWanted(Model):
    """What is to be cleared."""

    max_age_hours: Annotated[
        float,
        Field(gt=0, le=_LONGEST_HOURS, description="The timeout of every job, and its longest stall window."),
    ] = 2
    dry_run: Annotated[bool, Field(description="End nothing, and return what would be ended.")] = False
    while_halted: WhileHalted = False
    release: Release = 0
    trust_silence: TrustSilence = False
    while_observed: WhileObserved = False


_CLEANUP, _CLEAR = CleanupWanted(), ClearWanted()
"""What a request without a body asks for."""


class ClearSubmitted(Model):
    """The task that was started."""

    task_id: str
    status: Literal["submitted"]


class ClearSummary(Model):
    """The result in all sources."""

    total_stuck_jobs: int
    cleared: int
    spared: int
    dry_run: bool
    max_age_hours: float


@mirrors(
    SweepReport,
    only=["outcome", "reaped", "lost", "own_limits"],
    after={"census": "outcome", "locked": "lost", "refused": "locked", "notes": "refused"},
    described={"own_limits": "As old, and left alone: the limit of their kind or their row is longer."},
)
class ClearedSource(Mirror):
    """One source that was cleared."""

    census: Census | None
    locked: int
    refused: int
    notes: list[str]


class ClearResult(Model):
    """What was ended in each source, and the error of each that could not be cleared."""

    summary: ClearSummary
    sources: dict[str, ClearedSource]
    errors: dict[str, str]


class ClearTask(Model):
    """The progress of a clearing."""

    task_id: str
    status: Stage
    result: ClearResult | None
    error: str | None


class RunningJobsParameters(JobsParameters):
    """Which of the running jobs, in the words of protea's own address."""

    status: Annotated[
        Literal["running"] | None,
        BeforeValidator(str.lower),
        Field(description="Only running jobs are listed, so this changes nothing."),
    ] = None


@reading.get(
    "/jobs",
    summary="Leads to the running jobs",
    status_code=307,
    response_class=RedirectResponse,
    responses={307: {"description": "They are at `/api/jobs`, with the same parameters."}},
)
async def running_jobs(parameters: Annotated[RunningJobsParameters, Query()]) -> str:
    """`GET /jobs?status=running` is protea's own address for them."""
    query = urlencode(parameters.model_dump(exclude_unset=True, exclude={"status"}))
    return f"/api/jobs?{query}" if query else "/api/jobs"


@ending.post(
    "/api/executions/cleanup",
    summary="Cancel executions that are older than some minutes, and silent",
    name="cleanup",
    responses=problems(404, 409, 502, 503),
)
def cleanup(service: Service, audit: Audited, request: Annotated[CleanupWanted, Body()] = _CLEANUP) -> CleanupDone:
    """A sweep of one source, whose timeout and stall window are both these minutes, for every job. One that has shown a
    sign of life within them is spared; so are all of them when the breaker holds the sweep, and `notes` says so. 409
    while the supervisor is halted, unless `while_halted` is true. A dry run needs no token, and is not halted."""
    audit.details = request.model_dump(exclude_none=True)
    audit.target = source = request.source or _only_source(service)
    done = service.actions.cleanup(
        source, request.older_than_minutes, dry_run=request.dry_run, who=audit.who, passes=_passes(request)
    )
    audit.result = done.message
    return CleanupDone(
        cancelled_count=done.count,
        execution_ids=list(done.ids),
        message=done.message,
        source=source,
        dry_run=done.dry_run,
        spared_count=done.spared,
        notes=list(done.notes),
    )


@ending.post(
    "/api/admin/clear-stuck-jobs",
    summary="Clear the stuck jobs of all sources, in the background",
    name="clear",
    status_code=202,
    responses=problems(409),
)
def clear(tasks: Tasks, audit: Audited, request: Annotated[ClearWanted, Body()] = _CLEAR) -> ClearSubmitted:
    """A sweep of every source whose timeout are these hours, and whose stall window is no longer. One clearing works at
    a time, and one dry run. The breaker holds it like any sweep. It ends with the daemon, between two batches. 409
    while the supervisor is halted, unless `while_halted` is true. A dry run needs no token, and is not halted."""
    audit.target, audit.details = "all sources", request.model_dump()
    task = tasks.submit(
        request.max_age_hours, audit.who, dry_run=request.dry_run, passes=_passes(request), audited=audit.kept
    )
    audit.result = f"submitted {task.id}"
    return ClearSubmitted(task_id=task.id, status="submitted")


@reading.get(
    "/api/admin/clear-stuck-jobs/{task_id}",
    summary="How far a clearing has come",
    responses=problems(404),
)
async def cleared(
    service: Service,
    tasks: Tasks,
    task_id: Annotated[
        str, Path(max_length=100, description="From the answer to its submission.", examples=["1f0c2ba4e88f"])
    ],
) -> ClearTask:
    """The last twenty are remembered until the daemon ends."""
    task = tasks.get(task_id)
    ended = task.status in (Stage.DONE, Stage.FAILED)
    result = _result(service, task) if ended else None
    return ClearTask(task_id=task.id, status=task.status, result=result, error=task.error)


def _passes(request: CleanupWanted | ClearWanted) -> GuardPasses:
    return GuardPasses(request.while_halted, request.release, request.trust_silence, request.while_observed)


def _only_source(service: AdminService) -> str:
    """The source that is meant when the request names none. Raises Ambiguous."""
    names = service.sources
    logs = [name for name in names if service.is_log(name)]
    if len(names) == 1 or len(logs) == 1:
        return (logs or names)[0]
    raise Ambiguous(f"body source: there are several sources, say which one: {', '.join(names)}")


def _result(service: AdminService, task: BackgroundClear) -> ClearResult:
    reports = task.reports
    totals = sweep_totals(reports)
    return ClearResult(
        summary=ClearSummary(
            total_stuck_jobs=totals.stale,
            cleared=totals.reaped,
            spared=totals.spared,
            dry_run=task.dry_run,
            max_age_hours=task.hours,
        ),
        sources={
            report.source: ClearedSource.of(
                report,
                census=census_of(report.census),
                locked=report.locked_total,
                refused=report.refused_total,
                notes=service.sweep_summary(report),
            )
            for report in reports
        },
        errors={report.source: report.error for report in reports if report.error is not None},
    )

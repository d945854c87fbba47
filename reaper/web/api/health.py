"""Health, for service managers, Prometheus and alerts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client.exposition import choose_encoder
from pydantic import Field

from reaper import __version__
from reaper.operations.report import Report
from reaper.scheduling.scheduler import State
from reaper.web.api.dependencies import Service
from reaper.web.api.schemas import Census, Job, Model, Parameters, census_of, job_of
from reaper.web.service import AdminService
from reaper.web.stuck_jobs import StuckJobs

router = APIRouter(tags=["health"])

Status = Literal["healthy", "warning", "unknown"]


class HealthParameters(Parameters):
    """At which age a job is stuck."""

    max_age_hours: Annotated[
        float | None,
        Field(
            ge=0.001,
            le=87_600,
            description="The timeout of every job, and its longest stall window. Without it: 1 for the sources of "
            "vuls, and as configured for the others.",
        ),
    ] = None


class SourceReady(Model):
    """Whether a source is swept as it should be."""

    ready: bool
    problems: Annotated[list[str], Field(description="What keeps it from being ready.")]


class Ready(Model):
    """Whether every source is swept as it should be, and if not, why."""

    ready: bool
    sources: dict[str, SourceReady]


class Health(Ready):
    """Everything about the daemon's health at once."""

    live: Annotated[bool, Field(description="The daemon's main loop turns.")]
    version: str
    state: Annotated[State | None, Field(description="The supervisor's; null when no schedule is configured.")]
    refused_configuration: Annotated[
        list[str],
        Field(description="What was wrong with the configuration of the last reload: the one before stays in force."),
    ]


class StuckSummary(Model):
    """How many jobs are stuck in all sources."""

    total_stuck_jobs: int
    stuck_jobs: Annotated[dict[str, int], Field(description="By source.")]
    unknown: Annotated[list[str], Field(description="Sources of which not everything is known.")]
    orphaned_tasks: Annotated[int, Field(description="Tasks that Celery executes and that belong to no job.")]


class StuckSource(Model):
    """The stuck jobs of one source: the oldest of them."""

    census: Census | None
    jobs: list[Job]
    more: Annotated[bool, Field(description="More jobs than these are past their timeout.")]
    error: Annotated[str | None, Field(description="Why it could not be read, or why not everything is known.")]


class OrphanedTask(Model):
    """A task that a worker of Celery executes, and that belongs to no job."""

    id: str
    task: str | None
    worker: str


class StuckReport(Model):
    """The jobs past their timeout, stale and spared, oldest first."""

    summary: StuckSummary
    sources: dict[str, StuckSource]
    orphans: list[OrphanedTask]


class SchedulerHealth(Model):
    """Only `healthy` when nothing is stuck."""

    status: Status
    stuck_jobs: Annotated[int, Field(description="How many are stale, and orphaned tasks.")] = 0
    details: StuckReport | None = None


def _text(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}, "example": example}}}


@router.get(
    "/live",
    summary="Whether the daemon's main loop turns",
    response_class=PlainTextResponse,
    responses={200: _text("It turns.", "alive\n"), 503: _text("It does not.", "the main loop does not turn\n")},
)
async def live(service: Service) -> Response:
    """For what restarts the daemon when it hangs."""
    if service.status.alive:
        return PlainTextResponse("alive\n")
    return PlainTextResponse("the main loop does not turn\n", status_code=503)


@router.get(
    "/ready",
    summary="Whether every source is looked after",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "One is not; the body says why."}},
)
async def ready(service: Service) -> Response:
    """Ready means for each source: its database is reachable, its last successful sweep is younger than three
    intervals, its breaker is closed, and the supervisor is not halted."""
    body = _ready(service)
    return JSONResponse(body, status_code=200 if body["ready"] else 503)


@router.get(
    "/api/health",
    summary="Everything about the daemon's health at once",
    response_model=Health,
    responses={503: {"model": Health, "description": "The main loop does not turn."}},
)
async def health(service: Service) -> Response:
    """Answers 200 as long as the daemon lives; the body says whether it is ready."""
    alive = service.status.alive
    body = {
        **_ready(service),
        "live": alive,
        "version": __version__,
        "state": service.supervisor.state,
        "refused_configuration": list(service.status.reload_problems),
    }
    return JSONResponse(body, status_code=200 if alive else 503)


@router.get(
    "/health/scheduler",
    summary="Whether jobs are stuck",
    response_model=SchedulerHealth,
    response_model_exclude_unset=True,
    responses={
        200: {"content": {"application/json": {"examples": {"healthy": {"value": {"status": "healthy"}}}}}},
        503: {"model": SchedulerHealth, "description": "No source could be read."},
    },
)
def scheduler(service: Service, parameters: Annotated[HealthParameters, Query()]) -> SchedulerHealth | Response:
    """`warning` when jobs are stale, when Celery executes tasks that belong to no job, or when not everything is known:
    before the first sweep of a source, and while its workers have not answered for all of its jobs. The details then
    name these jobs, and say what is not known. Reads the databases; what the workers said to the last sweep counts."""
    stuck = service.stuck_jobs(parameters.max_age_hours)
    totals = stuck.totals
    if not totals.total_stuck_jobs and not totals.unknown:
        return SchedulerHealth(status="healthy")
    details = StuckReport(
        summary=StuckSummary(
            total_stuck_jobs=totals.total_stuck_jobs,
            stuck_jobs=dict(totals.stuck_jobs),
            unknown=list(totals.unknown),
            orphaned_tasks=totals.orphaned_tasks,
        ),
        sources={name: _stuck(name, report, stuck, service) for name, report in stuck.reports.items()},
        orphans=[OrphanedTask(id=orphan.id, task=orphan.task, worker=orphan.worker) for orphan in stuck.orphans],
    )
    unknown = len(stuck.errors) == len(stuck.reports)
    health = SchedulerHealth(
        status="unknown" if unknown else "warning", stuck_jobs=totals.total_stuck_jobs, details=details
    )
    return JSONResponse(health.model_dump(mode="json"), status_code=503) if unknown else health


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses={200: _text("In the format that the client asks for.", "reaper_jobs_running 3\n")},
)
async def metrics(request: Request) -> Response:
    """In Prometheus's text format, or as OpenMetrics for a client that accepts it."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(request.app.state.registry), media_type=content_type)


def _ready(service: AdminService) -> dict[str, Any]:
    problems = service.status.problems()
    sources = {name: {"ready": not listed, "problems": listed} for name, listed in problems.items()}
    return {"ready": not any(problems.values()), "sources": sources}


def _stuck(name: str, report: Report | None, stuck: StuckJobs, service: AdminService) -> StuckSource:
    if report is None:
        return StuckSource(census=None, jobs=[], more=False, error=stuck.errors.get(name))
    guards = service.guards(name, report)
    jobs = [job_of(name, job, guards, report.holders.get(job.key)) for job in report.jobs]
    why = stuck.unknown.get(name)
    return StuckSource(census=census_of(report.census), jobs=jobs, more=report.more, error=why)

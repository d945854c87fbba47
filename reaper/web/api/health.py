"""Whether all is well: for whoever restarts, scrapes or alerts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client.exposition import choose_encoder
from pydantic import Field

from reaper import __version__
from reaper.operations.report import Report
from reaper.scheduling.scheduler import State
from reaper.web.api.dependencies import AtDesk
from reaper.web.api.schemas import Census, Job, Model
from reaper.web.service import AdminService

router = APIRouter(tags=["health"])

Status = Literal["healthy", "warning", "unknown"]


class SourceReady(Model):
    """Whether a source is looked after."""

    ready: bool
    problems: Annotated[list[str], Field(description="What is in the way.")]


class Ready(Model):
    """Whether every source is looked after, and if not, what is in the way."""

    ready: bool
    sources: dict[str, SourceReady]


class Health(Ready):
    """Everything about the daemon's health at once."""

    live: Annotated[bool, Field(description="The daemon's main loop turns.")]
    version: str
    state: Annotated[State | None, Field(description="The supervisor's; null when no schedule is configured.")]
    refused_configuration: Annotated[
        list[str],
        Field(description="What is wrong with a configuration that a reload has refused: the one before is in force."),
    ]


class StuckSummary(Model):
    """How much is stuck in all sources."""

    total_stuck_jobs: int
    stuck_jobs: Annotated[dict[str, int], Field(description="By source.")]
    unknown: Annotated[list[str], Field(description="Sources of which not all is known.")]


class StuckSource(Model):
    """What is stuck in one source: the oldest of it."""

    census: Census | None
    jobs: list[Job]
    more: Annotated[bool, Field(description="Not all past their timeout are named.")]
    error: Annotated[str | None, Field(description="What kept it from being told.")]


class StuckReport(Model):
    """The jobs past their timeout, stale and spared, oldest first."""

    summary: StuckSummary
    sources: dict[str, StuckSource]


class SchedulerHealth(Model):
    """`healthy` alone when nothing is stuck."""

    status: Status
    stuck_jobs: Annotated[int, Field(description="How many are stale.")] = 0
    details: StuckReport | None = None


def _alive(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}, "example": example}}}


@router.get(
    "/live",
    summary="Whether the daemon's main loop turns",
    response_class=PlainTextResponse,
    responses={200: _alive("It turns.", "alive\n"), 503: _alive("It does not.", "the main loop does not turn\n")},
)
async def live(service: AtDesk) -> Response:
    """For whoever starts the daemon anew when it hangs."""
    if service.status.alive:
        return PlainTextResponse("alive\n")
    return PlainTextResponse("the main loop does not turn\n", status_code=503)


@router.get(
    "/ready",
    summary="Whether every source is looked after",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "One is not; the body says why."}},
)
async def ready(service: AtDesk) -> Response:
    """Ready means for each source: its database is reachable, its last successful sweep is younger than three
    intervals, its breaker is closed, and nobody has halted the supervisor."""
    found = _ready(service)
    return JSONResponse(found, status_code=200 if found["ready"] else 503)


@router.get(
    "/api/health",
    summary="Everything about the daemon's health at once",
    response_model=Health,
    responses={503: {"model": Health, "description": "The main loop does not turn."}},
)
async def health(service: AtDesk) -> Response:
    """Answers 200 as long as the daemon lives; the body says whether it is ready."""
    alive = service.status.alive
    told = {
        **_ready(service),
        "live": alive,
        "version": __version__,
        "state": service.supervisor.state,
        "refused_configuration": list(service.status.refused),
    }
    return JSONResponse(told, status_code=200 if alive else 503)


@router.get(
    "/health/scheduler",
    summary="Whether jobs are stuck",
    response_model=SchedulerHealth,
    response_model_exclude_unset=True,
    responses={
        200: {"content": {"application/json": {"examples": {"healthy": {"value": {"status": "healthy"}}}}}},
        503: {"model": SchedulerHealth, "description": "No source could be asked."},
    },
)
def scheduler(service: AtDesk) -> SchedulerHealth | Response:
    """`warning` when jobs are stale, or when not all is known. The details then say which jobs, and of what not all is
    known. Asks the databases."""
    summary, reports, errors = service.summary()
    if not summary.total_stuck_jobs and not summary.unknown:
        return SchedulerHealth(status="healthy")
    details = StuckReport(
        summary=StuckSummary(
            total_stuck_jobs=summary.total_stuck_jobs,
            stuck_jobs=dict(summary.stuck_jobs),
            unknown=list(summary.unknown),
        ),
        sources={name: _stuck(name, report, errors.get(name)) for name, report in reports.items()},
    )
    nobody = len(errors) == len(reports)
    told = SchedulerHealth(
        status="unknown" if nobody else "warning", stuck_jobs=summary.total_stuck_jobs, details=details
    )
    return JSONResponse(told.model_dump(mode="json"), status_code=503) if nobody else told


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses={200: _alive("In the form that the client asks for.", "reaper_jobs_running 3\n")},
)
async def metrics(request: Request) -> Response:
    """Text for Prometheus, or OpenMetrics for who asks for that."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(request.app.state.registry), media_type=content_type)


def _ready(service: AdminService) -> dict[str, Any]:
    problems = service.status.problems()
    sources = {name: {"ready": not found, "problems": found} for name, found in problems.items()}
    return {"ready": not any(problems.values()), "sources": sources}


def _stuck(name: str, report: Report | None, error: str | None) -> StuckSource:
    if report is None:
        return StuckSource(census=None, jobs=[], more=False, error=error)
    trouble = report.liveness.trouble if report.liveness else None
    jobs = [Job.of(name, job, report.holders.get(job.key)) for job in report.jobs]
    return StuckSource(census=Census.of(report.census), jobs=jobs, more=report.more, error=trouble)

"""The running jobs, everything that is known of one job, and its end by hand."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field
from starlette.exceptions import HTTPException

from reaper.common.json_values import to_jsonable
from reaper.errors import DatabaseUnavailable, JobChanged, ReaperError
from reaper.model import JobHold, Verdict
from reaper.operations.explain import Explanation
from reaper.operations.fail import ExpectedStart, ManualEnd
from reaper.operations.guards import GuardPasses
from reaper.operations.report import Report, ReportQuery
from reaper.sweep.reasons_not_ended import SourceGuards
from reaper.web.api.dependencies import Audit, Audited, Service, any_text, changing_router
from reaper.web.api.errors import Moved, conflict, problems
from reaper.web.api.schemas import (
    Census,
    Job,
    Model,
    Parameters,
    Problem,
    ReasonText,
    RowHolder,
    SourceName,
    Text,
    census_of,
    holder_of,
    job_of,
)
from reaper.web.service import AdminService

reading = APIRouter(tags=["jobs"])
ending = changing_router("jobs")

_MOST_LISTED = 200
_LARGEST_OFFSET = 1_000_000
_ACTIONS = ("fail", "requeue", "hold", "unhold")
_SLASHES = 4  # /api/jobs/SOURCE/ID
JOB_PATH = "/api/jobs/{source}/" + any_text("id")


class JobsParameters(Parameters):
    """Which of the running jobs."""

    verdict: Annotated[
        Literal["young", "spared", "stale"] | None, Field(description="Only jobs with this verdict.")
    ] = None
    source: Annotated[SourceName | None, Field(description="Only this source. Without it: each source by itself.")] = (
        None
    )
    kind: Annotated[
        Text | None, Field(max_length=500, description="Only jobs of this kind.", examples=["compute_embeddings"])
    ] = None
    limit: Annotated[int, Field(ge=1, le=_MOST_LISTED, description="At most so many of each source.")] = 50
    offset: Annotated[
        int, Field(ge=0, le=_LARGEST_OFFSET, description="Of each source, those after the first so many.")
    ] = 0


class StartLostJobs(Model):
    """The running jobs of a log whose start was lost: no entry starts them. The others do not include them."""

    census: Census
    jobs: Annotated[list[Job], Field(description="Whatever their verdict and kind, oldest first: the first `limit`.")]
    more: Annotated[bool, Field(description="There are more after these.")]


class SourceJobs(Model):
    """The running jobs of one source, oldest first."""

    source: str
    error: Annotated[str | None, Field(description="Why it could not be read.")]
    database_away: bool
    census: Annotated[Census | None, Field(description="Of all its running jobs, not only of those asked for.")]
    jobs: list[Job]
    more: Annotated[bool, Field(description="There are more after these.")]
    notes: Annotated[list[str], Field(description="What else could not be read, and why.")]
    start_lost: Annotated[
        StartLostJobs | None, Field(description="Null where they are not looked for, or could not be found.")
    ]


class Jobs(Model):
    """A page of the running jobs of each source."""

    limit: int
    offset: int
    sources: list[SourceJobs]


class JobEnded(Model):
    """How a job was ended through this daemon."""

    by: Annotated[str | None, Field(description="Who asked for it; null for a scheduled sweep.")]
    reason: str
    action: Annotated[str, Field(description="The action of its profile that ended it.")]
    sweep_id: str
    seconds_ago: float


class JobHeld(Model):
    """The hold on a job."""

    until: Annotated[str, Field(description="By the clock of its database.")]
    by: str
    reason: str


class JobExplained(Model):
    """Everything that is known of one job, running or not."""

    source: str
    job: Job
    holder: Annotated[RowHolder | None, Field(description="The session that holds its row now.")]
    actions: Annotated[list[str], Field(description="The actions by which a running job of this source can be ended.")]
    hold: Annotated[JobHeld | None, Field(description="The hold that keeps it from being ended; null without one.")]
    ended: Annotated[JobEnded | None, Field(description="Null for one that this daemon has not ended lately.")]
    audits: Annotated[list[dict[str, Any]], Field(description="What earlier reaps of it wrote, newest first.")]


class EndWanted(Model):
    """Which run of the job is to end, and why."""

    started: Annotated[
        Text | None,
        Field(
            max_length=100,
            description="The job's `started` when you decided. When it has changed since, nothing is done.",
            examples=["2026-03-01T08:15:00+00:00"],
        ),
    ]
    reason: ReasonText
    while_observed: Annotated[bool, Field(description="Go on although the source is only observed.")] = False


class EndDone(Model):
    """One job that was ended."""

    source: str
    id: str
    action: str
    kind: str | None
    reason: Annotated[str, Field(description="Its error code.")]
    message: Annotated[str, Field(description="Its error message.")]
    age_seconds: float | None
    silence_seconds: float | None


class JobHasMoved(Problem):
    """The job has changed since it was looked at, or its row is held; or there is no such action."""

    job: Annotated[Job | None, Field(description="What it is by now; null when it is gone.")] = None


def is_job_path(path: str) -> bool:
    """Whether it is the path of one job, or of an action on it."""
    return path.startswith("/api/jobs/")


def names_action(request: Request) -> bool:
    """Whether the path names an action on a job, not a job whose own name ends so: its slash would be spelled %2F."""
    raw: str = request.scope.get("raw_path", b"").decode("latin-1")
    return raw.count("/") > _SLASHES and raw.rpartition("/")[2] in _ACTIONS


async def check_method(request: Request) -> None:
    """Raises HTTPException 405 where a GET names an action, or a POST does not."""
    if names_action(request) != (request.method == "POST"):
        raise HTTPException(405)


SourcePath = Annotated[str, Path(max_length=63, description="The source's name.", examples=["default"])]


async def _job_name(
    id: Annotated[
        str,
        Path(
            max_length=1000,
            description="The job's name: the values of its key with commas between them. A slash in it is spelled %2F.",
            examples=["7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d0e11"],
        ),
    ],
    named: Annotated[
        str | None,
        Query(
            alias="id",
            max_length=1000,
            description="The job's name where the path has none: browsers remove the names `.` and `..` from a path.",
        ),
    ] = None,
) -> str:
    return id or named or ""


JobName = Annotated[str, Depends(_job_name)]
_method_checked = [Depends(check_method)]


@reading.get("/api/jobs", summary="The running jobs, and what the rule says of each", responses=problems(404, 502, 503))
def jobs(service: Service, parameters: Annotated[JobsParameters, Query()]) -> Jobs:
    """Oldest first, in pages, judged with the daemon's record of outages. A source that cannot be read says why in its
    `error`; when none can be read, the whole request fails."""
    names = [parameters.source] if parameters.source is not None else list(service.sources)
    verdict = Verdict(parameters.verdict) if parameters.verdict else None
    query = ReportQuery(verdict, parameters.kind, parameters.limit, parameters.offset)
    sources, errors = list[SourceJobs](), list[ReaperError]()
    for name in names:
        try:
            sources.append(_listed(name, service.jobs(name, query), service))
        except ReaperError as error:
            errors.append(error)
            sources.append(_unread(name, error))
    if errors and len(errors) == len(names):
        raise errors[0]
    return Jobs(limit=parameters.limit, offset=parameters.offset, sources=sources)


@reading.get(
    JOB_PATH,
    summary="Everything that is known of one job",
    responses=problems(404, 502, 503),
    dependencies=_method_checked,
)
def job(service: Service, source: SourcePath, id: JobName) -> JobExplained:
    """Running or not: each sign of life, each threshold and where it came from, the verdict, and what earlier reaps
    wrote."""
    return _explained(service, source, service.explain(source, id))


@ending.post(
    f"{JOB_PATH}/fail",
    summary="End one running job",
    name="fail",
    responses=problems(404, 502, 503) | conflict(JobHasMoved),
    dependencies=_method_checked,
)
def fail(service: Service, audit: Audited, source: SourcePath, id: JobName, request: EndWanted) -> EndDone:
    """With the lock and the audit event of a sweep, whatever its signs of life, and `ManualTimeout` as its error code.
    Its worker is not stopped: stop it first."""
    return _end(service, audit, source, id, request, "fail")


@ending.post(
    f"{JOB_PATH}/requeue",
    summary="Put one running job back",
    name="requeue",
    responses=problems(404, 502, 503) | conflict(JobHasMoved),
    dependencies=_method_checked,
)
def requeue(service: Service, audit: Audited, source: SourcePath, id: JobName, request: EndWanted) -> EndDone:
    """It is to run again: where the source's profile says how, else 409."""
    return _end(service, audit, source, id, request, "requeue")


def _end(service: AdminService, audit: Audit, source: str, job: str, request: EndWanted, action: str) -> EndDone:
    audit.details = request.model_dump()
    decision = ManualEnd(operator=str(audit.who), host=service.host, reason=request.reason.strip(), action=action)
    passes = GuardPasses(while_observed=request.while_observed)
    try:
        reaped = service.actions.end(source, job, ExpectedStart(request.started), decision, passes)
    except JobChanged as error:
        raise Moved(str(error), _job_now(service, source, job)) from None
    audit.result = f"{action}: {reaped.reason}"
    return EndDone(
        source=source,
        id=job,
        action=action,
        kind=reaped.kind,
        reason=reaped.reason,
        message=decision.message,
        age_seconds=reaped.age_seconds,
        silence_seconds=reaped.silence_seconds,
    )


def _job_now(service: AdminService, source: str, job: str) -> Job | None:
    try:
        explanation = service.explain(source, job)
    except ReaperError:  # the answer says that it has changed, with or without it
        return None
    return job_of(source, explanation.evidence, service.guards(source), explanation.holder)


def _held(hold: JobHold) -> JobHeld:
    return JobHeld(until=hold.until.isoformat(), by=hold.by, reason=hold.reason)


def _explained(service: AdminService, source: str, explanation: Explanation) -> JobExplained:
    evidence, holder = explanation.evidence, explanation.holder
    ending = service.history.ending_of(source, evidence.key)
    return JobExplained(
        source=source,
        job=job_of(source, evidence, service.guards(source), holder if evidence.verdict is Verdict.STALE else None),
        holder=holder_of(holder),
        actions=list(service.action_names(source)),
        hold=None if explanation.hold is None else _held(explanation.hold),
        ended=None
        if ending is None
        else JobEnded(
            by=ending.by,
            reason=ending.job.reason,
            action=ending.job.action,
            sweep_id=ending.sweep_id,
            seconds_ago=ending.seconds_ago,
        ),
        audits=[to_jsonable(audit) for audit in explanation.audits],
    )


def _listed(name: str, report: Report, service: AdminService) -> SourceJobs:
    guards = service.guards(name, report)
    return SourceJobs(
        source=name,
        error=None,
        database_away=False,
        census=census_of(report.census),
        jobs=[job_of(name, evidence, guards, report.holders.get(evidence.key)) for evidence in report.jobs],
        more=report.more,
        notes=[*report.notes, *_liveness_notes(report)],
        start_lost=_start_lost(name, report, guards),
    )


def _start_lost(name: str, report: Report, guards: SourceGuards) -> StartLostJobs | None:
    if (lost := report.start_lost) is None:
        return None
    return StartLostJobs(
        census=Census.of(lost.census),
        jobs=[job_of(name, evidence, guards) for evidence in lost.jobs],
        more=lost.more,
    )


def _liveness_notes(report: Report) -> list[str]:
    liveness = report.liveness
    return [] if liveness is None else [*([liveness.trouble] if liveness.trouble else []), *liveness.doubts]


def _unread(name: str, error: ReaperError) -> SourceJobs:
    away = isinstance(error, DatabaseUnavailable)
    return SourceJobs(
        source=name,
        error=str(error),
        database_away=away,
        census=None,
        jobs=[],
        more=False,
        notes=[],
        start_lost=None,
    )

"""The running jobs, everything that is known of one, and one ended by hand."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field
from starlette.exceptions import HTTPException

from reaper.common.json_values import to_jsonable
from reaper.errors import DatabaseUnavailable, JobChanged, ReaperError
from reaper.model import Verdict
from reaper.operations import report as looking
from reaper.operations.explain import Explanation
from reaper.operations.fail import ExpectedStart, ManualEnd
from reaper.web.api.dependencies import AtDesk, Audit, AuditContext, changing_router
from reaper.web.api.errors import Moved, conflict, problems
from reaper.web.api.schemas import Census, Job, Model, Problem, RowHolder, SourceName, Text, Wanted, Why
from reaper.web.path_convertor import whole
from reaper.web.service import AdminService

reading = APIRouter(tags=["jobs"])
ending = changing_router("jobs")

_MOST = 200
_DEEPEST = 1_000_000
_VERBS = ("fail", "requeue")
_SLASHES = 4  # /api/jobs/SOURCE/ID
_ONE = "/api/jobs/{source}/" + whole("id")


class JobsWanted(Wanted):
    """Which of the running jobs."""

    verdict: Annotated[
        Literal["young", "spared", "stale"] | None, Field(description="Only jobs with this verdict.")
    ] = None
    source: Annotated[SourceName | None, Field(description="Only this source. Without it: all, each by itself.")] = None
    kind: Annotated[
        Text | None, Field(max_length=500, description="Only jobs of this kind.", examples=["compute_embeddings"])
    ] = None
    limit: Annotated[int, Field(ge=1, le=_MOST, description="At most so many of each source.")] = 50
    offset: Annotated[int, Field(ge=0, le=_DEEPEST, description="Of each source, those after the first so many.")] = 0


class SourceJobs(Model):
    """The running jobs of one source, oldest first."""

    source: str
    error: Annotated[str | None, Field(description="What kept it from being told.")]
    database_away: bool
    census: Annotated[Census | None, Field(description="Of all its running jobs, whichever are asked for.")]
    jobs: list[Job]
    more: Annotated[bool, Field(description="There are more behind these.")]
    notes: Annotated[list[str], Field(description="What else could not be told, and why.")]


class Jobs(Model):
    """A page of the running jobs of each source."""

    limit: int
    offset: int
    sources: list[SourceJobs]


class JobEnded(Model):
    """How a job was ended through this daemon."""

    by: Annotated[str | None, Field(description="Who wanted it; null for a sweep of its own accord.")]
    reason: str
    sweep_id: str
    seconds_ago: float


class JobExplained(Model):
    """Everything that is known of one job, running or not."""

    source: str
    job: Job
    holder: Annotated[RowHolder | None, Field(description="Who holds its row just now.")]
    actions: Annotated[list[str], Field(description="What a running job of this source can be ended by.")]
    ended: Annotated[JobEnded | None, Field(description="Null for one that this daemon has not ended lately.")]
    audits: Annotated[list[dict[str, Any]], Field(description="What earlier reaps of it wrote, newest first.")]


class EndWanted(Model):
    """Which job is meant, and why it is to end."""

    started: Annotated[
        Text | None,
        Field(
            max_length=100,
            description="The job's `started` when you decided. When it is another by now, nothing is done.",
            examples=["2026-03-01T08:15:00+00:00"],
        ),
    ]
    reason: Why


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
    """The job is not what was observed, or its row is held; or there is no such action."""

    job: Annotated[Job | None, Field(description="What it is by now; null when it is gone.")] = None


def is_place(path: str) -> bool:
    """Whether that is the path of one job, or of what may be done to it."""
    return path.startswith("/api/jobs/")


def means_verb(request: Request) -> bool:
    """Whether what may be done to a job is meant, not a job whose name ends so: its slash would be spelled %2F."""
    raw: str = request.scope.get("raw_path", b"").decode("latin-1")
    return raw.count("/") > _SLASHES and raw.rpartition("/")[2] in _VERBS


async def _asked_as_such(request: Request) -> None:
    """Raises HTTPException 405 where the path was taken for another than it is."""
    if means_verb(request) != (request.method == "POST"):
        raise HTTPException(405)


_Place = Annotated[str, Path(max_length=63, description="The source's name.", examples=["default"])]
_Named = Annotated[
    str,
    Path(
        max_length=1000,
        description="The job's name: the values of its key with commas between them. A slash in it is spelled %2F.",
        examples=["7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d0e11"],
    ),
]
_as_such = [Depends(_asked_as_such)]


@reading.get("/api/jobs", summary="The running jobs, and what the rule says of each", responses=problems(404, 502, 503))
def jobs(service: AtDesk, wanted: Annotated[JobsWanted, Query()]) -> Jobs:
    """Oldest first, in pages, judged with what the daemon has heard. A source in trouble says so in its `error`; when
    none can be asked the whole request fails."""
    names = [wanted.source] if wanted.source is not None else list(service.sources)
    of = looking.ReportQuery(
        Verdict(wanted.verdict) if wanted.verdict else None, wanted.kind, wanted.limit, wanted.offset
    )
    found, errors = list[SourceJobs](), list[ReaperError]()
    for name in names:
        try:
            found.append(_page(name, service.look(name, of)))
        except ReaperError as error:
            errors.append(error)
            found.append(_in_trouble(name, error))
    if errors and len(errors) == len(names):
        raise errors[0]
    return Jobs(limit=wanted.limit, offset=wanted.offset, sources=found)


@reading.get(
    _ONE,
    summary="Everything that is known of one job",
    responses=problems(404, 502, 503),
    dependencies=_as_such,
)
def job(service: AtDesk, source: _Place, id: _Named) -> JobExplained:
    """Running or not: each sign of life, each threshold and where it came from, the verdict, and what earlier reaps
    wrote."""
    return _explained(service, source, service.explain(source, id))


@ending.post(
    f"{_ONE}/fail",
    summary="End one running job",
    name="fail",
    responses=problems(404, 502, 503) | conflict(JobHasMoved),
    dependencies=_as_such,
)
def fail(service: AtDesk, deed: Audit, source: _Place, id: _Named, wanted: EndWanted) -> EndDone:
    """With the lock and the audit event of a sweep, whatever its signs of life, and `ManualTimeout` as its error code.
    Its worker is not told: end it first."""
    return _end(service, deed, source, id, wanted, "fail")


@ending.post(
    f"{_ONE}/requeue",
    summary="Put one running job back",
    name="requeue",
    responses=problems(404, 502, 503) | conflict(JobHasMoved),
    dependencies=_as_such,
)
def requeue(service: AtDesk, deed: Audit, source: _Place, id: _Named, wanted: EndWanted) -> EndDone:
    """It is to run again: where the source's profile says how, else 409."""
    return _end(service, deed, source, id, wanted, "requeue")


def _end(service: AdminService, deed: AuditContext, source: str, job: str, wanted: EndWanted, action: str) -> EndDone:
    deed.details = wanted.model_dump()
    decision = ManualEnd(operator=str(deed.who), host=service.host, reason=wanted.reason.strip(), action=action)
    try:
        reaped = service.admin_actions.end(source, job, ExpectedStart(wanted.started), decision)
    except JobChanged as error:
        raise Moved(str(error), _now(service, source, job)) from None
    deed.result = f"{action}: {reaped.reason}"
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


def _now(service: AdminService, source: str, job: str) -> Job | None:
    try:
        found = service.explain(source, job)
    except ReaperError:  # what matters has been said
        return None
    return Job.of(source, found.evidence, found.holder)


def _explained(service: AdminService, source: str, found: Explanation) -> JobExplained:
    ending = service.history.ending_of(source, found.evidence.key)
    return JobExplained(
        source=source,
        job=Job.of(source, found.evidence, found.holder if found.evidence.verdict is Verdict.STALE else None),
        holder=RowHolder.of(found.holder),
        actions=list(service.actions(source)),
        ended=None
        if ending is None
        else JobEnded(by=ending.by, reason=ending.job.reason, sweep_id=ending.sweep_id, seconds_ago=ending.seconds_ago),
        audits=[to_jsonable(audit) for audit in found.audits],
    )


def _page(name: str, report: looking.Report) -> SourceJobs:
    return SourceJobs(
        source=name,
        error=None,
        database_away=False,
        census=Census.of(report.census),
        jobs=[Job.of(name, job, report.holders.get(job.key)) for job in report.jobs],
        more=report.more,
        notes=[*report.notes, *_unheard(report)],
    )


def _unheard(report: looking.Report) -> list[str]:
    said = report.liveness
    return [] if said is None else [*([said.trouble] if said.trouble else []), *said.doubts]


def _in_trouble(name: str, error: ReaperError) -> SourceJobs:
    away = isinstance(error, DatabaseUnavailable)
    return SourceJobs(source=name, error=str(error), database_away=away, census=None, jobs=[], more=False, notes=[])

"""Reports of jobs that commands and Celery tasks have ended beside the daemon: for the metrics and the history."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reaper.memory import CommandReap, ReapCount
from reaper.memory.reap_counts import kind_label
from reaper.model import ReapedJob, Reason
from reaper.web.api.dependencies import Audited, Service, changing_router
from reaper.web.api.errors import problems
from reaper.web.api.schemas import LARGEST, WHOLE, Model, SourceName, Text

reporting = changing_router("history")

MOST_COUNTS, MOST_JOBS = 100, 50
"""In one request. A command sends several where it has more."""

_Kind = Annotated[Text | None, Field(max_length=1000, examples=["embed"])]
_Action = Annotated[Text, Field(min_length=1, max_length=200, examples=["fail"])]


class EndedCount(Model):
    """So many jobs of a kind were ended."""

    kind: _Kind
    reason: Annotated[Reason, Field(strict=False)]
    action: _Action
    jobs: Annotated[int, Field(ge=1, le=LARGEST), WHOLE]


class ReportedJob(Model):
    """One of them, as of its end."""

    key: Annotated[list[Annotated[Text, Field(max_length=1000)]], Field(min_length=1, max_length=32)]
    kind: _Kind
    reason: Annotated[Reason, Field(strict=False)]
    action: _Action
    age_seconds: float | None
    silence_seconds: float | None
    witness: Annotated[Text | None, Field(max_length=1000)]
    reaped_at: Annotated[Text | None, Field(max_length=100)]


class EndedReport(Model):
    """What a command has ended in one source since its last report."""

    source: SourceName
    sweep_id: Annotated[Text, Field(max_length=100, examples=["5f0c9a1e77d2"])]
    by: Annotated[
        Text,
        Field(
            min_length=1,
            max_length=300,
            description="Who has ended them, and with what.",
            examples=["reaper clear by ann on host-1"],
        ),
    ]
    counts: Annotated[
        list[EndedCount],
        Field(
            max_length=MOST_COUNTS,
            examples=[[{"kind": "embed", "reason": "JobTimeout", "action": "fail", "jobs": 2}]],
        ),
    ]
    jobs: Annotated[list[ReportedJob], Field(max_length=MOST_JOBS, description="The last of them.", examples=[[]])]


class CountedJobs(Model):
    """How many jobs were counted."""

    counted: int


@reporting.post(
    "/api/ended",
    summary="Report jobs that were ended beside the daemon",
    name="ended",
    responses=problems(404),
)
def ended(service: Service, audit: Audited, request: EndedReport) -> CountedJobs:
    """Commands without the daemon's state directory do so, where they have its address and a token: the jobs are
    counted in its metrics, and shown on its page. Nothing is ended."""
    service.source_status(request.source)  # raises NoSuchSource
    audit.target = request.source
    counts = [
        ReapCount(request.source, kind_label(each.kind or ""), each.reason.value, each.action, each.jobs)
        for each in request.counts
    ]
    service.ended_elsewhere(counts, [_reap(request, job, audit.who.name) for job in request.jobs])
    audit.result = f"counted {sum(each.jobs for each in counts)}"
    return CountedJobs(counted=sum(each.jobs for each in counts))


def _reap(request: EndedReport, job: ReportedJob, token: str) -> CommandReap:
    ended_job = ReapedJob(
        tuple(job.key),
        job.reason.value,
        job.kind,
        job.age_seconds,
        job.silence_seconds,
        job.witness,
        reaped_at=job.reaped_at,
        action=job.action,
    )
    return CommandReap(request.source, request.sweep_id, f"{request.by} (token {token})", ended_job, 0.0)

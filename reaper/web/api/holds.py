"""Holds: an operator keeps one job from being ended for a while, and takes that back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import AfterValidator, Field

from reaper.common.durations import ANY_HOLD
from reaper.common.messages import format_key
from reaper.model import JobHold
from reaper.web.api.dependencies import Audited, Service, changing_router
from reaper.web.api.errors import problems
from reaper.web.api.jobs import JOB_PATH, JobName, SourcePath, check_method
from reaper.web.api.schemas import Model, ReasonText, Text

reading = APIRouter(tags=["jobs"])
holding = changing_router("jobs")
_method_checked = [Depends(check_method)]


def _is_duration(text: str) -> str:
    ANY_HOLD.parse(text)
    return text


class Hold(Model):
    """A job that nothing ends for a while."""

    source: str
    id: str
    until: Annotated[str, Field(description="By the clock of its database.")]
    by: str
    reason: str


class Holds(Model):
    """All jobs that are held."""

    holds: list[Hold]


class HoldWanted(Model):
    """For how long a job is to be held, and why."""

    duration: Annotated[
        Text,
        Field(max_length=40, description="From now on; at most 31d.", examples=["3h"]),
        AfterValidator(_is_duration),
    ]
    reason: ReasonText


class NewHold(Hold):
    """A hold that was taken."""

    running: Annotated[
        bool, Field(description="The job runs; else the hold is for a run that begins before it is over.")
    ]
    notes: Annotated[list[str], Field(description="What to know beside the hold.")]


def hold_of(hold: JobHold) -> Hold:
    return Hold(
        source=hold.source, id=format_key(hold.key), until=hold.until.isoformat(), by=hold.by, reason=hold.reason
    )


@reading.get("/api/holds", summary="The jobs that are held", responses=problems(502))
def holds(service: Service) -> Holds:
    """Until when, who holds them, and why: the first to end first."""
    return Holds(holds=[hold_of(hold) for hold in service.holds()])


@holding.post(
    f"{JOB_PATH}/hold",
    summary="Keep one job from being ended for a while",
    name="hold",
    responses=problems(404, 502, 503),
    dependencies=_method_checked,
)
def hold(service: Service, audit: Audited, source: SourcePath, id: JobName, request: HoldWanted) -> NewHold:
    """However stale it is: no sweep, command, Celery task or request ends it. It is judged and shown as before. A later
    hold takes the place of an earlier one."""
    audit.details = request.model_dump()
    reason = request.reason.strip()
    taken = service.actions.hold(source, id, ANY_HOLD.parse(request.duration), str(audit.who), reason)
    audit.result = f"held until {taken.hold.until.isoformat()}"
    return NewHold(**hold_of(taken.hold).model_dump(), running=taken.runs, notes=list(taken.notes))


@holding.post(
    f"{JOB_PATH}/unhold",
    summary="Take the hold on a job back",
    name="unhold",
    responses=problems(404, 502),
    dependencies=_method_checked,
)
def unhold(service: Service, audit: Audited, source: SourcePath, id: JobName) -> Hold:
    """It may be ended again, from the next batch of a sweep on. 404 when it is not held."""
    taken_back = service.actions.unhold(source, id)
    audit.result = "no longer held"
    return hold_of(taken_back)

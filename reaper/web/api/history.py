"""The policy in force, and what has happened: what was asked for, and jobs that showed life after they had ended."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from reaper.common import messages
from reaper.common.json_values import to_jsonable
from reaper.observers.history import AuditEntry, LateRecord
from reaper.web.api.dependencies import AtDesk
from reaper.web.api.schemas import Model, Wanted

reading = APIRouter()


class Lately(Wanted):
    """How much of it."""

    limit: Annotated[int, Field(ge=1, le=100, description="At most so many.")] = 50


class Setting(Model):
    """One value in force. Durations are spelled as in the file, and secrets are left out."""

    name: Annotated[str, Field(examples=["stall_seconds"])]
    value: Annotated[str, Field(examples=["30m"])]
    origin: Annotated[str, Field(description="Where it comes from.", examples=["REAPER_STALL_SECONDS"])]


class Policy(Model):
    """The configuration in force."""

    settings: list[Setting]


class ChangeTold(Model):
    """Something that was asked for over HTTP."""

    who: Annotated[str, Field(description="The name of the token.")]
    remote: Annotated[str, Field(description="From where.")]
    action: str
    target: str
    result: Annotated[str, Field(description="What came of it.")]
    details: dict[str, Any]
    seconds_ago: float


class Changes(Model):
    """What was asked for over HTTP since the daemon was started, newest first."""

    changes: list[ChangeTold]


class LateJob(Model):
    """A job that showed life after it had been ended: a false kill, or a worker that does not know yet."""

    source: str
    id: str
    kind: str | None
    reason: Annotated[str, Field(description="What it was ended for.")]
    reaped_at: str | None
    age_seconds: Annotated[float | None, Field(description="When it was ended.")]
    silence_seconds: Annotated[float | None, Field(description="When it was ended.")]
    last_witness: str | None
    what: Annotated[str, Field(description="`event`: a sign of life; `status`: somebody gave it another status.")]
    witness: str | None
    at: str | None
    status: str | None
    status_then: str | None
    finished: bool
    told_before: Annotated[bool, Field(description="An earlier sign of it has been told.")]
    seconds_ago: float


class LateJobs(Model):
    """Late signs of life since the daemon was started, newest first."""

    late: list[LateJob]


@reading.get("/api/policy", summary="The policy in force", tags=["policy"])
async def policy(service: AtDesk) -> Policy:
    """Every setting, its value, and where it comes from: a file and its line, a variable, a default. No secrets."""
    rows = service.settings.described()
    return Policy(settings=[Setting(name=name, value=value, origin=origin) for name, value, origin in rows])


@reading.get("/api/changes", summary="What was asked for over HTTP", tags=["history"])
async def changes(service: AtDesk, wanted: Annotated[Lately, Query()]) -> Changes:
    """Who asked, from where, for what, and what came of it: also what was refused. The log has all of it."""
    return Changes(changes=[_changed(each) for each in service.history.changes(wanted.limit)])


@reading.get("/api/late", summary="Jobs that showed life after they had been ended", tags=["history"])
async def late(service: AtDesk, wanted: Annotated[Lately, Query()]) -> LateJobs:
    """Such a job was killed by mistake, or its worker goes on without knowing."""
    return LateJobs(late=[_late(each) for each in service.history.late(wanted.limit)])


def _changed(found: AuditEntry) -> ChangeTold:
    return ChangeTold(**to_jsonable(found.change), seconds_ago=found.seconds_ago)


def _late(found: LateRecord) -> LateJob:
    members = {name: value for name, value in to_jsonable(found.sign).items() if name != "key"}
    return LateJob(
        **members, source=found.source, id=messages.format_key(found.sign.key), seconds_ago=found.seconds_ago
    )

"""The policy in force, and what has happened since the daemon was started: requests for changes, and late signs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from reaper.common import messages
from reaper.model import AuditRecord, LateSign
from reaper.web.api.dependencies import Service
from reaper.web.api.schemas import Mirror, Model, Parameters, mirrors

reading = APIRouter()


class HistoryParameters(Parameters):
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


@mirrors(
    AuditRecord,
    after={"seconds_ago": "details"},
    described={
        "who": "The name of the token.",
        "remote": "The address that the request came from.",
        "result": "What came of it.",
    },
)
class ChangeTold(Mirror):
    """One request over HTTP that was to change something."""

    seconds_ago: float


class Changes(Model):
    """The requests over HTTP that were to change something since the daemon was started, newest first."""

    changes: list[ChangeTold]


@mirrors(
    LateSign,
    without=["key"],
    after={"age_seconds": "reaped_at", "seconds_ago": "told_before"},
    described={
        "reason": "The reason for which it was ended.",
        "age_seconds": "When it was ended.",
        "silence_seconds": "When it was ended.",
        "what": "`event`: a sign of life; `status`: its status was changed by something else than the reaper.",
        "told_before": "An earlier late sign of it has been reported.",
    },
)
class LateJob(Mirror):
    """A job that showed life after it had been ended: ended by mistake, or its worker goes on without knowing."""

    source: str
    id: str
    seconds_ago: float


class LateJobs(Model):
    """Late signs of life since the daemon was started, newest first."""

    late: list[LateJob]


@reading.get("/api/policy", summary="The policy in force", tags=["policy"])
async def policy(service: Service) -> Policy:
    """Every setting, its value, and where it comes from: a file and its line, a variable, a default. No secrets."""
    rows = service.settings.described()
    return Policy(settings=[Setting(name=name, value=value, origin=origin) for name, value, origin in rows])


@reading.get("/api/changes", summary="What was asked for over HTTP", tags=["history"])
async def changes(service: Service, parameters: Annotated[HistoryParameters, Query()]) -> Changes:
    """Who asked, from where, for what, and with which result, refusals included. The log has all of them."""
    entries = service.history.changes(parameters.limit)
    return Changes(changes=[ChangeTold.of(entry.change, seconds_ago=entry.seconds_ago) for entry in entries])


@reading.get("/api/late", summary="Jobs that showed life after they had been ended", tags=["history"])
async def late(service: Service, parameters: Annotated[HistoryParameters, Query()]) -> LateJobs:
    """Such a job was ended by mistake, or its worker goes on without knowing."""
    return LateJobs(
        late=[
            LateJob.of(
                record.sign,
                source=record.source,
                id=messages.format_key(record.sign.key),
                seconds_ago=record.seconds_ago,
            )
            for record in service.history.late(parameters.limit)
        ]
    )

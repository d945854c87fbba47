"""What goes wrong as HTTP tells it: a status, and one sentence."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from reaper.errors import DatabaseUnavailable, JobChanged, NoSuchJob, NoSuchSource, ReaperError, SourceBusy
from reaper.web.actions import Refused
from reaper.web.api.schemas import Job
from reaper.web.background_clear import NoSuchTask
from reaper.web.limiter import TooManyReaders

AGAIN_SECONDS = 5

_STATUSES: dict[type[ReaperError], int] = {
    NoSuchSource: 404,
    NoSuchJob: 404,
    NoSuchTask: 404,
    JobChanged: 409,
    Refused: 409,
    SourceBusy: 409,
    TooManyReaders: 503,
    DatabaseUnavailable: 503,
    ReaperError: 502,
}
_PASSING = (SourceBusy, TooManyReaders, DatabaseUnavailable)
_TOLD = {
    400: "The body cannot be read.",
    404: "There is no such thing.",
    409: "It cannot be done as things are.",
    500: "The reaper cannot do it: the disk, or a defect.",
    502: "The database refuses, and says why.",
    503: "The database is away, or too many ask: try again later.",
}


class Unclear(ReaperError):
    """It does not say enough."""


class Moved(ReaperError):
    """The job has moved on. `job` is what it is by now; None when that cannot be told."""

    def __init__(self, detail: str, job: Job | None) -> None:
        super().__init__(detail)
        self.job = job


class Broken(ReaperError):
    """The reaper itself cannot do it."""


class NoSchedule(ReaperError):
    """There is nothing to do on schedule."""


_STATUSES |= {Unclear: 422, Moved: 409, Broken: 500, NoSchedule: 503}


def install(app: FastAPI) -> None:
    """Have errors of the reaper answered."""
    app.add_exception_handler(ReaperError, _told)


def status_of(error: ReaperError) -> int:
    return next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The answers of an endpoint that are problems. What every endpoint may answer is told elsewhere."""
    return {code: problem(_TOLD[code], retry=code in (409, 503)) for code in codes}


def conflict(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """A 409 that tells more than a sentence."""
    return {409: {"model": model, "description": _TOLD[409]}}


def problem(description: str, *, retry: bool = False) -> dict[str, Any]:
    """By reference: a model for each would have pydantic make a validator for each."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    headers = {"Retry-After": {"description": "In so many seconds.", "schema": {"type": "integer"}}}
    return {"description": description, "content": content, **({"headers": headers} if retry else {})}


async def _told(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ReaperError)
    headers = {"Retry-After": str(AGAIN_SECONDS)} if isinstance(error, _PASSING) else None
    body: dict[str, Any] = {"detail": shown(str(error))}
    if isinstance(error, Moved):
        body["job"] = error.job.model_dump(mode="json") if error.job else None
    return JSONResponse(body, status_of(error), headers)


def shown(text: str) -> str:
    """Text that can be told, whatever somebody put into it."""
    return text.encode("utf-8", "backslashreplace").decode()

"""Every error as HTTP answers it: a status, and `{"detail": "<one clear sentence>"}`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from reaper.common.suggestions import did_you_mean
from reaper.errors import (
    DatabaseUnavailable,
    HaltInForce,
    JobChanged,
    MessageTooLong,
    NoSuchHold,
    NoSuchJob,
    NoSuchSource,
    ReaperError,
    SourceBusy,
    SourceObserved,
)
from reaper.web.actions import Refused
from reaper.web.api.schemas import Job
from reaper.web.clear_in_background import NoSuchTask
from reaper.web.guard.middleware import DEFECT
from reaper.web.read_cache import TooManyReaders

RETRY_SECONDS = 5
_NAME_LENGTH = 100
_CHOICE = re.compile(r"'([^']*)'")

_STATUSES: dict[type[ReaperError], int] = {
    NoSuchSource: 404,
    NoSuchJob: 404,
    NoSuchHold: 404,
    NoSuchTask: 404,
    JobChanged: 409,
    Refused: 409,
    MessageTooLong: 422,
    HaltInForce: 409,
    SourceObserved: 409,
    SourceBusy: 409,
    TooManyReaders: 503,
    DatabaseUnavailable: 503,
    ReaperError: 502,
}
_TEMPORARY = (SourceBusy, TooManyReaders, DatabaseUnavailable)
_DESCRIPTIONS = {
    400: "The body cannot be read.",
    404: "There is no such thing.",
    409: "It cannot be done as things are.",
    500: "The reaper cannot do it: the disk, or a defect.",
    502: "The database refuses, and says why.",
    503: "The database is away, or too many ask: try again later.",
}


class Ambiguous(ReaperError):
    """The request does not say which source is meant."""


class Moved(ReaperError):
    """The job has changed since it was looked at. `job` is what it is by now; None when that cannot be read."""

    def __init__(self, detail: str, job: Job | None) -> None:
        super().__init__(detail)
        self.job = job


class Broken(ReaperError):
    """The reaper itself cannot do it: its state directory, for one, cannot be written."""


class NoSchedule(ReaperError):
    """No schedule is configured."""


_STATUSES |= {Ambiguous: 422, Moved: 409, Broken: 500, NoSchedule: 503}


def install(app: FastAPI) -> None:
    """Answer the framework's errors and the reaper's own in the same form."""
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ReaperError, _reaper_error)
    app.add_exception_handler(Exception, _defect)


# --- descriptions for OpenAPI --------------------------------------------------------------------------------


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The errors that an endpoint answers with. Those that every endpoint may answer with are added by `openapi`."""
    return {code: problem(_DESCRIPTIONS[code], retry=code in (409, 503)) for code in codes}


def conflict(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """A 409 whose body says more than one sentence."""
    return {409: {"model": model, "description": _DESCRIPTIONS[409]}}


def problem(description: str, *, retry: bool = False) -> dict[str, Any]:
    """By reference: for a model, FastAPI would make a validator in each endpoint."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    headers = {"Retry-After": {"description": "In so many seconds.", "schema": {"type": "integer"}}}
    return {"description": description, "content": content, **({"headers": headers} if retry else {})}


# --- answers -------------------------------------------------------------------------------------------------


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers, detail = error.headers or {}, error.detail
    if error.status_code == 404 and detail == "Not Found":
        detail = f"there is nothing at {request.url.path[:_NAME_LENGTH]}"
    elif error.status_code == 405:
        detail = f"{request.method[:_NAME_LENGTH]} is not possible here, only {headers.get('allow', 'GET')}"
    return JSONResponse({"detail": detail}, error.status_code, headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    return JSONResponse({"detail": _sentence(errors, _fields(request, errors[0]["loc"]))}, 422)


async def _reaper_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ReaperError)
    headers = {"Retry-After": str(RETRY_SECONDS)} if isinstance(error, _TEMPORARY) else None
    # Lone surrogates, which a request may hold, cannot be encoded.
    body: dict[str, Any] = {"detail": str(error).encode("utf-8", "backslashreplace").decode()}
    if isinstance(error, Moved):
        body["job"] = error.job.model_dump(mode="json") if error.job else None
    status = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
    return JSONResponse(body, status, headers)


async def _defect(_request: Request, _error: Exception) -> Response:
    # Starlette raises it again after this answer; the guard logs it.
    return JSONResponse({"detail": DEFECT}, 500)


# --- what pydantic found wrong -------------------------------------------------------------------------------


def _sentence(errors: Sequence[Mapping[str, Any]], fields: Iterable[str] = ()) -> str:
    """The first error in full, and how many more there are. `fields` are the names allowed where it was found."""
    first, more = errors[0], len(errors) - 1
    text = f"{_place(first['loc'])}: {_problem(first, fields)}"
    return f"{text} (and {more} more)" if more else text


def _place(location: Sequence[int | str]) -> str:
    """`query verdict`, `body jobs.3.id`, or `body`."""
    where, *rest = location
    return f"{where} {'.'.join(str(step) for step in rest)[:_NAME_LENGTH]}".rstrip()


def _problem(error: Mapping[str, Any], fields: Iterable[str]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return "it is missing"
    if kind == "extra_forbidden":
        return f"there is no such field{did_you_mean(str(error['loc'][-1]), fields)}"
    if kind == "json_invalid":
        return f"this is no JSON: {context.get('error', error['msg'])}"
    message = str(error["msg"]).removeprefix("Value error, ")
    problem = message[:1].lower() + message[1:]
    if kind in {"literal_error", "enum"} and isinstance(error["input"], str):
        hint = did_you_mean(error["input"][:_NAME_LENGTH], _CHOICE.findall(str(context.get("expected", ""))))
        problem += hint if "did you mean" in hint else ""
    return problem


def _fields(request: Request, location: Sequence[int | str]) -> Iterable[str]:
    """The names that are allowed at that place of the request."""
    route = request.scope.get("route")
    if location[0] != "body":
        dependant = getattr(route, "dependant", None)
        return _names(getattr(field.field_info, "annotation", None) for field in getattr(dependant, "query_params", ()))
    body = getattr(route, "body_field", None)
    model: Any = getattr(getattr(body, "field_info", None), "annotation", None)
    for step in location[1:-1]:
        field = model.model_fields.get(step) if _is_model(model) else None
        model = field.annotation if field else None
    return _names([model])


def _names(models: Iterable[Any]) -> list[str]:
    return [field.alias or name for model in models if _is_model(model) for name, field in model.model_fields.items()]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)

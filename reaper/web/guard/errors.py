"""Every error as `{"detail": "<one clear sentence>"}`."""

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

DEFECT = "this is a defect in the reaper, not in the request; its log tells more"
_NAME_LENGTH = 100
_CHOICE = re.compile(r"'([^']*)'")


def install(app: FastAPI) -> None:
    """Have the framework's own errors speak as ours do."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _defect)


def sentence(errors: Sequence[Mapping[str, Any]], fields: Iterable[str] = ()) -> str:
    """What pydantic found wrong: the first of it in full. `fields` are the names that there are where it was found."""
    first, more = errors[0], len(errors) - 1
    text = f"{_place(first['loc'])}: {_problem(first, fields)}"
    return f"{text} (and {more} more)" if more else text


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers, detail = error.headers or {}, error.detail
    if error.status_code == 404 and detail == "Not Found":
        detail = f"there is nothing at {request.url.path[:_NAME_LENGTH]}"
    elif error.status_code == 405 and detail == "Method Not Allowed":
        detail = f"{request.method[:_NAME_LENGTH]} is not possible here, only {headers.get('allow', 'GET')}"
    return JSONResponse({"detail": detail}, error.status_code, headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    return JSONResponse({"detail": sentence(errors, _fields(request, errors[0]["loc"]))}, 422)


async def _defect(_request: Request, _error: Exception) -> Response:
    # Starlette raises it again after this answer, to whoever logs it.
    return JSONResponse({"detail": DEFECT}, 500)


def _place(location: Sequence[int | str]) -> str:
    """`query verdict`, `body jobs.3.id`, or `body`; where in the text, when it was not even JSON, is told elsewhere."""
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
        found = did_you_mean(error["input"][:_NAME_LENGTH], _CHOICE.findall(str(context.get("expected", ""))))
        problem += found if "did you mean" in found else ""
    return problem


def _fields(request: Request, location: Sequence[int | str]) -> Iterable[str]:
    """The names that there are where an unknown one was found."""
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


def _is_model(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseModel)

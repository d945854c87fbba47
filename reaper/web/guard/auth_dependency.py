"""What the API's routes say about security: to FastAPI when they are asked, to OpenAPI when they are described."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from pydantic import BaseModel

from reaper.web.guard.access import AccessControl
from reaper.web.guard.tokens import Caller

GATE = "reaper.gate"
"""Where a request's scope has its gate."""


class Problem(BaseModel):
    """What is wrong, in one sentence."""

    detail: str


class _Changing(SecurityBase):
    """A dependency of every endpoint that changes something: who changes it."""

    scheme_name = "token"
    model = HTTPBearer(description="A token of the file that REAPER_HTTP_TOKEN_FILE names. Without any: read-only.")

    async def __call__(self, request: Request) -> Caller:
        access_control: AccessControl = request.scope[GATE]
        return access_control.caller(request.scope)


changing = _Changing()
"""Use it as `who: Annotated[Who, Security(changing)]`. Answers 401 and 403 as `CHANGING_RESPONSES` tell."""


def _told(description: str, **headers: str) -> dict[str, Any]:
    """By reference: FastAPI would make a validator of the model for each route."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    shown = {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}
    return {"description": description, "content": content, "headers": shown}


RESPONSES: dict[int | str, dict[str, Any]] = {
    413: _told("The body is too long."),
    421: _told("The Host header names none of this reaper's hosts."),
    422: _told("A parameter or the body is wrong."),
    500: {"description": "A defect in the reaper.", "model": Problem},
    503: _told("Too many requests at once.", **{"Retry-After": "In so many seconds."}),
}
"""What any route may answer: `FastAPI(responses=RESPONSES)`."""

CHANGING_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: _told("No token, or a wrong one.", **{"WWW-Authenticate": "`Bearer`"}),
    403: _told("The reaper has no token and is read-only, or another site's page asks."),
    408: _told("The body did not come in time."),
}
"""What a route that changes something may answer besides."""

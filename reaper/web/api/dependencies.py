"""What endpoints have in common: the service, and the audit of every request that changes something.

An endpoint on a `changing_router` is audited whatever its own code does: who asked, for what, and with which result.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException

from reaper.errors import ReaperError
from reaper.model import AuditRecord
from reaper.web.api.json_body import JsonBodyRoute
from reaper.web.guard import Caller, token_required
from reaper.web.guard.access import ACCESS_CONTROL
from reaper.web.service import AdminService


class _AnyText(PathConvertor):
    regex = "(?s:.*)"


register_url_convertor("any", _AnyText())


def any_text(name: str) -> str:
    """A parameter of a path that takes slashes and line breaks too: a job's name may hold them."""
    return f"{{{name}:any}}"


@dataclass(slots=True)
class Audit:
    """The audit record of one request in the making. Endpoints add the target, the details and the result.

    That of a request which only reads is not `kept`.
    """

    who: Caller
    target: str = ""
    result: str = "done"
    details: dict[str, Any] = field(default_factory=dict)
    kept: bool = True

    def record(self, action: str, result: str | None = None) -> AuditRecord:
        return AuditRecord(self.who.name, self.who.remote, action, self.target, result or self.result, self.details)


# Async, because FastAPI runs sync dependencies in a worker thread.
async def _service(request: Request) -> AdminService:
    service: AdminService = request.app.state.service
    return service


async def _audit(request: Request) -> Audit:
    audit: Audit = request.state.audit
    return audit


Service = Annotated[AdminService, Depends(_service)]
Audited = Annotated[Audit, Depends(_audit)]


class AuditedRoute(JsonBodyRoute):
    """A route that changes something. Its name is the action of the audit record."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def audited(request: Request) -> Response:
            service = await _service(request)
            request.state.audit = audit = Audit(request.scope[ACCESS_CONTROL].caller(request.scope), _target(request))
            try:
                answer = await handle(request)
            except BaseException as error:
                service.record(audit.record(self.name, _result(error)))
                raise
            service.record(audit.record(self.name))
            return answer

        return audited


def changing_router(tag: str) -> APIRouter:
    """For endpoints that change something: with a token, and audited."""
    return APIRouter(tags=[tag], route_class=AuditedRoute, dependencies=[Security(token_required)])


def _target(request: Request) -> str:
    parts = (str(request.path_params.get(name) or request.query_params.get(name, "")) for name in ("source", "id"))
    return " ".join(part[:200] for part in parts if part)


def _result(error: BaseException) -> str:
    match error:
        case ReaperError():
            return f"refused: {error}"
        case HTTPException():
            return f"refused: {error.detail}"
        case RequestValidationError():
            return "refused: the request is wrong"
    return f"defect: {type(error).__name__}"

"""What endpoints depend on: the desk, and the audit of whatever changes something.

An endpoint on `changing_router` is audited whether it thinks of it or not: who asked, for what, and what came of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from reaper.errors import ReaperError
from reaper.model import AuditRecord
from reaper.web.guard.auth_dependency import GATE, changing
from reaper.web.guard.tokens import Caller
from reaper.web.service import AdminService


@dataclass(slots=True)
class AuditContext:
    """What somebody asks for, as it is audited. Endpoints add what they know: to what, with what, and how it ended."""

    who: Caller
    target: str = ""
    result: str = "done"
    details: dict[str, Any] = field(default_factory=dict)

    def told(self, action: str, result: str | None = None) -> AuditRecord:
        return AuditRecord(self.who.name, self.who.remote, action, self.target, result or self.result, self.details)


# Both are async for FastAPI would go to a thread for each otherwise.
async def _service(request: Request) -> AdminService:
    service: AdminService = request.app.state.service
    return service


async def _deed(request: Request) -> AuditContext:
    deed: AuditContext = request.state.deed
    return deed


AtDesk = Annotated[AdminService, Depends(_service)]
Audit = Annotated[AuditContext, Depends(_deed)]


class AuditedRoute(APIRoute):
    """A route that changes something. Its name is what was done."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def audited(request: Request) -> Response:
            return await self._audited(request, handle)

        return audited

    async def _audited(self, request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
        service = await _service(request)
        request.state.deed = deed = AuditContext(request.scope[GATE].caller(request.scope), _target(request))
        try:
            answer = await handle(request)
        except BaseException as error:
            service.changed(deed.told(self.name, _refusal(error)))
            raise
        service.changed(deed.told(self.name))
        return answer


def changing_router(tag: str) -> APIRouter:
    """For endpoints that change something: with a token, and audited."""
    return APIRouter(tags=[tag], route_class=AuditedRoute, dependencies=[Security(changing)])


def _target(request: Request) -> str:
    parts = (str(request.path_params.get(name, "")) for name in ("source", "id"))
    return " ".join(part[:200] for part in parts if part)


def _refusal(error: BaseException) -> str:
    match error:
        case ReaperError():
            return f"refused: {error}"
        case HTTPException():
            return f"refused: {error.detail}"
        case RequestValidationError():
            return "refused: the request is wrong"
    return f"defect: {type(error).__name__}"

"""Endpoints that read in a dry run and change something otherwise: only then a token is needed, and who asked is kept.

The decision is made here, from the same body that the endpoint gets, so that no endpoint can forget it: without a right
token the endpoint is called for a body whose `dry_run` is true, and for no other.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Security
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from reaper.web.api.dependencies import Audit, AuditedRoute
from reaper.web.api.json_body import JsonBodyRoute, JsonRequest
from reaper.web.guard.access import ACCESS_CONTROL, AccessControl, remote, token_for_changes
from reaper.web.guard.tokens import Caller


class DryRunRoute(AuditedRoute):
    """Audited as changes are, where the request has a right token; a dry run without one is a read, and is not."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        audited, unaudited = super().get_route_handler(), JsonBodyRoute.get_route_handler(self)

        async def handle(given: Request) -> Response:
            request = JsonRequest(given.scope, given.receive)
            access_control: AccessControl = request.scope[ACCESS_CONTROL]
            if access_control.token_name(request.scope) is None and await _asks_for_dry_run(request):
                request.state.audit = Audit(Caller("anyone", remote(request.scope)), kept=False)
                return await unaudited(request)
            return await audited(request)

        return handle


async def _asks_for_dry_run(request: JsonRequest) -> bool:
    """Whether the endpoint, which reads the same body in the same way, will find that `dry_run` is true."""
    try:
        body = await request.json()
    except (ValueError, RecursionError, ClientDisconnect):
        return False
    return isinstance(body, dict) and body.get("dry_run") is True


def dry_run_router(tag: str) -> APIRouter:
    """For endpoints whose body has `dry_run`, at one of `reaper.web.guard.access.DRY_RUNS`."""
    return APIRouter(tags=[tag], route_class=DryRunRoute, dependencies=[Security(token_for_changes)])

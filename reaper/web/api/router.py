"""Where everything of the API is."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from reaper.web.api import compatibility, errors, health, history, jobs, supervisor, sweeps
from reaper.web.api.openapi import describe
from reaper.web.background_clear import ClearTasks
from reaper.web.service import AdminService

_ROUTERS = (
    health.router,
    supervisor.reading,
    supervisor.steering,
    jobs.reading,
    jobs.ending,
    sweeps.reading,
    sweeps.sweeping,
    compatibility.reading,
    compatibility.ending,
    history.reading,
)
_METHOD_LENGTH = 100


def serve(app: FastAPI, service: AdminService) -> None:
    """Have the application answer for this desk."""
    app.state.service, app.state.clearings = service, ClearTasks(service)
    for router in _ROUTERS:
        app.include_router(router)
    errors.install(app)
    # One for the status goes before those for its exception.
    app.add_exception_handler(405, _not_so)
    describe(app)


async def _not_so(request: Request, error: Exception) -> Response:
    """What is possible at a path, by whichever of its routes. Starlette names what the first of them can."""
    assert isinstance(error, HTTPException)
    allowed = _methods(request) or (error.headers or {}).get("Allow", "GET")
    detail = f"{request.method[:_METHOD_LENGTH]} is not possible here, only {allowed}"
    return JSONResponse({"detail": detail}, 405, {"Allow": allowed})


def _methods(request: Request) -> str:
    found = set[str]()
    for route in (route for router in _ROUTERS for route in router.routes):
        if isinstance(route, APIRoute) and route.path_regex.match(request.url.path):
            found |= route.methods or set()
    if jobs.is_place(request.url.path):
        found = {"POST"} if jobs.means_verb(request) else {"GET"}
    return ", ".join(sorted(found))

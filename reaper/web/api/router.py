"""The API's endpoints, put into an application."""

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
    """Add the endpoints of this service to the application, and the answers to errors."""
    app.state.service, app.state.clear_tasks = service, ClearTasks(service)
    for router in _ROUTERS:
        app.include_router(router)
    errors.install(app)
    # A handler for a status comes before one for its exception.
    app.add_exception_handler(405, _method_not_allowed)
    describe(app)


async def _method_not_allowed(request: Request, error: Exception) -> Response:
    """Names the methods of all routes of the path. Starlette names those of the first one."""
    assert isinstance(error, HTTPException)
    allowed = _methods(request) or (error.headers or {}).get("Allow", "GET")
    detail = f"{request.method[:_METHOD_LENGTH]} is not possible here, only {allowed}"
    return JSONResponse({"detail": detail}, 405, {"Allow": allowed})


def _methods(request: Request) -> str:
    methods = set[str]()
    for route in (route for router in _ROUTERS for route in router.routes):
        if isinstance(route, APIRoute) and route.path_regex.match(request.url.path):
            methods |= route.methods or set()
    if jobs.is_job_path(request.url.path):
        methods = {"POST"} if jobs.names_action(request) else {"GET"}
    return ", ".join(sorted(methods))

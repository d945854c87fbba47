"""The HTTP interface put together: the API, and the page."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

from reaper import __version__
from reaper.web import ui
from reaper.web.api import compatibility, ended, errors, health, history, holds, jobs, openapi, supervisor, sweeps
from reaper.web.clear_in_background import ClearTasks
from reaper.web.service import AdminService

_API_ROUTERS = (
    health.router,
    supervisor.reading,
    supervisor.steering,
    jobs.reading,
    jobs.ending,
    holds.reading,
    holds.holding,
    sweeps.reading,
    sweeps.sweeping,
    compatibility.reading,
    compatibility.ending,
    history.reading,
    ended.reporting,
)
_METHOD_LENGTH = 100


def make_app(service: AdminService, registry: CollectorRegistry) -> FastAPI:
    """An application over a daemon's service. Put it on a network only behind `guard.guarded`."""
    # The framework's own pages of documentation load scripts from other sites.
    app = FastAPI(title="reaper", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.state.service, app.state.registry, app.state.clear_tasks = service, registry, ClearTasks(service)
    for router in (*_API_ROUTERS, ui.router_of(service)):
        app.include_router(router)
    errors.install(app)
    # A handler for a status comes before one for its exception.
    app.add_exception_handler(405, _method_not_allowed)
    openapi.describe(app)
    return app


async def _method_not_allowed(request: Request, error: Exception) -> Response:
    """Names the methods of all routes of the path. Starlette names those of the first one."""
    assert isinstance(error, HTTPException)
    allowed = _methods(request) or (error.headers or {}).get("Allow", "GET")
    detail = f"{request.method[:_METHOD_LENGTH]} is not possible here, only {allowed}"
    return JSONResponse({"detail": detail}, 405, {"Allow": allowed})


def _methods(request: Request) -> str:
    methods = set[str]()
    for route in (route for router in _API_ROUTERS for route in router.routes):
        if isinstance(route, APIRoute) and route.path_regex.match(request.url.path):
            methods |= route.methods or set()
    if jobs.is_job_path(request.url.path):
        methods = {"POST"} if jobs.names_action(request) else {"GET"}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))

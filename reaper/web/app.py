"""The HTTP interface put together: the API, and the page."""

from __future__ import annotations

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from reaper import __version__
from reaper.web import api, ui
from reaper.web.service import AdminService


def make_app(service: AdminService, registry: CollectorRegistry) -> FastAPI:
    """An application over what the daemon knows. Put it on a network only behind `guard.guarded`."""
    # Its documentation's usual pages load their scripts from elsewhere.
    app = FastAPI(title="reaper", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.state.registry = registry
    api.serve(app, service)
    app.include_router(ui.router_of(service))
    return app

"""The HTTP interface: health and metrics."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from reaper import __version__
from reaper.admin.status import Status


def make_app(status: Status, registry: CollectorRegistry) -> FastAPI:
    """An application over what the daemon knows; it reads, and changes nothing."""
    app = FastAPI(title="reaper", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/live")
    def live() -> Response:
        """Whether the daemon's loop turns."""
        if status.alive:
            return PlainTextResponse("alive\n")
        return PlainTextResponse("the main loop does not turn\n", status_code=503)

    @app.get("/ready")
    def ready() -> Response:
        """Whether every source is looked after, and if not, what is in the way."""
        problems = status.problems()
        well = not any(problems.values())
        sources = {name: {"ready": not found, "problems": found} for name, found in problems.items()}
        return JSONResponse({"ready": well, "sources": sources}, status_code=200 if well else 503)

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        """Prometheus text, in the form that the client asks for."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    return app

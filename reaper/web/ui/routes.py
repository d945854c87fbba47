"""The routes of the page. They read the service, and change nothing."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from reaper import __version__
from reaper.errors import NoSuchJob, NoSuchSource
from reaper.web.api.dependencies import any_text
from reaper.web.guard.access import ACCESS_CONTROL
from reaper.web.guard.tokens import HOW_TO_SET
from reaper.web.service import AdminService
from reaper.web.ui.formatting import text
from reaper.web.ui.job_list import JobFilter
from reaper.web.ui.job_page import make_job_page
from reaper.web.ui.overview import make_overview
from reaper.web.ui.rendering import render
from reaper.web.ui.static_files import static_file


def router_of(service: AdminService) -> APIRouter:
    """`/`, `/jobs/{source}/{id}` and their static files. `?part=live` is a page without its frame."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @router.get("/")
    def overview(request: Request) -> Response:
        board = make_overview(service, JobFilter.parse(request.query_params))
        return _page(request, 200, "board.html", board)

    @router.get("/jobs/{source}/" + any_text("job"))
    def job(request: Request, source: str, job: str) -> Response:
        try:
            board = make_job_page(service, source, job)
        except (NoSuchSource, NoSuchJob) as error:
            missing = {"version": __version__, "host": service.host, "problem": text(str(error), 600)}
            return _page(request, 404, "missing.html", missing)
        return _page(request, 200 if board.known or board.ended else 503, "job.html", board)

    @router.get("/static/{name}")
    def static(request: Request, name: str) -> Response:
        file = static_file(name)
        if file is None:
            return Response("there is no such file\n", 404, media_type="text/plain")
        headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
        if file.etag in _etags_of(request):
            return Response(status_code=304, headers=headers)
        return Response(file.body, headers=headers, media_type=file.media_type)

    return router


def _page(request: Request, status: int, template: str, board: object) -> Response:
    body = render(template, board=board, **_frame(request))
    headers = {"ETag": f'"{blake2b(body, digest_size=12).hexdigest()}"'}
    if status == 200 and headers["ETag"] in _etags_of(request):
        return Response(status_code=304, headers=headers)
    return HTMLResponse(body, status, headers)


def _frame(request: Request) -> dict[str, Any]:
    """What a page depends on besides the values that it shows."""
    access_control = request.scope.get(ACCESS_CONTROL)
    return {
        "live": request.query_params.get("part") == "live",
        "can_change": access_control is not None and bool(access_control.tokens),
        "how_to_set": HOW_TO_SET,
    }


def _etags_of(request: Request) -> list[str]:
    """The versions that the client has already."""
    given = request.headers.get("if-none-match", "")
    return [etag.strip().removeprefix("W/") for etag in given.split(",")]

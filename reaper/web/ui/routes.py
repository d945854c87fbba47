"""Where the page is to be found. Reads the desk, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from reaper import __version__
from reaper.errors import NoSuchJob, NoSuchSource
from reaper.web.guard.auth_dependency import GATE
from reaper.web.guard.tokens import HOW_TO_SET
from reaper.web.path_convertor import whole
from reaper.web.service import AdminService
from reaper.web.ui.formatting import text
from reaper.web.ui.job_list import Filter
from reaper.web.ui.job_page import make_job_board
from reaper.web.ui.overview import make_board
from reaper.web.ui.page_cache import PageCache, RenderedPage
from reaper.web.ui.rendering import render
from reaper.web.ui.static_files import asset


def router_of(service: AdminService) -> APIRouter:
    """`/`, `/jobs/{source}/{id}` and what they are made with. `?part=live` is a page without its frame."""
    router, kept = APIRouter(include_in_schema=False, default_response_class=HTMLResponse), PageCache()

    def answer(request: Request, what: Hashable, make: Callable[[dict[str, Any]], RenderedPage]) -> Response:
        frame = _frame(request)
        made = kept.at((what, *frame.values(), _age_of(service)), lambda: make(frame))
        headers = {"ETag": made.etag}
        if made.status == 200 and made.etag in _known(request):
            return Response(status_code=304, headers=headers)
        return HTMLResponse(made.body, made.status, headers)

    @router.get("/")
    def board(request: Request) -> Response:
        wanted = Filter.of(request.query_params)
        return answer(
            request,
            wanted,
            lambda frame: RenderedPage(200, render("board.html", board=make_board(service, wanted), **frame)),
        )

    @router.get("/jobs/{source}/" + whole("job"))
    def job(request: Request, source: str, job: str) -> Response:
        def make(frame: dict[str, Any]) -> RenderedPage:
            try:
                found = make_job_board(service, source, job)
            except (NoSuchSource, NoSuchJob) as error:
                return RenderedPage(404, render("missing.html", board=_missing(service, str(error)), **frame))
            return RenderedPage(200 if found.known or found.ended else 503, render("job.html", board=found, **frame))

        return answer(request, (source, job), make)

    @router.get("/static/{name}")
    def static(request: Request, name: str) -> Response:
        found = asset(name)
        if found is None:
            return Response("there is no such file\n", 404, media_type="text/plain")
        headers = {"ETag": found.etag, "Cache-Control": "no-cache"}
        if found.etag in _known(request):
            return Response(status_code=304, headers=headers)
        return Response(found.body, headers=headers, media_type=found.media_type)

    return router


def _frame(request: Request) -> dict[str, Any]:
    """What pages depend on besides what they show."""
    access_control = request.scope.get(GATE)
    return {
        "live": request.query_params.get("part") == "live",
        "can_change": access_control is not None and bool(access_control.tokens),
        "how_to_set": HOW_TO_SET,
    }


def _age_of(service: AdminService) -> tuple[object, ...]:
    """What was made before somebody changed something is not shown after it."""
    changes = service.history.changes(1)
    return (changes[0].noted if changes else None, service.supervisor.halt_switch.current, service.supervisor.state)


def _known(request: Request) -> list[str]:
    """What the client has already."""
    given = request.headers.get("if-none-match", "")
    return [etag.strip().removeprefix("W/") for etag in given.split(",")]


def _missing(service: AdminService, problem: str) -> dict[str, object]:
    return {"version": __version__, "host": service.host, "problem": text(problem, 600)}

"""Where the page is to be found. Reads the desk, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from reaper import __version__
from reaper.admin.desk import Desk
from reaper.admin.page.assets import asset
from reaper.admin.page.board import make_board
from reaper.admin.page.jobboard import make_job_board
from reaper.admin.page.kept import Kept, Made
from reaper.admin.page.listing import Filter
from reaper.admin.page.rendering import render
from reaper.admin.page.text import text
from reaper.admin.places import NoSuchSource
from reaper.admin.routing import whole
from reaper.admin.security.changing import GATE
from reaper.admin.security.tokens import HOW_TO_SET
from reaper.operations.explaining import NoSuchJob


def router_of(desk: Desk) -> APIRouter:
    """`/`, `/jobs/{source}/{id}` and what they are made with. `?part=live` is a page without its frame."""
    router, kept = APIRouter(include_in_schema=False, default_response_class=HTMLResponse), Kept()

    def answer(request: Request, what: Hashable, make: Callable[[dict[str, Any]], Made]) -> Response:
        frame = _frame(request)
        made = kept.at((what, *frame.values(), _age_of(desk)), lambda: make(frame))
        headers = {"ETag": made.etag}
        if made.status == 200 and made.etag in _known(request):
            return Response(status_code=304, headers=headers)
        return HTMLResponse(made.body, made.status, headers)

    @router.get("/")
    def board(request: Request) -> Response:
        wanted = Filter.of(request.query_params)
        return answer(
            request, wanted, lambda frame: Made(200, render("board.html", board=make_board(desk, wanted), **frame))
        )

    @router.get("/jobs/{source}/" + whole("job"))
    def job(request: Request, source: str, job: str) -> Response:
        def make(frame: dict[str, Any]) -> Made:
            try:
                found = make_job_board(desk, source, job)
            except (NoSuchSource, NoSuchJob) as error:
                return Made(404, render("missing.html", board=_missing(desk, str(error)), **frame))
            return Made(200 if found.known or found.ended else 503, render("job.html", board=found, **frame))

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
    gate = request.scope.get(GATE)
    return {
        "live": request.query_params.get("part") == "live",
        "can_change": gate is not None and bool(gate.tokens),
        "how_to_set": HOW_TO_SET,
    }


def _age_of(desk: Desk) -> tuple[object, ...]:
    """What was made before somebody changed something is not shown after it."""
    changes = desk.history.changes(1)
    return (changes[0].noted if changes else None, desk.supervisor.halted.now, desk.supervisor.state)


def _known(request: Request) -> list[str]:
    """What the client has already."""
    given = request.headers.get("if-none-match", "")
    return [etag.strip().removeprefix("W/") for etag in given.split(",")]


def _missing(desk: Desk, problem: str) -> dict[str, object]:
    return {"version": __version__, "host": desk.host, "problem": text(problem, 600)}

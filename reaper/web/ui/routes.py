"""The routes of the page, its templates and its static files. They read the service, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from reaper import __version__
from reaper.common import runbook
from reaper.common.terminal import clipped, shown
from reaper.errors import NoSuchJob, NoSuchSource, ReaperError
from reaper.web.api.dependencies import any_text
from reaper.web.guard.access import ACCESS_CONTROL
from reaper.web.guard.tokens import Tokens
from reaper.web.service import AdminService
from reaper.web.ui.formatting import text, visible
from reaper.web.ui.job_list import JobFilter
from reaper.web.ui.job_page import make_job_page
from reaper.web.ui.overview import make_overview

if TYPE_CHECKING:
    from jinja2 import Environment

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

_MOST_SHOWN = 2000
"""Characters of an error: a path may be long."""


def router_of(service: AdminService) -> APIRouter:
    """`/`, `/jobs/{source}/{id}`, their static files, and `/runbook`. `?part=live` is a page without its frame."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @router.get("/")
    def overview(request: Request) -> Response:
        board = make_overview(service, JobFilter.parse(request.query_params))
        return _page(request, 200, "board.html", board)

    @router.get("/jobs/{source}/" + any_text("job"))
    def job(request: Request, source: str, job: str) -> Response:
        name = job or request.query_params.get("id", "")
        try:
            board = make_job_page(service, source, name)
        except (NoSuchSource, NoSuchJob) as error:
            missing = {"version": __version__, "host": service.host, "problem": text(str(error), 600)}
            return _page(request, 404, "missing.html", missing)
        return _page(request, 200 if board.known or board.ended else 503, "job.html", board)

    @router.get("/runbook")
    def whole_runbook() -> Response:
        return _runbook(runbook.text)

    @router.get("/runbook/{name}")
    def runbook_entry(name: str) -> Response:
        return _runbook(lambda: runbook.entry(name))

    @router.get("/static/{name}")
    def static(request: Request, name: str) -> Response:
        file = _static_files().get(name)
        if file is None:
            return Response("there is no such file\n", 404, media_type="text/plain")
        headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
        if file.etag in _etags_of(request):
            return Response(status_code=304, headers=headers)
        return Response(file.body, headers=headers, media_type=file.media_type)

    return router


def _runbook(read: Callable[[], str]) -> Response:
    """As text: it is Markdown, which a person can read."""
    try:
        return PlainTextResponse(read())
    except ReaperError as error:
        return PlainTextResponse(f"{shown(clipped(str(error), _MOST_SHOWN))}\n", 404)


def _page(request: Request, status: int, template: str, board: object) -> Response:
    body = render(template, board=board, **_frame(request))
    headers = {"ETag": _etag(body)}
    if status == 200 and headers["ETag"] in _etags_of(request):
        return Response(status_code=304, headers=headers)
    return HTMLResponse(body, status, headers)


def _frame(request: Request) -> dict[str, Any]:
    """What a page depends on besides the values that it shows."""
    access_control = request.scope.get(ACCESS_CONTROL)
    tokens = access_control.tokens if access_control is not None else Tokens()
    return {
        "live": request.query_params.get("part") == "live",
        "can_change": bool(tokens),
        "read_only_because": tokens.absence,
    }


def _etags_of(request: Request) -> list[str]:
    """The versions that the client has already."""
    given = request.headers.get("if-none-match", "")
    return [etag.strip().removeprefix("W/") for etag in given.split(",")]


def _etag(body: bytes) -> str:
    return f'"{blake2b(body, digest_size=12).hexdigest()}"'


# --- templates -----------------------------------------------------------------------------------------------


def render(template: str, **values: object) -> bytes:
    """Every value that the template prints is escaped."""
    return template_environment().get_template(template).render(**values).encode("utf-8", "replace")


@cache
def template_environment() -> Environment:
    """Jinja is loaded, and templates are compiled, at the first request for a page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("reaper.web.ui"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": visible, "sentence": _sentence}
    return environment


def _sentence(text: str) -> str:
    """With a capital letter first, and unchanged otherwise."""
    return text[:1].upper() + text[1:]


# --- static files --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _StaticFile:
    body: bytes
    media_type: str
    etag: str


@cache
def _static_files() -> dict[str, _StaticFile]:
    """By name. Clients keep them, and ask whether they have changed."""
    by_name = {}
    for file in files("reaper.web.ui").joinpath("static").iterdir():
        if (media_type := _MEDIA_TYPES.get(file.name.rpartition(".")[2])) is not None:
            body = file.read_bytes()
            by_name[file.name] = _StaticFile(body, media_type, _etag(body))
    return by_name

"""The API's OpenAPI document. The errors that every endpoint may answer with are added to each in one place."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from reaper.web.api.errors import problem
from reaper.web.api.schemas import Problem
from reaper.web.guard.access import DRY_RUNS

_DESCRIPTION = """\
What the reaper sees and does. Reading is free, and so is a dry run; changing anything needs a bearer token. Every error
is `{"detail": "one clear sentence"}`. Durations are seconds, and moments ISO 8601 as the database made them."""

_TAGS = {
    "health": "Whether all is well.",
    "supervisor": "The schedule of sweeps.",
    "jobs": "The running jobs, and what the rule says of each.",
    "sweeps": "The recent sweeps, and one now.",
    "documents": "Endpoints with the payloads of job systems' own ones.",
    "policy": "The configuration in force.",
    "history": "What has happened since the daemon was started.",
}

_ANY = {
    "421": ("Misdirected", "The Host header names none of this reaper's hosts."),
    "422": ("Wrong", "A parameter or the body is wrong."),
    "503": ("Crowded", "Too many requests at once: try again later."),
}
_CHANGING = {
    "401": ("Unknown", "No token, or a wrong one."),
    "403": ("Forbidden", "The reaper has no token and is read-only, or another site's page asks."),
}
_WITH_BODY = {
    "400": ("Unreadable", "The body cannot be read."),
    "408": ("Slow", "The body did not come in time."),
    "413": ("TooLong", "The body is too long."),
}
_RETRIED = {"503"}


def describe(app: FastAPI) -> None:
    """Replace the application's own document, which is made when it is asked for the first time."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title="reaper",
        version=app.version,
        summary="Ends jobs that claim to be running and are not.",
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
    )
    components = document["components"]
    components["schemas"]["Problem"] = Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["responses"] = {
        name: problem(description, retry=code in _RETRIED)
        for answers in (_ANY, _CHANGING, _WITH_BODY)
        for code, (name, description) in answers.items()
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _complete(method, operation)
            if method == "post" and path in DRY_RUNS:
                operation["security"].append({})  # without a token: a dry run
    return document


def _extend(content: dict[str, Any]) -> None:
    """A status that has a body of its own may come with a problem instead."""
    own, other = content.get("application/json"), {"$ref": "#/components/schemas/Problem"}
    if own is None:
        content["application/json"] = {"schema": other}
    elif own["schema"] != other:
        own["schema"] = {"anyOf": [own["schema"], other]}


def _complete(method: str, operation: dict[str, Any]) -> None:
    """Add the errors that this endpoint may answer with for reasons that are not its own."""
    answers = operation["responses"]
    common = _ANY | (_CHANGING if method != "get" else {}) | (_WITH_BODY if "requestBody" in operation else {})
    for code, (name, _) in common.items():
        # The framework's 422 describes a form in which no error is answered.
        if code not in answers or code == "422":
            answers[code] = {"$ref": f"#/components/responses/{name}"}
        else:
            _extend(answers[code]["content"])
    operation["responses"] = dict(sorted(answers.items()))

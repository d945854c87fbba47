"""What schemathesis is to do besides, in its own process: no request may halt the daemon for those that follow."""

from __future__ import annotations

import http.client
import os
from typing import Any
from urllib.parse import urlsplit

import schemathesis


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Go on after a halt, so that the rest meets a daemon that works."""
    asked = urlsplit(response.request.url)
    if asked.path == "/api/supervisor/halt" and response.status_code == 200:
        connection = http.client.HTTPConnection(str(asked.hostname), asked.port, timeout=30)
        connection.request("POST", "/api/supervisor/restart", headers={"Authorization": os.environ["BEARER"]})
        assert connection.getresponse().status == 200
        connection.close()


def _with_reason_in_words(values: dict[str, Any] | None) -> dict[str, Any] | None:
    """With a reason that can be printed: schemathesis cannot use the pattern that says so."""
    if isinstance(values, dict) and isinstance(reason := values.get("reason"), str):
        printable = "".join(c for c in reason if c.isprintable())
        values["reason"] = printable if printable.strip() or reason.isprintable() else "printable"
    return values


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """A text that is no duration may be refused although the description allows it: no pattern says which texts are."""
    return not (response.status_code == 422 and "body duration: expected" in response.text)


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    return _with_reason_in_words(body)


@schemathesis.hook
def map_query(context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    return _with_reason_in_words(query)


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Now and then a source and a job that there are: others are only ever not found."""
    jobs = os.environ["JOBS"].split()
    if path_parameters and "source" in path_parameters and len(str(path_parameters["source"])) % 2:
        path_parameters["source"] = "default"
        path_parameters["id"] = jobs[len(str(path_parameters.get("id"))) % len(jobs)]
    return path_parameters

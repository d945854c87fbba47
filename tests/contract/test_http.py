"""The HTTP API, its description of itself, and the addresses of the page."""

from __future__ import annotations

import json
from collections import defaultdict
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.contract.conftest import DaemonRecording, Golden
from tests.contract.support import flattened, structure, unordered, without

PROSE = ("description", "summary", "title", "examples", "example", "tags", "version")
"""What a client does not act on. Tags order the documentation; the version is the program's."""


def test_openapi_keeps_paths_parameters_schemas_and_statuses(life: DaemonRecording, golden: Golden) -> None:
    golden("openapi.txt", flattened(unordered(without(life.openapi, PROSE))))


def test_answers_keep_their_statuses_and_members(life: DaemonRecording, golden: Golden) -> None:
    documents = defaultdict[str, list[Any]](list)
    for answer in life.answers:
        if answer.media_type == "application/json":
            documents[f"{answer.name}: {answer.status}"].append(json.loads(answer.text))
    members = [line for name, found in documents.items() for line in structure(name, *found)]
    golden("http.txt", [*(answer.line for answer in life.answers), *members])


def test_page_keeps_its_addresses_and_filters(life: DaemonRecording, golden: Golden) -> None:
    golden("page.txt", {line for page in life.pages.values() for line in _Page(page).lines})


class _Page(HTMLParser):
    """Where a page leads, and what can be chosen on it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines = set[str]()
        self._chosen = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a" and given.get("href", "").startswith("/"):
            self.lines.add(f"link: {_address(given['href'])}")
        elif tag == "form" and "action" in given:
            self.lines.add(f"form: {given.get('method', 'get')} {given['action']}")
        elif tag in ("select", "input") and "name" in given:
            self._chosen = given["name"]
            self.lines.add(f"field: {self._chosen}")
        elif tag == "option" and self._chosen == "verdict":
            self.lines.add(f"field: verdict = {given.get('value')}")


def _address(href: str) -> str:
    """Without what differs from job to job."""
    found = urlsplit(href)
    if found.path.startswith("/jobs/"):
        return "/jobs/{source}/{id}"
    return found.path + "".join(f"?{name}=" for name, _ in parse_qsl(found.query))

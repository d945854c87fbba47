"""Requests that two programs read differently, and names of jobs that a path or a command line changes."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from functools import partial
from html import escape
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reaper.common.messages import format_key, parse_key
from reaper.dev.postgres import PrivatePostgreSQL
from reaper.web.ui.formatting import link
from tests.support.api import ApiDaemon
from tests.support.commands import Reaper
from tests.support.http_clients import BEARER, TOKEN, Web, head, web
from tests.support.protea import Protea


@pytest.fixture(scope="module")
def served() -> Iterator[Web]:
    with web({"alice": TOKEN}) as running:
        yield running


# --- where a request ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/page", "/live", "/act", "/static/page.js"])
@pytest.mark.parametrize("bearer", [True, False])
def test_request_with_two_lengths_is_refused_and_what_follows_it_is_not_read(
    served: Web, method: str, path: str, bearer: bool
) -> None:
    lengths = {"Content-Length": "4", "Transfer-Encoding": "chunked", **(BEARER if bearer else {})}
    with served.connect() as client:
        client.send(head(method, path, lengths) + b"0\r\n\r\n" + head("GET", "/page"))
        received = b""
        while part := client.socket.recv(1 << 16):
            received += part
    assert received.startswith(b"HTTP/1.1 400 ") and received.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in received and b"read me" not in received
    if method != "HEAD":
        assert b"must not have both Content-Length and Transfer-Encoding" in received


# --- HEAD --------------------------------------------------------------------------------------------------------


def headers_of(port: int, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        # Two answers differ in their moment.
        headers = {name.lower(): value for name, value in answer.getheaders() if name.lower() != "date"}
        return answer.status, headers, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/live", "/page", "/static/page.js", "/nothing", "/big?size=70000"])
def test_head_is_answered_like_get_without_the_body(served: Web, path: str) -> None:
    status, headers, body = headers_of(served.port, "GET", path)
    assert body
    assert headers_of(served.port, "HEAD", path) == (status, headers, b"")


def test_head_with_a_token_is_answered_like_get(served: Web) -> None:
    with served.connect() as client:
        client.send(head("HEAD", "/whoami", BEARER) + head("GET", "/whoami", BEARER))
        received = b""
        while received.count(b"\r\n\r\n") < 2 or not received.endswith(b"}"):
            received += client.socket.recv(1 << 16)
    assert received.count(b"HTTP/1.1 200 OK") == 2 and received.count(b'{"name":"alice"}') == 1


# --- bodies and names, at a daemon -------------------------------------------------------------------------------

PROFILE = """[sources.default]
database_url = "{url}"
profile = "odd"
timeout_seconds = "10d"
[profiles.odd.jobs]
table = "odd"
key = "id"
started = ["started_at"]
running = {{ column = "state", in = ["running"] }}
status = "state"
[profiles.odd.actions.fail.set]
state = "failed"
error = {{ is = "reason" }}
"""
NAMES = [
    ".", "..", "...", " x", "x ", "  ", "\t", "a\nb", "\r\n", "\x1b[31m", "-x", "--help", "-1", "a,b", '"q"', "%2e%2e",
    "a/b", "a/fail", "fail", "\u200b", "\u202e", "e\u0301", "a?id=b", "a#b", "a;b", "a&id=b", "\\", "\\x1b", "~", "'",
]  # fmt: skip


@pytest.fixture(scope="module")
def odd(server: PrivatePostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiDaemon, Protea]]:
    """A daemon, and a database with a job of each name."""
    folder, url = tmp_path_factory.mktemp("odd"), server.create_database("odd_names", tables=False)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE odd (id text PRIMARY KEY, state text, started_at timestamptz, error text)")
        connection.execute(
            "INSERT INTO odd SELECT id, 'running', now() - interval '1 h' FROM unnest(%s::text[]) id", [NAMES]
        )
        with ApiDaemon(folder, PROFILE.format(url=url)) as daemon:
            daemon.has_swept()
            yield daemon, Protea(url, connection)
    server.drop_database("odd_names")


def as_a_browser_sends(path: str) -> str:
    """The path without dot segments, which browsers remove wherever they stand and however they are spelled."""
    before, mark, query = path.partition("?")
    kept: list[str] = []
    for segment in before.split("/")[1:]:
        dots = segment.lower().replace("%2e", ".")
        if dots == "..":
            kept = kept[:-1]
        elif dots != ".":
            kept.append(segment)
    return f"/{'/'.join(kept)}{mark}{query}"


@pytest.mark.parametrize("name", NAMES)
def test_job_of_any_name_can_be_opened_and_ended_from_the_page(odd: tuple[ApiDaemon, Protea], name: str) -> None:
    daemon, protea = odd
    get = partial(daemon.api.ask, "GET")  # with the token: other readers wait for their turn
    address = link("default", name)
    assert as_a_browser_sends(address) == address
    page, answer = get(address), get(f"/api{address}")
    assert page.status == 200 and f'data-job="{escape(address)}"' in page.text
    assert answer.json["job"]["id"] == name and answer.json["job"]["verdict"] == "young"
    # As actions.js makes it.
    path, _, query = address.partition("?")
    action = f"/api{path}/fail{f'?{query}' if query else ''}"
    assert as_a_browser_sends(action) == action
    ended = daemon.api.post(action, {"started": answer.json["job"]["started"], "reason": "its node is gone"})
    assert (ended.status, ended.json["id"]) == (200, name)
    row = protea.connection.execute("SELECT state FROM odd WHERE id = %s", [name]).fetchone()
    assert row == ("failed",)
    [change, *_] = get("/api/changes").json["changes"]
    assert change["target"] == f"default {name}"
    assert get(action).status == 405


def test_name_in_the_query_counts_only_where_the_path_has_none(odd: tuple[ApiDaemon, Protea]) -> None:
    daemon, _ = odd
    assert daemon.api.get("/api/jobs/default/~?id=..").json["job"]["id"] == "~"
    assert daemon.api.get("/api/jobs/default/?id=~").json["job"]["id"] == "~"
    assert "there is no job " in daemon.api.get("/api/jobs/default/").detail


TWICE = [
    '{"dry_run": true, "dry_run": false}',
    '{"dry_run": false, "dry_run": true}',
    '{"dry_run": true, "dry_r\\u0075n": true}',
    '{"source": "default", "release": 1, "release": 1000000}',
    '{"dry_run": true, "extra": [{"a": 1, "a": 2}]}',
]


@pytest.mark.parametrize("path", ["/api/sweeps", "/api/executions/cleanup", "/api/admin/clear-stuck-jobs"])
@pytest.mark.parametrize("token", [True, False])
def test_body_with_a_key_twice_is_refused(odd: tuple[ApiDaemon, Protea], path: str, token: bool) -> None:
    for body in TWICE:
        refused = odd[0].api.ask("POST", path, raw=body.encode(), token=token)
        assert refused.status == 400 and "is there twice" in refused.detail, (body, refused)


def test_end_of_a_job_with_a_key_twice_is_refused(odd: tuple[ApiDaemon, Protea]) -> None:
    body = b'{"reason": "its node is gone", "started": null, "started": "2026-01-01T00:00:00+00:00"}'
    refused = odd[0].api.ask("POST", "/api/jobs/default/x%20/fail", raw=body)
    assert (refused.status, refused.detail) == (400, "body: the key 'started' is there twice")


# --- names on the command line -----------------------------------------------------------------------------------


def test_command_line_takes_every_name(odd: tuple[ApiDaemon, Protea], tmp_path: Path) -> None:
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": ""})
    reaper.configure(PROFILE.format(url=odd[1].url))
    for name in (".", "..", " x", "x ", "  ", "\t", "a\nb", "\x1b[31m", "-x", "--help", "a,b", "\\x1b"):
        explained = reaper("explain", "--json", "--", name)
        assert explained.exit_code == 0 and json.loads(explained.stdout)["job"]["key"] == name


def test_command_line_says_how_a_name_is_given_that_looks_like_an_option(tmp_path: Path) -> None:
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": ""})
    for command in ("explain", "fail"):
        for name, quoted in (("-x", "-x"), ("-12", "-12"), ("--a b", "'--a b'"), ("-\x1b", "'-\\x1b'")):
            refused = reaper(command, name)
            assert refused.exit_code == 2
            said = " ".join(refused.output.split())
            assert f"A job's key that begins with - comes last, after --: reaper {command} -- {quoted}" in said


def test_command_line_refuses_an_empty_name(tmp_path: Path) -> None:
    refused = Reaper(tmp_path, {"REAPER_DATABASE_URL": ""})("fail", "", "--reason", "x")
    assert refused.exit_code == 2 and "expected a job's key" in refused.output


PARTS = st.text(st.characters(codec="utf-8") | st.sampled_from(',"\r\n\t '), max_size=4)


@given(st.lists(PARTS, min_size=2, max_size=4).map(tuple))
def test_name_of_a_key_of_several_columns_leads_back_to_it(key: tuple[str, ...]) -> None:
    assert parse_key(format_key(key), len(key)) == key


def test_name_with_too_many_commas_is_refused_with_the_way_to_write_it() -> None:
    with pytest.raises(ValueError, match=r"2 values of its key .* a value that has a comma in double quotes"):
        parse_key("a,b,c", 2)
    assert parse_key('a,"b,c"', 2) == ("a", "b,c")

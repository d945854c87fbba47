"""Access control over HTTP: tokens, Host, Origin, bodies; and the form of errors and answers."""

from __future__ import annotations

import hmac
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from reaper.config import Settings
from reaper.errors import ConfigError
from reaper.model import AuditRecord
from reaper.observers.daemon_log import DaemonLog
from reaper.web.guard import AccessControl, access, middleware, refuse_exposed
from reaper.web.guard.access import AllowedHosts, HostPort, same_origin
from reaper.web.guard.headers import SECURITY_HEADERS
from reaper.web.guard.tokens import Tokens
from tests.support.http_clients import BEARER, TOKEN, Answer, Web, head, web
from tests.support.waiting import wait_until

WAYS_TO_SET_A_TOKEN = ("REAPER_HTTP_TOKEN_FILE", "http_token_file", "credential http_token", "manage.sh start")


@pytest.fixture(scope="module")
def safe() -> Iterator[Web]:
    """Two people have a token."""
    with web({"alice": TOKEN, "bob": "another one"}) as served:
        yield served


@pytest.fixture(scope="module")
def read_only() -> Iterator[Web]:
    with web() as served:
        yield served


# --- tokens --------------------------------------------------------------------------------------------------


def test_change_is_attributed_to_the_name_of_its_token(safe: Web) -> None:
    answer = safe.act(BEARER)
    assert answer.status == 200
    assert answer.document["name"] == "alice"
    assert re.fullmatch(r"127\.0\.0\.1:\d+", answer.document["remote"])
    assert safe.act({"Authorization": "bearer another one"}).document["name"] == "bob"


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xff"],
)
def test_change_without_a_right_token_is_refused(safe: Web, authorization: str | None) -> None:
    answer = safe.act({"Authorization": authorization} if authorization is not None else {})
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == ["Bearer"]
    assert answer.detail.startswith("a bearer token is needed to change anything")


def test_authorization_given_twice_counts_for_nothing(safe: Web) -> None:
    twice = f"Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}"
    assert safe.act({"Authorization": twice}).status == 401


def test_daemon_without_tokens_is_read_only_and_says_how_to_change_that(read_only: Web) -> None:
    for headers in ({}, BEARER, {"Authorization": "Bearer "}):
        answer = read_only.act(headers)
        assert answer.status == 403
        for way in (
            "read-only",
            "REAPER_HTTP_TOKEN_FILE",
            "http_token_file",
            "credential http_token",
            "manage.sh start",
        ):
            assert way in answer.detail
    assert read_only.ask("GET", "/page").status == 200


def test_token_is_refused_from_the_moment_it_is_replaced() -> None:
    with web({"alice": TOKEN}) as served:
        assert served.act(BEARER).status == 200
        served.access_control.tokens.replace({"carol": SecretStr("a new one")})
        assert served.act(BEARER).status == 401
        assert served.act({"Authorization": "Bearer a new one"}).document["name"] == "carol"
        served.access_control.tokens.replace({})
        assert served.act({"Authorization": "Bearer a new one"}).status == 403


@pytest.mark.parametrize("given", [TOKEN, "wrong", "another one"])
def test_tokens_are_all_compared_whichever_was_given(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return a == b

    monkeypatch.setattr(hmac, "compare_digest", compare)
    Tokens({"alice": SecretStr(TOKEN), "bob": SecretStr("another one")}).name_of(f"Bearer {given}")
    assert compared == [(32, 32)] * 2


def test_token_may_hold_any_character() -> None:
    tokens = Tokens({"alice": SecretStr("gr\u00fc\u00df dich")})
    assert tokens.name_of("Bearer gr\u00fc\u00df dich".encode().decode("latin-1")) == "alice"
    assert TOKEN not in repr(vars(Tokens({"alice": SecretStr(TOKEN)})))


def test_changing_methods_need_a_token_even_where_the_endpoint_forgot_to_ask(safe: Web) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"):
        assert safe.ask(method, "/forgotten").status == 401
        assert safe.ask(method, "/nowhere").status == 401
    assert safe.ask("POST", "/forgotten", BEARER).status == 200


def test_endpoint_may_require_a_token_whatever_its_method(safe: Web) -> None:
    assert safe.ask("GET", "/whoami").status == 401
    assert safe.ask("GET", "/whoami", BEARER).document == {"name": "alice"}


def test_reading_needs_no_token(safe: Web) -> None:
    assert safe.ask("GET", "/page").status == 200
    assert safe.ask("GET", "/page", {"Authorization": "Bearer wrong"}).status == 200


def test_forwarding_headers_do_not_change_the_remote_address(safe: Web) -> None:
    answer = safe.act({**BEARER, "X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7"})
    assert answer.document["remote"].startswith("127.0.0.1:")


def test_openapi_names_the_token_of_changing_endpoints(safe: Web) -> None:
    described = safe.ask("GET", "/openapi.json").document
    [(name, scheme)] = described["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    act = described["paths"]["/act"]["post"]
    assert act["security"] == [{name: []}]
    assert "security" not in described["paths"]["/page"]["get"]


# --- settings ------------------------------------------------------------------------------------------------


def exposed(host: str, **more: object) -> Settings:
    return Settings(http_host=host, origins={"http_host": "reaper.toml:3"}, **more)  # type: ignore[arg-type]


def test_exposed_port_is_refused_without_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_exposed(exposed("0.0.0.0"))
    [problem] = refused.value.problems
    assert problem.startswith("reaper.toml:3: http_host 0.0.0.0 can be reached from other machines")
    assert all(way in problem for way in WAYS_TO_SET_A_TOKEN)
    tokens = tmp_path / "token"
    tokens.write_text(f"{TOKEN}\n")
    tokens.chmod(0o600)
    refuse_exposed(exposed("0.0.0.0", http_token_file=tokens))
    for host in ("127.0.0.1", "::1", "localhost"):
        refuse_exposed(exposed(host))
    refuse_exposed(exposed("0.0.0.0", http_port=0))


def test_settings_come_into_force_at_once(tmp_path: Path) -> None:
    tokens = tmp_path / "token"
    tokens.write_text(f"{TOKEN}\n")
    tokens.chmod(0o600)
    with web() as served:
        assert served.ask("GET", "/page", host="reaper.example").status == 421
        served.access_control.configure(
            exposed("inner.example", http_token_file=tokens, http_allowed_hosts=("reaper.example",))
        )
        for host in ("reaper.example", "inner.example", "localhost"):
            assert served.ask("GET", "/page", host=host).status == 200
        assert served.act(BEARER).status == 200
        served.access_control.configure(exposed("127.0.0.1"))
        assert served.act(BEARER).status == 403
        assert served.ask("GET", "/page", host="reaper.example").status == 421


# --- Host ----------------------------------------------------------------------------------------------------

OURS = ["localhost", "LOCALHOST:1234", "localhost.", "127.0.0.1", "127.0.0.1:9469", "[::1]:9469", "[::1]", "192.0.2.7"]
FOREIGN = [
    None, "", "evil.example", "evil.example:9469", "localhost.evil.example", "127.0.0.1.evil.example", "localhost:",
    "localhost:x", "localhost:1:2", "a b", "localhost/", "user@localhost", "[localhost]", "[127.0.0.1]", "::1", "127.1",
    "localhost, evil.example",
]  # fmt: skip


@pytest.mark.parametrize("host", [*OURS, socket.gethostname(), f"{socket.gethostname()}:9469"])
def test_host_header_may_be_an_own_name_or_an_address(safe: Web, host: str) -> None:
    assert safe.ask("GET", "/page", host=host).status == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_host_header_with_another_name_is_refused(safe: Web, host: str | None) -> None:
    # As an HTTP/1.0 client, which may leave the header out; of a newer one the parser refuses that.
    answer = safe.raw(head("GET", "/live", host=host).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert answer.status == 421
    assert "REAPER_HTTP_ALLOWED_HOSTS" in answer.detail
    assert safe.act(BEARER, host=host).status in {421, 400}


def test_host_header_given_twice_is_refused(safe: Web) -> None:
    twice = b"GET /page HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"
    assert safe.raw(twice).status == 400
    assert not AllowedHosts().admits(["localhost", "localhost"])


def test_host_may_be_allowed_with_or_without_a_port() -> None:
    hosts = AllowedHosts(["Reaper.Example", "other.example:8443", "bad name", "0.0.0.0"])
    for host in ("reaper.example:9469", "REAPER.EXAMPLE", "other.example", "other.example:1"):
        assert hosts.admits([host])
    assert not hosts.admits(["bad name"])


# --- Origin --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("localhost:9469", {}),
        ("localhost:9469", {"Origin": "http://localhost:9469", "Sec-Fetch-Site": "same-origin"}),
        ("localhost:9469", {"Sec-Fetch-Site": "none"}),
        ("localhost", {"Origin": "http://localhost"}),
        ("localhost", {"Origin": "http://localhost:80"}),
        ("[::1]:9469", {"Origin": "http://[::1]:9469"}),
        # Behind a proxy that speaks TLS.
        ("localhost", {"Origin": "https://localhost"}),
        ("localhost:443", {"Origin": "https://localhost"}),
    ],
)
def test_own_page_and_clients_that_are_no_browsers_may_change_something(
    safe: Web, host: str, headers: dict[str, str]
) -> None:
    assert safe.act({**BEARER, **headers}, host=host).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost"},
        {"Origin": "http://localhost:9470"},
        {"Origin": "http://127.0.0.1:9469"},
        {"Origin": "localhost:9469"},
        {"Origin": "file://localhost:9469"},
        {"Origin": "http://localhost:9469/"},
        {"Origin": "http://localhost:9469\r\nOrigin: http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-origin\r\nSec-Fetch-Site: cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:9469"},
    ],
)
def test_pages_of_other_sites_may_change_nothing_even_with_the_token(safe: Web, headers: dict[str, str]) -> None:
    answer = safe.act({**BEARER, **headers}, host="localhost:9469")
    assert answer.status == 403
    assert "only this reaper's own page" in answer.detail
    assert safe.ask("GET", "/page", headers, host="localhost:9469").status == 200


def test_origins_without_a_port_have_that_of_their_scheme() -> None:
    assert same_origin("http://h:80", "h")
    assert not same_origin("https://h", "h:80")
    assert same_origin("https://H.", "h:443")
    assert HostPort.parse("h:999999") is None


def test_pages_of_other_sites_may_read_nothing(safe: Web) -> None:
    asking = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (safe.ask("OPTIONS", "/act", asking), safe.ask("GET", "/page", asking)):
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert safe.ask("OPTIONS", "/act", asking).status == 405


# --- bodies --------------------------------------------------------------------------------------------------


def order(length: int) -> bytes:
    """An order in JSON that is exactly so long."""
    empty = json.dumps({"source": ""}).encode()
    return empty[:-2] + b"x" * (length - len(empty)) + empty[-2:]


def test_body_may_be_64_kib_and_no_more(safe: Web) -> None:
    kind = {**BEARER, "Content-Type": "application/json"}
    assert len(order(access.BODY_BYTES)) == access.BODY_BYTES
    assert safe.ask("POST", "/act", kind, order(access.BODY_BYTES)).status == 200
    answer = safe.ask("POST", "/act", kind, order(access.BODY_BYTES + 1))
    assert answer.status == 413
    assert "65536 bytes" in answer.detail


def chunked(body: bytes, size: int) -> bytes:
    parts = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_body_in_chunks_is_counted_as_it_comes(safe: Web) -> None:
    kind = {**BEARER, "Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    begin = head("POST", "/act", kind)
    assert safe.raw(begin + chunked(order(access.BODY_BYTES), 5000)).status == 200
    with safe.connect() as client:
        # Without an end: the answer comes when it is too long, not when it is over.
        client.send(begin + chunked(order(access.BODY_BYTES + 5000), 5000)[:-5])
        assert client.answer().status == 413


@pytest.mark.parametrize("headers", [{"Content-Length": "10"}, {"Transfer-Encoding": "chunked"}])
def test_body_that_is_not_needed_is_not_waited_for(safe: Web, headers: dict[str, str]) -> None:
    assert safe.raw(head("POST", "/act", headers)).status == 401
    assert safe.raw(head("GET", "/page", headers)).status == 200
    assert safe.raw(head("POST", "/forgotten", {**headers, **BEARER})).status == 200
    assert safe.raw(head("POST", "/act", {"Content-Length": "1000000", **BEARER})).status == 413


def test_continue_is_not_sent_for_a_body_that_is_refused(safe: Web) -> None:
    expecting = {"Content-Length": "20", "Expect": "100-continue", "Content-Type": "application/json"}
    assert safe.raw(head("POST", "/act", expecting)).status == 401
    with safe.connect() as client:
        client.send(head("POST", "/act", {**expecting, **BEARER}))
        assert client.socket.recv(100).startswith(b"HTTP/1.1 100 ")
        client.send(order(20))
        assert client.answer().status == 200


# --- errors --------------------------------------------------------------------------------------------------


def test_unknown_paths_and_methods_are_answered_with_one_sentence(safe: Web) -> None:
    assert safe.ask("GET", "/nowhere?a=b").detail == "there is nothing at /nowhere"
    answer = safe.ask("DELETE", "/page", BEARER)
    assert (answer.status, answer.detail) == (405, "DELETE is not possible here, only GET")
    assert answer.headers["allow"] == ["GET"]


@pytest.mark.parametrize(
    ("order", "detail"),
    [
        ({}, "body source: it is missing"),
        ({"sorce": "main", "source": "x"}, "body sorce: there is no such field; did you mean 'source'?"),
        (
            {"source": "x", "qqq": 1},
            "body qqq: there is no such field; expected one of: action, source, started",
        ),
        ({"source": 7}, "body source: input should be a valid string"),
        (
            {"source": "x", "action": "requeu"},
            "body action: input should be 'fail' or 'requeue'; did you mean 'requeue'?",
        ),
        ({"sorce": 1, "action": 2}, "body source: it is missing (and 2 more)"),
        (
            {"source": "x", "so\ud800rce": 1},
            "body: input should be a valid string, unable to parse raw data as a unicode string",
        ),
        ([], "body: input should be a valid dictionary or object to extract fields from"),
    ],
)
def test_wrong_body_is_answered_with_the_name_of_the_field(safe: Web, order: object, detail: str) -> None:
    answer = safe.act(BEARER, order)
    assert (answer.status, answer.detail) == (422, detail)


def test_wrong_parameters_are_answered_with_their_names(safe: Web) -> None:
    assert safe.ask("GET", "/jobs?verdit=stale").detail == (
        "query verdit: there is no such field; did you mean 'verdict'?"
    )
    assert safe.ask("GET", "/jobs?verdict=stael").detail.endswith("did you mean 'stale'?")
    assert safe.ask("GET", "/jobs?limit=x").detail.startswith("query limit: input should be a valid integer")
    assert safe.ask("GET", "/big").detail == "query size: it is missing"


def test_body_that_is_not_json_is_answered_422(safe: Web) -> None:
    answer = safe.ask("POST", "/act", {**BEARER, "Content-Type": "application/json"}, b"{")
    assert answer.status == 422
    assert "this is no JSON" in answer.detail


def test_defect_is_logged_once_and_its_text_is_not_answered() -> None:
    with web() as served, capture_logs() as logs:
        for _ in range(3):
            answer = served.ask("GET", "/defect")
            assert answer.status == 500
            assert "secret" not in answer.detail
        [line] = [line for line in logs if line["event"] == "Reaper met a defect over HTTP."]
        assert str(line["exc_info"]) == "an inner secret"
        assert line["path"] == "/defect"


# --- headers -------------------------------------------------------------------------------------------------


def everything(served: Web) -> Iterator[Answer]:
    yield served.ask("GET", "/page")
    yield served.act(BEARER)
    yield served.act()
    yield served.ask("GET", "/nowhere")
    yield served.ask("GET", "/static/nowhere.js")
    yield served.ask("GET", "/defect")
    yield served.ask("GET", "/page", host="evil.example")
    yield served.act(BEARER, {})
    yield served.act({**BEARER, "Origin": "null"})
    yield served.raw(head("POST", "/act", {"Content-Length": "1000000", **BEARER}))
    yield served.raw(b"nonsense\r\n\r\n")


def test_answers_all_bear_the_security_headers(safe: Web) -> None:
    statuses = set()
    for answer in everything(safe):
        statuses.add(answer.status)
        for name, value in SECURITY_HEADERS:
            assert answer.headers[name.decode()] == [value.decode()]
        assert answer.headers["cache-control"] == ["no-store"]
        assert "server" not in answer.headers
        if answer.status >= 400:
            assert answer.detail
    assert statuses == {200, 400, 401, 403, 404, 413, 421, 422, 500}


def test_content_policy_allows_only_own_files(safe: Web) -> None:
    policy = dict(
        part.split(" ", 1) for part in safe.ask("GET", "/page").headers["content-security-policy"][0].split("; ")
    )
    assert policy.pop("default-src") == policy.pop("base-uri") == policy.pop("frame-ancestors") == "'none'"
    assert set(policy.values()) == {"'self'"}


def test_static_files_alone_may_be_cached(safe: Web) -> None:
    answer = safe.ask("GET", "/static/page.js")
    assert answer.headers["cache-control"] == ["max-age=3600"]
    assert answer.headers["x-content-type-options"] == ["nosniff"]


# --- what is logged of it -------------------------------------------------------------------------------------


def test_wrong_tokens_in_a_flood_fill_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_LOG_WINDOW_SECONDS", 1)
    with web({"alice": TOKEN}) as served, capture_logs() as logs:
        for n in range(30):
            served.act({"Authorization": f"Bearer guess-{n}"})
        refusals = [line for line in logs if line["event"] == "Reaper refused a request."]
        assert len(refusals) < 5
        wait_until(
            lambda: sum(line["attempts"] for line in logs if line.get("status") == 401) == 30,
            lambda: f"thirty attempts are logged: {logs}",
        )
        assert "guess" not in str(logs)
        [first, *_] = refusals
        assert (first["status"], first["method"], first["path"], first["log_level"]) == (401, "POST", "/act", "warning")
        assert first["remote"].startswith("127.0.0.1:")


def test_right_token_from_another_site_is_logged_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_LOG_WINDOW_SECONDS", 0.1)
    with web({"alice": TOKEN}) as served, capture_logs() as logs:
        assert served.act({**BEARER, "Origin": "http://evil.example"}).status == 403
        assert served.act({"Origin": "http://evil.example"}).status == 403
        wait_until(lambda: sum(line.get("attempts", 0) for line in logs) == 2, "two attempts are logged")
    assert [line.get("who") for line in logs] == ["alice", None]
    assert TOKEN not in str(logs)


def test_audit_record_is_logged_with_all_its_fields() -> None:
    with capture_logs() as logs:
        DaemonLog().changed(AuditRecord("alice", "127.0.0.1:5", "fail", "main 7", "moved", {"event": "x"}))
    assert logs == [
        {
            "event": "Reaper handled an administrative request.",
            "log_level": "warning",
            "who": "alice",
            "remote": "127.0.0.1:5",
            "action": "fail",
            "target": "main 7",
            "result": "moved",
            "details": {"event": "x"},
        }
    ]


def test_access_control_that_was_never_configured_has_no_token() -> None:
    assert not AccessControl().tokens


def test_body_that_is_announced_as_too_long_is_refused_before_any_of_it_comes() -> None:
    with web({"alice": TOKEN}) as served:
        begun = time.monotonic()
        headers = {**BEARER, "Content-Type": "application/json", "Content-Length": str(access.BODY_BYTES + 1)}
        assert served.raw(head("POST", "/act", headers)).status == 413
        assert time.monotonic() - begun < 5, "the daemon does not wait for it"

"""scripts/audit_locks.py against an OSV of the test's own. The shapes are those of https://google.github.io/osv.dev/api/."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import audit_locks
import pytest
from audit_locks import audit
from lock_files import Package, all_locks, read, without_duplicates

from tests.support.commands import PROJECT, environment

HELPER = Package("helper", "1.0", "", ("0" * 64,))
OTHER = Package("other-one", "2.0", "", ("0" * 64,))
RECORD: dict[str, Any] = {
    "id": "GHSA-aaaa-bbbb-cccc",
    "aliases": ["CVE-2026-1"],
    "summary": "helper runs what it is sent",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "Helper"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        },
        {"package": {"ecosystem": "npm", "name": "helper"}, "ranges": [{"type": "SEMVER", "events": [{"fixed": "7"}]}]},
    ],
}


class Osv:
    """`known` maps name and version of a package to the ids of its vulnerabilities; each id has a record, or none."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], list[str]] = {}
        self.records: dict[str, Any] = {RECORD["id"]: RECORD}
        self.page_size = 10
        self.answer: bytes | None = None
        self.asked: list[tuple[str, str]] = []
        self.url = ""

    def batch(self, queries: list[dict[str, Any]]) -> bytes:
        self.asked += [(query["package"]["name"], query["version"]) for query in queries]
        return json.dumps({"results": [self._result(query) for query in queries]}).encode()

    def _result(self, query: dict[str, Any]) -> dict[str, Any]:
        assert query["package"]["ecosystem"] == "PyPI"
        ids = self.known.get((query["package"]["name"], query["version"]), [])
        start = int(query.get("page_token", "0"))
        page = ids[start : start + self.page_size]
        result: dict[str, Any] = {"vulns": [{"id": each, "modified": "2026-01-01T00:00:00Z"} for each in page]}
        if len(ids) > start + self.page_size:
            result["next_page_token"] = str(start + self.page_size)
        return result if page else {}


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/querybatch"
            length = int(self.headers["Content-Length"])
            self._send(osv_of(self).batch(json.loads(self.rfile.read(length))["queries"]))

        def do_GET(self) -> None:
            record = osv_of(self).records.get(self.path.removeprefix("/v1/vulns/"))
            self.send_error(404) if record is None else self._send(json.dumps(record).encode())

        def _send(self, body: bytes) -> None:
            given = osv_of(self).answer
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body if given is None else given)

        def log_message(self, *_: object) -> None:
            pass

    def osv_of(handler: BaseHTTPRequestHandler) -> Osv:
        found = handler.server.osv  # type: ignore[attr-defined]
        assert isinstance(found, Osv)
        return found

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def osv(server: ThreadingHTTPServer) -> Osv:
    made = Osv()
    made.url = f"http://127.0.0.1:{server.server_port}"
    server.osv = made  # type: ignore[attr-defined]
    return made


def ran(osv_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "scripts/audit_locks.py"), "--osv", osv_url],
        env=environment({}), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_every_locked_version_is_asked_for(osv: Osv) -> None:
    done = ran(osv.url)
    assert (done.returncode, done.stderr) == (0, "")
    every = {(package.name, package.version) for path in all_locks() for package in read(path)}
    assert len(osv.asked) == len(every) and set(osv.asked) == every
    assert done.stdout == f"No vulnerability of the {len(every)} locked versions is known.\n"


def test_known_vulnerability_of_a_locked_version_fails_the_audit(osv: Osv) -> None:
    locked = read(all_locks()[-1])[0]
    osv.known[locked.name, locked.version] = [RECORD["id"]]
    done = ran(osv.url)
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"{locked.name} {locked.version}: GHSA-aaaa-bbbb-cccc CVE-2026-1: helper runs what it is sent; "
    )
    assert "scripts/renew_locks.py --upgrade" in done.stderr


@pytest.mark.parametrize("answer", [b"<html>log in first</html>", b"[]", b'{"results": []}', b'{"results": 7}'])
def test_answer_that_is_not_osvs_is_said_and_fails_nothing(osv: Osv, answer: bytes) -> None:
    osv.answer = answer
    findings, trouble = audit([HELPER], osv.url)
    assert findings == [] and trouble is not None and osv.url in trouble


def test_audit_that_cannot_ask_says_so_and_fails_nothing() -> None:
    done = ran("http://127.0.0.1:1")
    count = len(without_duplicates(package for path in all_locks() for package in read(path)))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        f"The {count} locked versions were NOT audited: http://127.0.0.1:1/v1/querybatch cannot"
    )


def test_finding_names_the_versions_of_that_package_which_are_fixed(osv: Osv) -> None:
    osv.known["helper", "1.0"] = [RECORD["id"]]
    [finding], trouble = audit([HELPER, OTHER], osv.url)
    assert (finding.package, finding.fixed_in, trouble) == (HELPER, ("1.1",), None)


def test_withdrawn_vulnerability_is_none(osv: Osv) -> None:
    osv.known["helper", "1.0"] = [RECORD["id"]]
    osv.records[RECORD["id"]] = {**RECORD, "withdrawn": "2026-02-01T00:00:00Z"}
    assert audit([HELPER], osv.url) == ([], None)


@pytest.mark.parametrize("name", ["GHSA-aaaa-bbbb-cccc", "CVE-2026-1"])
def test_accepted_vulnerability_is_none_under_each_of_its_names(osv: Osv, name: str) -> None:
    osv.known["helper", "1.0"] = [RECORD["id"]]
    assert audit([HELPER], osv.url, {name: "the reaper does not call it"}) == ([], None)
    assert len(audit([HELPER], osv.url, {"CVE-2026-2": "another one"})[0]) == 1


def test_vulnerability_without_a_readable_record_is_a_finding(osv: Osv) -> None:
    osv.known["helper", "1.0"] = ["GHSA-gone", "GHSA-odd"]
    osv.records["GHSA-odd"] = {"id": "GHSA-odd", "affected": [{"package": None}]}
    findings, trouble = audit([HELPER], osv.url)
    assert [finding.ids for finding in findings] == [("GHSA-gone",), ("GHSA-odd",)] and trouble is None
    assert all("its record cannot be read" in str(finding) for finding in findings)


def test_answers_in_pages_and_in_several_requests_are_read_to_the_end(
    osv: Osv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_locks, "_MAX_QUERIES", 1)
    osv.page_size = 1
    osv.known = {("helper", "1.0"): ["one", "two", "three"], ("other-one", "2.0"): ["four"]}
    findings, _ = audit([HELPER, OTHER], osv.url)
    assert sorted(finding.ids[0] for finding in findings) == ["four", "one", "three", "two"]


def test_findings_before_osv_fails_are_kept(osv: Osv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_locks, "_MAX_PAGES", 1)
    osv.page_size = 1
    osv.known["helper", "1.0"] = ["one", "two"]
    findings, trouble = audit([HELPER], osv.url)
    assert [finding.ids for finding in findings] == [("one",)] and trouble is not None

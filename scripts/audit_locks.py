"""Asks OSV (https://osv.dev) for known vulnerabilities of the locked versions.

Ends with 1 when one is known. Ends with 0 when OSV cannot be asked, and says that the versions were not audited.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from lock_files import Package, all_locks, read, without_duplicates
from packaging.utils import canonicalize_name

OSV = "https://api.osv.dev"
ACCEPTED: Mapping[str, str] = {}
"""Vulnerabilities that do not concern the reaper: the id, or an alias of it, and why."""

_SECONDS = 20.0
_MAX_BYTES = 16 * 1024 * 1024
_MAX_QUERIES = 1000  # of one request; OSV refuses more
_MAX_PAGES = 20


class _Unavailable(Exception):
    """OSV cannot be asked, or its answer cannot be read."""


@dataclass(frozen=True)
class Finding:
    package: Package
    ids: tuple[str, ...]
    summary: str
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        what = f"{self.package.name} {self.package.version}: {' '.join(self.ids)}"
        mend = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no version is known to be fixed"
        return f"{what}: {self.summary}; {mend}"


def audit(
    packages: Sequence[Package], osv: str = OSV, accepted: Mapping[str, str] = ACCEPTED
) -> tuple[list[Finding], str | None]:
    """The vulnerabilities that OSV knows of these packages, and why it could not be asked for all; None: it could."""
    findings = []
    trouble = None
    try:
        for package, vulnerability in _ids(packages, osv):
            finding = _finding(package, vulnerability, osv)
            if finding is not None and not accepted.keys() & {*finding.ids}:
                findings.append(finding)
    except _Unavailable as error:
        trouble = str(error)
    return findings, trouble


def _ids(packages: Sequence[Package], osv: str) -> Iterator[tuple[Package, str]]:
    """Each package with each of its vulnerabilities. An answer may come in pages, package by package."""
    queries = [(package, _query(package)) for package in packages]
    for _ in range(_MAX_PAGES):
        following = []
        for start in range(0, len(queries), _MAX_QUERIES):
            part = queries[start : start + _MAX_QUERIES]
            answer = _asked(f"{osv}/v1/querybatch", {"queries": [query for _, query in part]})
            try:
                for (package, query), result in zip(part, answer["results"], strict=True):
                    yield from ((package, str(vulnerability["id"])) for vulnerability in result.get("vulns", ()))
                    if token := result.get("next_page_token"):
                        following.append((package, {**query, "page_token": token}))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise _Unavailable(f"{osv} answers something unexpected: {error!r}") from error
        if not following:
            return
        queries = following
    raise _Unavailable(f"{osv} does not end its answer")


def _query(package: Package) -> dict[str, Any]:
    return {"package": {"ecosystem": "PyPI", "name": package.name}, "version": package.version}


def _finding(package: Package, vulnerability: str, osv: str) -> Finding | None:
    """None for a vulnerability that was withdrawn. One whose record cannot be read is a finding all the same."""
    try:
        record = _asked(f"{osv}/v1/vulns/{quote(vulnerability)}")
        if record.get("withdrawn"):
            return None
        ids = (vulnerability, *(alias for alias in record.get("aliases", ()) if alias != vulnerability))
        return Finding(package, ids, str(record.get("summary", "no summary")), tuple(_fixed(package, record)))
    except (_Unavailable, KeyError, TypeError, ValueError, AttributeError) as error:
        return Finding(package, (vulnerability,), f"its record cannot be read ({error!r})", ())


def _fixed(package: Package, record: dict[str, Any]) -> Iterator[str]:
    for affected in record["affected"]:
        named = affected["package"]
        if (named["ecosystem"], canonicalize_name(named["name"])) == ("PyPI", package.name):
            events = (event for span in affected.get("ranges", ()) if span["type"] != "GIT" for event in span["events"])
            yield from (event["fixed"] for event in events if "fixed" in event)


def _asked(url: str, body: object = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            read_bytes = answer.read(_MAX_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:  # URLError and HTTPError are OSErrors
        raise _Unavailable(f"{url} cannot be read: {error}") from error
    if len(read_bytes) > _MAX_BYTES:
        raise _Unavailable(f"{url} answers more than {_MAX_BYTES} bytes")
    try:
        document = json.loads(read_bytes)
    except ValueError as error:
        raise _Unavailable(f"{url} does not answer with JSON") from error
    if not isinstance(document, dict):
        raise _Unavailable(f"{url} does not answer with a JSON object")
    return document


def _lines(findings: Iterable[Finding]) -> Iterator[str]:
    yield from (str(finding) for finding in findings)
    yield "scripts/renew_locks.py --upgrade NAME takes a newer version. One that does not concern the reaper goes to"
    yield "ACCEPTED in scripts/audit_locks.py, with the reason."


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--osv", default=OSV, metavar="URL", help="where OSV is (default: %(default)s)")
    packages = without_duplicates(package for path in all_locks() for package in read(path))
    findings, trouble = audit(packages, parser.parse_args(words).osv)
    if findings:
        print("\n".join(_lines(findings)), file=sys.stderr)
    if trouble is not None:
        print(f"The {len(packages)} locked versions were NOT audited: {trouble}")
    elif not findings:
        print(f"No vulnerability of the {len(packages)} locked versions is known.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

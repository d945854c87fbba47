"""Helpers to run `reaper check` on a real MariaDB, and to execute what it prints."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import reaper
from reaper.check import Finding, examine
from reaper.model import SweepReport
from reaper.profile import Profile, resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.checks import PROTEA, STALL
from tests.support.mariadb import MariaDB
from tests.support.protea import PATIENCE, SweepRecorder, thresholds

numbers = itertools.count()

OWN_PROFILE: Mapping[str, Any] = {
    "jobs": {"table": "tasks", "key": "id", "started": "at", "running": {"column": "state", "in": ["working"]}},
    "actions": {"fail": {"set": {"state": "dead"}}},
}


@dataclass
class CheckedMariaDB:
    """A database with the tables of a shipped profile."""

    server: MariaDB
    name: str
    profile: Profile = PROTEA

    def do(self, *script: str) -> None:
        with self.server.connect(self.name) as connection, connection.cursor() as cursor:
            for statement in script:
                cursor.execute(statement)

    def query(self, question: str) -> list[tuple[Any, ...]]:
        with self.server.connect(self.name) as connection, connection.cursor() as cursor:
            cursor.execute(question)
            return list(cursor.fetchall())

    def source(self, user: str = "root", profile: Profile | None = None) -> Source:
        return Source("main", self.server.url(self.name, user), profile or self.profile, thresholds(), PATIENCE)

    def check(self, *script: str, user: str = "root", profile: Profile | None = None, **options: Any) -> list[Finding]:
        self.do(*script)
        source = self.source(user, profile)
        with source.connect(prepared=False) as connection:
            return examine(connection, source.configured_profile, STALL, **options)

    def apply_fix(self, finding: Finding) -> None:
        """Executes a printed statement as it is."""
        assert finding.fix is not None and finding.fix.endswith(";"), finding
        self.do(finding.fix)

    def create_user(self, *privileges: str) -> str:
        """A user with these privileges and no others."""
        name = f"guest{next(numbers)}"
        self.do(f"CREATE USER {name}@localhost", *(f"GRANT {what} TO {name}@localhost" for what in privileges))
        return name

    def sweep(self, user: str = "root") -> SweepReport:
        options = SweepOptions("test-host", 10, Breaker(50, 1.0))
        return sweep(self.source(user), DowntimeTracker(0), SourceState(), options, None, SweepRecorder())

    def stale(self) -> None:
        self.do(
            "INSERT INTO job (operation, queue_name, status, created_at, started_at)"
            " VALUES ('embed', 'q', 'running', utc_timestamp() - INTERVAL 9 HOUR, utc_timestamp() - INTERVAL 9 HOUR)"
        )


def tables_of(server: MariaDB, script: str) -> Iterator[CheckedMariaDB]:
    """A database with the tables of a shipped profile, for the time of a fixture."""
    name = f"check_{next(numbers)}"
    server.create_database(name, Path(reaper.__file__).parent / "profiles" / f"{script}.mariadb.sql")
    yield CheckedMariaDB(server, name, resolve(script))
    server.drop_database(name)


def finding_about(findings: list[Finding], words: str) -> Finding:
    """The only finding with these words."""
    (finding,) = [finding for finding in findings if words in finding.message]
    return finding

"""What tests of purges need: finished jobs, a database that deletes slowly, and a listener."""

from __future__ import annotations

from dataclasses import dataclass, field

from reaper.model import PurgeReport
from tests.support.protea import Protea

DAY = 86400.0
"""Seconds."""


@dataclass
class PurgeRecorder:
    """A listener that remembers."""

    batches: list[int] = field(default_factory=list)
    found: list[int | None] = field(default_factory=list)
    reports: list[PurgeReport] = field(default_factory=list)

    def purging(self, source: str, found: int | None) -> None:
        self.found.append(found)

    def purged(self, source: str, rows: int) -> None:
        self.batches.append(rows)

    def purge_ended(self, report: PurgeReport) -> None:
        self.reports.append(report)


def finished(protea: Protea, jobs: int = 1) -> None:
    for _ in range(jobs):
        protea.job(status="succeeded", finished=40 * DAY, age=41 * DAY)


def slow(protea: Protea, seconds: float) -> None:
    """Every deletion of jobs takes so long."""
    protea.connection.execute(
        f"CREATE FUNCTION slow_purge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({seconds});"
        " RETURN NULL; END $$; CREATE TRIGGER slow_purge BEFORE DELETE ON job FOR EACH STATEMENT"
        " EXECUTE FUNCTION slow_purge()"
    )

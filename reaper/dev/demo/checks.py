"""Reads the demo's jobs from the database, and checks at the end that each ended as it must."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import class_row

from reaper.dev.demo.scenarios import SCENARIOS, STALL, TIMEOUT, Ending, Scenario

_ROWS = """
    SELECT j.payload->>'part' AS part, j.status::text, j.error_code,
           extract(epoch FROM coalesce(j.finished_at, clock_timestamp()) - j.started_at)::float8 AS age,
           extract(epoch FROM clock_timestamp() - last.ts)::float8 AS silence,
           coalesce(reaps.evidence, '{}') AS evidence,
           coalesce(last.event = 'job.result_discarded', false) AS discarded
      FROM job j
      LEFT JOIN LATERAL (SELECT ts, event FROM job_event
                          WHERE job_id = j.id ORDER BY ts DESC, id DESC LIMIT 1) last ON true
      LEFT JOIN LATERAL (SELECT array_agg(fields) AS evidence FROM job_event
                          WHERE job_id = j.id AND event = 'job.timeout') reaps ON true
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One job in the database. `age` and `silence` are seconds; `silence` is by the job's own event rows."""

    part: str
    status: str
    error_code: str | None
    age: float | None
    silence: float | None
    evidence: list[Mapping[str, Any]] = field(default_factory=list)
    discarded: bool = False

    @property
    def finished(self) -> bool:
        return self.status not in ("queued", "running")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How the job of a scenario ended, and whether that is correct."""

    part: Scenario
    correct: bool
    ended: str
    why: str


def read_rows(connection: psycopg.Connection[Any]) -> dict[str, Row]:
    """The jobs by the names of their scenarios."""
    with connection.cursor(row_factory=class_row(Row)) as cursor:
        return {row.part: row for row in cursor.execute(_ROWS)}


def check_all(rows: Mapping[str, Row], spared: Mapping[str, str]) -> list[CheckResult]:
    """Check every scenario with a job. `spared`: why the daemon spared a job, by scenario."""
    return [_check(part, rows[part.name], spared.get(part.name)) for part in SCENARIOS if part.has_job]


def _check(part: Scenario, row: Row, spared: str | None) -> CheckResult:
    reaps = len(row.evidence)
    right = {
        Ending.IN_TIME: row.status == "succeeded" and reaps == 0,
        # A job that did not pass its timeout was not spared.
        Ending.SPARED: row.status == "succeeded" and reaps == 0 and (row.age or 0) > TIMEOUT,
        Ending.REAPED: row.status == "failed" and reaps == 1 and _is_sound(row),
        Ending.OVERWRITTEN: row.status == "succeeded" and reaps == 1 and _is_sound(row),
    }[part.ending]
    if part.behaviour == "late":
        right = right and row.discarded
    return CheckResult(part, right, _ended(row), _why(row, spared))


def _is_sound(row: Row) -> bool:
    """Whether the audit event has the evidence of a correct reap."""
    fields = row.evidence[0]
    old, silent = fields["age_seconds"] > TIMEOUT, fields["silence_seconds"] > STALL
    return bool(old and silent and row.error_code == fields["reason"] == "JobTimeout")


def _ended(row: Row) -> str:
    if not row.evidence:
        return f"spared, {row.status}" if (row.age or 0) > TIMEOUT else row.status
    if row.status == "failed":
        return f"reaped ({row.error_code})" if len(row.evidence) == 1 else f"reaped {len(row.evidence)} times"
    return f"reaped, now {row.status}"


def _why(row: Row, spared: str | None) -> str:
    if not row.evidence:
        return spared or f"ran {row.age or 0:.0f} s, timeout {TIMEOUT} s"
    fields = row.evidence[0]
    silence, stall = f"{fields['silence_seconds']:.0f} s", f"{fields['stall_seconds']:.0f} s"
    age, timeout = f"{fields['age_seconds']:.0f} s", f"{fields['timeout_seconds']:.0f} s"
    why = f"age {age} (timeout {timeout}), silent {silence} (stall {stall}), last sign: {fields['witness']}"
    if row.discarded:
        return f"{why}; its worker noticed, and discarded its result"
    if row.status != "failed":
        return f"{why}; the worker overwrote the result, as no fence is installed; the audit event remains"
    return why

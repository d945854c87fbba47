"""Clocks and time zones: only the database's moments decide, whatever the host's clock and the settings are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reaper.model import Outcome, Verdict
from tests.support.protea import HOUR, MINUTE, Protea, thresholds

FAKETIME = "*/faketime/libfaketime.so.1"


def populate(protea: Protea, now: datetime) -> dict[str, str]:
    """Jobs at fixed moments, with the status that each must get."""
    parent = "00000000-0000-0000-0000-000000000006"
    rows: list[tuple[str, float | None, float, float | None, str | None, str]] = [
        # started, created, last event (hours before `now`), parent, status afterwards
        ("00000000-0000-0000-0000-000000000001", 8.01, 9, 2.01, None, "failed"),
        ("00000000-0000-0000-0000-000000000002", 8.01, 9, 0.2, None, "running"),
        ("00000000-0000-0000-0000-000000000003", 5.5, 9, None, None, "running"),
        ("00000000-0000-0000-0000-000000000004", None, 6.51, None, None, "failed"),
        ("00000000-0000-0000-0000-000000000005", 6.51, 7, 0.76, None, "failed"),
        (parent, 30.01, 31, 20.01, None, "running"),
        ("00000000-0000-0000-0000-000000000007", 1.01, 2, None, parent, "running"),
        ("00000000-0000-0000-0000-000000000008", 12.51, 13, -1.0, None, "running"),
    ]
    for id, started, created, event, above, _ in rows:
        ages = [None if age is None else now - timedelta(hours=age) for age in (started, created)]
        protea.connection.execute(
            "INSERT INTO job (id, operation, queue_name, status, started_at, created_at, parent_job_id)"
            " VALUES (%s, 'x', 'q', 'running', %s, %s, %s)",
            (id, *ages, above),
        )
        if event is not None:
            protea.connection.execute(
                "INSERT INTO job_event (job_id, ts, event) VALUES (%s, %s, 'x')", (id, now - timedelta(hours=event))
            )
    return {row[0]: row[-1] for row in rows}


def texts(protea: Protea) -> dict[str, Any]:
    """What was written about each reaped job, without the values that differ from sweep to sweep."""
    rows = protea.connection.execute(
        "SELECT job_id::text, message, fields FROM job_event WHERE event = 'job.timeout' ORDER BY 1"
    ).fetchall()
    passing = {"age_seconds", "audible_since", "judged_at", "silence_seconds", "sweep_id", "host"}
    return {
        job: (message, {name: value for name, value in fields.items() if name not in passing})
        for job, message, fields in rows
    }


def expected_texts(now: datetime) -> dict[str, Any]:
    """Ages such as 8.01 h and 2.01 h: their texts say 8 h and 2 h for the next half a minute."""

    def utc(hours: float) -> str:
        return (now - timedelta(hours=hours)).astimezone(UTC).isoformat()

    def wrote(
        start: float, sign: float, silence: str, age: str, witness: str, column: str
    ) -> tuple[str, dict[str, Any]]:
        event = utc(sign) if witness == "job_event" else None
        return (
            f"No sign of life for {silence} (stall window 30m) after running for {age} (timeout 6h); "
            f"last sign of life at {utc(sign)[:19]}Z from {witness}.",
            {
                "started": utc(start), "started_from": column, "last_sign": utc(sign), "witness": witness,
                "signs": {"child job": None, "job_event": event}, "deaf_until": None,
                "timeout_seconds": 21600, "timeout_from": "default", "stall_seconds": 1800, "stall_from": "default",
                "reason": "JobTimeout", "source": "main",
            },
        )  # fmt: skip

    zeros = "00000000-0000-0000-0000-00000000000"
    return {
        f"{zeros}1": wrote(8.01, 2.01, "2h 0m", "8h 0m", "job_event", "started_at"),
        f"{zeros}4": wrote(6.51, 6.51, "6h 30m", "6h 30m", "start", "created_at"),
        f"{zeros}5": wrote(6.51, 0.76, "45m 36s", "6h 30m", "job_event", "started_at"),
    }


def without_seconds(found: dict[str, Any]) -> dict[str, Any]:
    """The message about job 5 has seconds, and some seconds have passed."""
    return {
        job: (" ".join(word for word in message.split() if not word.endswith("s")), fields)
        for job, (message, fields) in found.items()
    }


def check(protea: Protea, deserved: dict[str, str], now: datetime) -> None:
    assert protea.statuses() == deserved
    assert without_seconds(texts(protea)) == without_seconds(expected_texts(now))


# --- the host's clock --------------------------------------------------------------------------------------------

SWEEP = """
import json, sys, time
from tests.support.protea import Protea
began = time.time()
report = Protea(sys.argv[1], None).sweep()
print(json.dumps([report.outcome, report.reaped, report.error, began, report.duration_seconds]))
"""


def faketime() -> str:
    found = sorted(Path("/usr/lib").glob(FAKETIME))
    if not found:
        if os.environ.get("CI"):
            pytest.fail("libfaketime is not installed")
        pytest.skip("libfaketime is not installed")
    return str(found[0])


@pytest.mark.parametrize("wrong", [-7, *(pytest.param(hours, marks=pytest.mark.thorough) for hours in (7, 24 * 365))])
def test_host_clock_that_is_wrong_by_hours_changes_no_verdict(protea: Protea, wrong: int) -> None:
    now = protea.now().replace(microsecond=123456)
    deserved = populate(protea, now)
    environment = {**os.environ, "LD_PRELOAD": faketime(), "FAKETIME": f"{wrong:+d}h", "PYTHONPATH": str(Path.cwd())}
    ran = subprocess.run(
        [sys.executable, "-c", SWEEP, protea.url], env=environment, capture_output=True, text=True, check=True
    )
    outcome, reaped, error, began, duration = json.loads(ran.stdout)
    assert abs(began - time.time() - wrong * HOUR) < 10 * MINUTE, "the clock was not wrong at all"
    assert (outcome, reaped, error) == (Outcome.DONE, 3, None)
    assert 0 <= duration < 60
    check(protea, deserved, now)


# --- the session's notation --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        {"timezone": "Pacific/Chatham", "datestyle": "German"},
        {"timezone": "America/St_Johns", "datestyle": "SQL, DMY", "intervalstyle": "sql_standard"},
        {"timezone": "<-13>+13", "datestyle": "Postgres, MDY", "intervalstyle": "iso_8601"},
        {"extra_float_digits": "-15", "bytea_output": "escape", "standard_conforming_strings": "off"},
        {"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on"},
        {"client_encoding": "SQL_ASCII"},
        {"client_encoding": "LATIN1", "quote_all_identifiers": "on", "array_nulls": "off"},
        {"enable_seqscan": "off", "jit": "on", "jit_above_cost": "0", "plan_cache_mode": "force_generic_plan"},
    ],
    ids=lambda odd: " ".join(odd),
)
def test_database_settings_change_no_verdict_and_no_text(protea: Protea, odd: dict[str, str]) -> None:
    now = protea.now().replace(microsecond=123456)
    deserved = populate(protea, now)
    for name, value in odd.items():
        protea.connection.execute(
            f"ALTER DATABASE {protea.connection.info.dbname} SET {name} = '{value}'".encode()
            if name != "datestyle"
            else f"ALTER DATABASE {protea.connection.info.dbname} SET datestyle = {value}".encode()
        )
    spared = {job: protea.judge(job) for job, status in deserved.items() if status == "running"}
    assert all(str(evidence.started).endswith("+00:00") for evidence in spared.values())
    assert {evidence.timeout_seconds for evidence in spared.values()} == {6 * HOUR}
    report = protea.sweep()
    assert (report.outcome, report.error, report.reaped) == (Outcome.DONE, None, 3)
    check(protea, deserved, now)


def test_role_settings_change_no_verdict_and_no_text(protea: Protea) -> None:
    now = protea.now().replace(microsecond=123456)
    deserved = populate(protea, now)
    name = protea.connection.info.dbname
    protea.connection.execute(f"ALTER ROLE postgres IN DATABASE {name} SET timezone = 'Asia/Kathmandu'".encode())
    protea.connection.execute(f"ALTER ROLE postgres IN DATABASE {name} SET datestyle = German".encode())
    assert protea.sweep().reaped == 3
    check(protea, deserved, now)


# --- daylight saving ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),  # 2 h becomes 1 h
        ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),  # 2 h becomes 3 h
        ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),  # by half an hour
        ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ],
)
def test_daylight_saving_changes_make_no_job_older_or_younger(protea: Protea, zone: str, change: datetime) -> None:
    # A job that starts and writes before the change by the wall clock of its database, and is judged after it.
    protea.connection.execute(f"ALTER DATABASE {protea.connection.info.dbname} SET timezone = '{zone}'".encode())
    protea.connection.execute(f"SET timezone = '{zone}'".encode())
    started, wrote = change - timedelta(minutes=50), change - timedelta(minutes=20)
    local = protea.connection.execute(
        "SELECT %s::timestamptz::text, %s::timestamptz::text", (started, wrote)
    ).fetchone()
    assert local is not None
    job = protea.job()
    protea.connection.execute("UPDATE job SET started_at = %s::timestamptz WHERE id = %s", (local[0], job))
    protea.connection.execute(
        "INSERT INTO job_event (job_id, ts, event) VALUES (%s, %s::timestamptz, 'x')", (job, local[1])
    )
    limits = thresholds(timeout=90 * MINUTE, stall=70 * MINUTE)
    for later, verdict in (
        (timedelta(minutes=39), Verdict.YOUNG),
        (timedelta(minutes=41), Verdict.SPARED),
        (timedelta(minutes=49), Verdict.SPARED),
        (timedelta(minutes=51), Verdict.STALE),
    ):
        source = protea.as_of(change + later, limits)
        evidence = protea.judge(job, source)
        assert evidence.verdict is verdict
        assert (evidence.started, evidence.last_sign) == (started.isoformat(), wrote.isoformat())
        assert protea.sweep(source).reaped == int(verdict is Verdict.STALE)
    [event] = protea.audits(job)
    assert event["fields"]["started"] == started.isoformat()
    assert f"last sign of life at {wrote.isoformat()[:19]}Z" in event["message"]

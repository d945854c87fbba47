"""Looking up jobs: by keys of any type, filtered, with their evidence and their audit trail."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DataError

from reaper.model import Evidence, KindThresholds, Outcome, ServerClock, Threshold, Thresholds, Verdict
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from tests.support.protea import HOUR, MINUTE, PATIENCE, Protea, SweepRecorder, thresholds


@contextmanager
def reading(source: Source) -> Iterator[tuple[Connection, EvaluationContext]]:
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            yield connection, context


# --- find --------------------------------------------------------------------------------------------------------


def test_job_is_found_by_its_key_in_any_spelling(protea: Protea) -> None:
    job, source = protea.job(), protea.source()
    with reading(source) as (connection, _):
        for spelling in (job, job.upper(), job.replace("-", ""), "{" + job + "}"):
            assert source.lookup.find(connection, [spelling]) == (job,)
        assert source.lookup.find(connection, [str(uuid.uuid4())]) is None


@pytest.mark.parametrize("key", ["", "17", "not-a-uuid", "' OR true --", "null"])
def test_key_of_the_wrong_type_is_refused_by_the_database(protea: Protea, key: str) -> None:
    protea.job()
    source = protea.source()
    with pytest.raises(DataError), reading(source) as (connection, _):
        source.lookup.find(connection, [key])


# --- keys --------------------------------------------------------------------------------------------------------


def test_running_jobs_are_listed_oldest_first_by_verdict_and_kind(protea: Protea) -> None:
    old = protea.stale(age=20 * HOUR)
    alive = protea.job(age=10 * HOUR, operation="predict")
    protea.event(alive)
    null = protea.job(age=None, created=9 * HOUR, operation="predict")
    young = protea.job(age=HOUR)
    protea.stale(status="succeeded")
    source = protea.source()
    with reading(source) as (connection, context):

        def keys(verdict: Verdict | None = None, kind: str | None = None, limit: int = 100) -> list[str]:
            found = source.lookup.list_keys(connection, context, verdict=verdict, kind=kind, limit=limit)
            return [key for (key,) in found]

        assert keys() == [old, alive, null, young]
        assert keys(limit=2) == [old, alive]
        assert keys(Verdict.STALE) == [old, null]
        assert keys(Verdict.SPARED) == [alive]
        assert keys(Verdict.YOUNG) == [young]
        assert keys(Verdict.ENDED) == []
        assert keys(kind="predict") == [alive, null]
        assert keys(Verdict.STALE, "predict") == [null]
        assert keys(kind="' OR true --") == []


# --- evidence ----------------------------------------------------------------------------------------------------


def test_evidence_comes_in_the_order_of_the_keys_without_missing_jobs(protea: Protea) -> None:
    jobs = [protea.job(age=age * HOUR) for age in (3, 1, 2)]
    source = protea.source()
    with reading(source) as (connection, context):
        asked = [(jobs[2],), (str(uuid.uuid4()),), (jobs[0],), (jobs[1],)]
        found = source.lookup.evidence(connection, context, asked)
        assert [evidence.key for evidence in found] == [(jobs[2],), (jobs[0],), (jobs[1],)]
        assert source.lookup.evidence(connection, context, []) == []


def test_ended_job_is_explained_too(protea: Protea) -> None:
    job = protea.stale()
    assert protea.sweep().reaped == 1
    evidence = protea.judge(job)
    assert (evidence.verdict, evidence.status, evidence.stale_in_seconds) == (Verdict.ENDED, "failed", None)
    assert evidence.kind == "embed"
    waiting = protea.judge(protea.job(age=None, created=HOUR, status="queued"))
    assert (waiting.verdict, waiting.status, waiting.started_from) == (Verdict.ENDED, "queued", "created_at")


def test_audit_trail_is_read_newest_first(protea: Protea) -> None:
    job, source = protea.stale(), protea.source()
    other = protea.stale()
    sweeps = [protea.sweep().sweep_id]
    for _ in range(2):
        # An operator sends it round again, and it dies again.
        protea.connection.execute(
            "UPDATE job_event SET ts = ts - interval '9 h' WHERE job_id = %s AND event = 'job.timeout'", (job,)
        )
        protea.connection.execute("UPDATE job SET status = 'running' WHERE id = %s", (job,))
        sweeps.append(protea.sweep().sweep_id)
    with reading(source) as (connection, _):
        reaped_keys = source.lookup.audits(connection, (job,))
        assert [audit["sweep_id"] for audit in reaped_keys] == sweeps[::-1]
        assert len(source.lookup.audits(connection, (other,))) == 1
        assert source.lookup.audits(connection, (protea.job(),)) == []


# --- when it would become stale ----------------------------------------------------------------------------------


def near(seconds: float | None, expected: float) -> bool:
    """The rows are a moment older when they are judged than when they were made."""
    return seconds is not None and expected - 20 <= seconds <= expected + 1


@pytest.mark.parametrize(
    ("age", "silence", "expected"),
    [
        (HOUR, HOUR, 5 * HOUR),  # silent for long, and young
        (HOUR, 0, 5 * HOUR),
        (7 * HOUR, 10 * MINUTE, 20 * MINUTE),  # past, and heard
        (5.9 * HOUR, 0, 30 * MINUTE),  # both are to come: the later counts
        (7 * HOUR, -HOUR, 30 * MINUTE),  # a sign in the future counts from when it was first seen: just now
    ],
)
def test_evidence_says_when_a_silent_job_would_become_stale(
    protea: Protea, age: float, silence: float, expected: float
) -> None:
    job = protea.job(age=age)
    protea.event(job, age=silence)
    assert near(protea.judge(job).stale_in_seconds, expected)


def test_stale_job_has_no_time_left(protea: Protea) -> None:
    evidence = protea.judge(protea.stale())
    assert (evidence.verdict, evidence.stale_in_seconds) == (Verdict.STALE, None)


def listening(protea: Protea, *ups: tuple[float, float], allowance: float) -> DowntimeTracker:
    """A tracker with contacts at these ages and an outage between each two; the server started long before."""
    now, tick = protea.now(), 0.0
    downtime = DowntimeTracker(allowance, lambda: tick)
    first = ups[0][0]
    for number, (begin, end) in enumerate(ups):
        for age in (begin, end):
            tick = first - age
            downtime.record_contact(ServerClock(now - timedelta(seconds=age), datetime(2020, 1, 1, tzinfo=UTC)))
        if number < len(ups) - 1:
            downtime.record_failure()
    return downtime


class SourceOfPastContacts(Source):
    """A source that judges by the contacts so far, without one of its own."""

    def begin_evaluation(self, connection: Connection, downtime: DowntimeTracker) -> EvaluationContext:
        return EvaluationContext.of(downtime, self.thresholds)


def judge(protea: Protea, job: str, downtime: DowntimeTracker) -> Evidence:
    return protea.judge(
        job, SourceOfPastContacts("main", protea.url, resolve("protea"), thresholds(), PATIENCE), downtime
    )


def test_downtime_is_added_to_the_time_left(protea: Protea) -> None:
    # Away for 40 of the last 50 minutes: only 10 of the 50 silent minutes were audible.
    downtime = listening(protea, (10 * HOUR, 50 * MINUTE), (10 * MINUTE, 0), allowance=0)
    job = protea.job()
    protea.event(job, age=50 * MINUTE)
    evidence = judge(protea, job, downtime)
    assert evidence.verdict is Verdict.SPARED
    assert evidence.stale_in_seconds is not None
    assert 20 * MINUTE - 20 <= evidence.stale_in_seconds <= 20 * MINUTE + 1
    recent = protea.job()
    protea.event(recent, age=5 * MINUTE)
    left = judge(protea, recent, downtime).stale_in_seconds
    assert left is not None and 25 * MINUTE - 20 <= left <= 65 * MINUTE + 1


def test_whole_stall_window_is_left_when_the_last_sign_does_not_count(protea: Protea) -> None:
    now = protea.now()
    downtime = DowntimeTracker(60)
    downtime.record_contact(ServerClock(now, now - timedelta(minutes=11)))
    ancient = protea.job(age=100 * HOUR)
    evidence = judge(protea, ancient, downtime)
    assert evidence.verdict is Verdict.SPARED
    assert evidence.audible_since is None
    assert evidence.deaf_until is not None
    assert datetime.fromisoformat(evidence.deaf_until) == now - timedelta(minutes=10)
    assert near(evidence.stale_in_seconds, 20 * MINUTE)
    protea.event(ancient, age=5 * MINUTE)
    assert near(judge(protea, ancient, downtime).stale_in_seconds, 25 * MINUTE)


def test_whole_stall_window_is_left_during_the_grace(protea: Protea) -> None:
    now = protea.now()
    downtime = DowntimeTracker(600)
    downtime.record_contact(ServerClock(now, now))
    evidence = judge(protea, protea.stale(), downtime)
    assert evidence.verdict is Verdict.SPARED
    assert evidence.stale_in_seconds is not None
    assert 30 * MINUTE - 20 <= evidence.stale_in_seconds <= 40 * MINUTE


# --- keys of any type --------------------------------------------------------------------------------------------

ODD_TEXTS = (
    "plain",
    "",
    " ",
    "NULL",
    "null",
    'double"quote',
    "single'quote",
    "comma,comma",
    "back\\slash\\\\",
    "{braces}",
    "(parens)",
    "ünïcödé ☃ \U0001f480",
    "line\nbreak\ttab",
    "%s %(x)s :x ?",
    "a" * 3000,
)


def keyed(width: int) -> dict[str, Any]:
    """A profile for tables `k_job` and `k_event` with so many key columns."""
    key, job, parent = ([f"{letter}{n}" for n in range(width)] for letter in "kjp")
    return {
        "jobs": {
            "table": "k_job",
            "key": key,
            "kind": "kind",
            "started": ["started"],
            "claim": ["worker"],
            "running": {"column": "state", "in": ["running"]},
        },
        "alive": [
            {"witness": "events", "events": {"table": "k_event", "job": job, "at": "at"}},
            {"witness": "children", "children": {"parent": parent, "at": ["started"]}},
            {"witness": "heartbeat", "column": "beat"},
        ],
        "actions": {
            "fail": {
                "set": {"state": "failed", "note": {"is": "message"}},
                "also": [
                    {
                        "insert": "k_event",
                        "values": {
                            **{name: {"column": copied} for name, copied in zip(job, key, strict=True)},
                            "at": {"is": "now"},
                            "what": "reaped",
                            "evidence": {"is": "evidence"},
                        },
                    }
                ],
            }
        },
    }  # fmt: skip


class KeyedTables:
    """Tables with keys of the given types. Every job is 8 h old."""

    def __init__(self, protea: Protea, types: Sequence[str]) -> None:
        self.protea, self.width = protea, len(types)
        columns = ", ".join(f"k{n} {kind} NOT NULL" for n, kind in enumerate(types))
        parents = ", ".join(f"p{n} {kind}" for n, kind in enumerate(types))
        jobs = ", ".join(f"j{n} {kind}" for n, kind in enumerate(types))
        key = ", ".join(f"k{n}" for n in range(self.width))
        self._run(f"CREATE TABLE k_job ({columns}, {parents}, kind text, state text, started timestamptz,"
                  f" beat timestamptz, worker int, note text, PRIMARY KEY ({key}))")  # fmt: skip
        self._run(f"CREATE TABLE k_event ({jobs}, at timestamptz, what text, evidence jsonb)")

    def _run(self, statement: str, values: Sequence[Any] = ()) -> None:
        self.protea.connection.execute(statement.encode(), values or None)

    def job(self, key: Sequence[Any], *, beat: float | None = None, parent: Sequence[Any] | None = None) -> None:
        values = [*key, *(parent or [None] * self.width), beat]
        self._run(
            f"INSERT INTO k_job VALUES ({', '.join(['%s'] * 2 * self.width)}, 'x', 'running',"
            " now() - interval '8 h', now() - make_interval(secs => %s), 7, NULL)",
            values,
        )

    def event(self, key: Sequence[Any]) -> None:
        self._run(f"INSERT INTO k_event VALUES ({', '.join(['%s'] * self.width)}, now(), 'progress')", key)

    def source(self, limits: Thresholds | None = None) -> Source:
        profile = resolve("keyed", {"keyed": keyed(self.width)})
        return Source("main", self.protea.url, profile, limits or thresholds(), PATIENCE)

    def failed(self) -> set[tuple[str, ...]]:
        texts = ", ".join(f"k{n}::text" for n in range(self.width))
        rows = self.protea.connection.execute(f"SELECT {texts} FROM k_job WHERE state = 'failed'".encode())
        return set(rows.fetchall())

    def audited(self) -> list[tuple[str, ...]]:
        texts = ", ".join(f"j{n}::text" for n in range(self.width))
        rows = self.protea.connection.execute(f"SELECT {texts} FROM k_event WHERE what = 'reaped'".encode())
        return rows.fetchall()


@pytest.mark.parametrize(
    ("types", "keys"),
    [
        (["bigint"], [(n,) for n in (-(2**63), -1, 0, 1, 17, 2**63 - 1)]),
        (["text"], [(text,) for text in ODD_TEXTS]),
        (["text", "text"], [(a, b) for a in ("", "NULL", "a,b", 'q"') for b in ("", "NULL", "\\", "{x}")]),
        (["bigint", "uuid"], [(n, str(uuid.UUID(int=m))) for n in (1, 2) for m in (1, 2)]),
        (["timestamptz", "text"], [(f"2026-11-01 0{n}:30:00.123456+00", "é") for n in range(4)]),
        (["numeric"], [("1.50",), ("-0.001",), ("12345678901234567890.5",), ("NaN",)]),
        (["bytea"], [(b"\x00\\\xff",), (b"",), (b"abc",), (b"'",)]),
        (["char(5)"], [("ab",), ("abcde",), ("a b",), ("é",)]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value[0], str) else "",
)
def test_keys_of_any_type_are_read_and_bound_unchanged(
    protea: Protea, types: list[str], keys: list[tuple[Any, ...]]
) -> None:
    tables = KeyedTables(protea, types)
    for key in keys:
        tables.job(key)
    spared, stale = keys[0], keys[1:]
    tables.event(spared)
    source, recorder = tables.source(), SweepRecorder()
    report = protea.sweep(source, recorder=recorder, batch_size=3)
    assert (report.outcome, report.reaped, report.lost, report.locked_total) == (Outcome.DONE, len(stale), 0, 0)
    reaped_keys = {reaped.key for reaped in recorder.reaped_jobs}
    assert len(reaped_keys) == len(stale)
    assert reaped_keys == tables.failed() == set(tables.audited())
    assert len(tables.audited()) == len(stale)
    with reading(source) as (connection, context):
        for key in reaped_keys:
            assert source.lookup.find(connection, key) == key
            [audit] = source.lookup.audits(connection, key)
            assert audit["witness"] == "start"
        judged = source.lookup.evidence(connection, context, sorted(reaped_keys))
        assert [evidence.key for evidence in judged] == sorted(reaped_keys)
        [left] = source.lookup.list_keys(connection, context, verdict=None, kind=None, limit=10)
    [evidence] = report.newly_spared
    assert evidence.key == left
    assert evidence.witness == "events"


def test_keys_of_two_columns_are_not_mixed_up(protea: Protea) -> None:
    tables = KeyedTables(protea, ["text", "bigint"])
    for key in (("a", 1), ("a", 2), ("b", 1), ("b", 2)):
        tables.job(key)
    tables.event(("a", 2))
    tables.event(("b", 1))
    assert protea.sweep(tables.source()).reaped == 2
    assert tables.failed() == {("a", "1"), ("b", "2")}


def test_heartbeat_and_child_are_signs_of_life_with_any_key(protea: Protea) -> None:
    tables = KeyedTables(protea, ["text", "bigint"])
    tables.job(("beats", 1), beat=MINUTE)
    tables.job(("beat once", 1), beat=HOUR)
    tables.job(("parent", 1))
    tables.job(("child", 1), beat=MINUTE, parent=("parent", 1))
    tables.job(("parent", 2))
    tables.job(("its own", 1), parent=("its own", 1))
    report = protea.sweep(tables.source())
    assert tables.failed() == {("beat once", "1"), ("parent", "2"), ("its own", "1")}
    assert {evidence.key: evidence.witness for evidence in report.newly_spared} == {
        ("beats", "1"): "heartbeat",
        ("parent", "1"): "children",
        ("child", "1"): "heartbeat",
    }


def test_claim_column_that_changed_since_the_survey_spares_the_job(protea: Protea) -> None:
    tables = KeyedTables(protea, ["bigint"])
    tables.job((1,))
    tables.job((2,))

    class ReclaimAfterSurvey(SweepRecorder):
        def surveyed(self, source: str, census: Any) -> None:
            with psycopg.connect(protea.libpq) as connection:
                connection.execute("UPDATE k_job SET worker = NULL WHERE k0 = 1")

    report = protea.sweep(tables.source(), recorder=ReclaimAfterSurvey())
    assert (report.reaped, report.lost) == (1, 1)
    assert tables.failed() == {("2",)}


def test_kind_thresholds_apply_in_any_table(protea: Protea) -> None:
    tables = KeyedTables(protea, ["bigint"])
    tables.job((1,))
    own = {"x": KindThresholds(timeout=Threshold(9 * HOUR, "the file"))}
    assert protea.sweep(tables.source(thresholds(kinds=own))).reaped == 0
    assert protea.sweep(tables.source()).reaped == 1

"""One sweep of one database: living jobs are spared, silent ones are ended once, and the evidence says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from reaper.model import JobCounts, KindThresholds, Outcome, Threshold, Verdict
from reaper.source import with_stale
from tests.support.protea import HOUR, MINUTE, Protea, SweepRecorder, thresholds


def limits(timeout: float | None = None, stall: float | None = None, origin: str = "the file") -> KindThresholds:
    return KindThresholds(
        Threshold(timeout, origin) if timeout is not None else None,
        Threshold(stall, origin) if stall is not None else None,
    )


@dataclass
class HookedRecorder(SweepRecorder):
    """A listener that lets something happen between the survey and the first lock."""

    happens: Callable[[], object] = lambda: None

    def surveyed(self, source: str, census: JobCounts) -> None:
        super().surveyed(source, census)
        self.happens()


# --- the two thresholds ------------------------------------------------------------------------------------------


def test_silent_job_past_its_timeout_is_failed_with_evidence(protea: Protea) -> None:
    job = protea.stale()
    report = protea.sweep()
    assert (report.outcome, report.reaped) == (Outcome.DONE, 1)
    row = protea.row(job)
    assert (row["status"], row["error_code"]) == ("failed", "JobTimeout")
    assert row["finished_at"] is not None
    assert row["error_message"].startswith("No sign of life for 2h 0m (stall window 30m) after running for 8h 0m")
    [event] = protea.audits(job)
    assert (event["level"], event["message"]) == ("error", row["error_message"])
    assert event["fields"]["sweep_id"] == report.sweep_id
    assert event["fields"]["witness"] == "job_event"


def test_stale_job_is_past_both_thresholds(protea: Protea) -> None:
    stale = protea.job(age=6 * HOUR + 5)
    protea.event(stale, age=30 * MINUTE + 5)
    silent_and_young = protea.job(age=6 * HOUR - 30)
    old_and_alive = protea.job(age=50 * HOUR)
    protea.event(old_and_alive, age=30 * MINUTE - 30)
    report = protea.sweep()
    assert protea.statuses() == {stale: "failed", silent_and_young: "running", old_and_alive: "running"}
    assert report.census is not None
    assert (report.census.running, report.census.past_timeout, report.census.stale, report.census.spared) == (
        3,
        2,
        1,
        1,
    )


def test_threshold_that_is_just_reached_is_not_passed(protea: Protea) -> None:
    now = protea.now()
    for start, sign, verdict in (
        (timedelta(hours=6), timedelta(hours=1), Verdict.YOUNG),
        (timedelta(hours=6, microseconds=1), timedelta(minutes=30), Verdict.SPARED),
        (timedelta(hours=6, microseconds=1), timedelta(minutes=30, microseconds=1), Verdict.STALE),
    ):
        job = protea.job()
        protea.connection.execute("UPDATE job SET started_at = %s WHERE id = %s", (now - start, job))
        protea.connection.execute("INSERT INTO job_event (job_id, ts, event) VALUES (%s, %s, 'x')", (job, now - sign))
        assert protea.judge(job, protea.as_of(now)).verdict is verdict
        protea.sweep(protea.as_of(now))
        assert protea.status(job) == ("failed" if verdict is Verdict.STALE else "running")


def test_timeout_that_goes_back_further_than_dates_do_is_never_passed(protea: Protea) -> None:
    job = protea.stale()
    report = protea.sweep(protea.source(thresholds(timeout=1e12)))
    assert (report.outcome, protea.status(job)) == (Outcome.DONE, "running")
    assert report.census is not None and report.census.past_timeout == 0


def test_census_counts_no_fewer_jobs_past_their_timeout_than_are_stale() -> None:
    """Both are counted by statements of their own, and jobs may pass their timeout between the two."""
    census = with_stale(JobCounts(3, 1, 0, None), 2)
    assert (census.running, census.past_timeout, census.stale, census.spared) == (3, 2, 2, 0)


def test_only_running_jobs_are_ended(protea: Protea) -> None:
    jobs = {protea.stale(status=status): status for status in ("queued", "succeeded", "failed", "cancelled")}
    before = protea.dump()
    report = protea.sweep()
    assert report.reaped == 0 and protea.dump() == before
    assert protea.statuses() == jobs


def test_start_is_a_sign_of_life(protea: Protea) -> None:
    job = protea.job(age=3 * HOUR)
    report = protea.sweep(protea.source(thresholds(timeout=2 * HOUR, stall=4 * HOUR)))
    assert (protea.status(job), report.lost) == ("running", 0)
    protea.sweep(protea.source(thresholds(timeout=2 * HOUR, stall=2 * HOUR)))
    assert protea.status(job) == "failed"
    [event] = protea.audits(job)
    assert (event["fields"]["witness"], event["fields"]["silence_seconds"]) == (
        "start",
        event["fields"]["age_seconds"],
    )


def test_kinds_have_their_own_thresholds_and_the_source_has_the_rest(protea: Protea) -> None:
    kinds = {
        "slow": limits(timeout=48 * HOUR),
        "quiet": limits(stall=3 * HOUR),
        "quick": limits(timeout=10 * MINUTE, stall=MINUTE),
        'o\'brien\\ %s :x "{}" é': limits(timeout=48 * HOUR),
    }
    jobs = {kind: protea.stale(operation=kind) for kind in (*kinds, "other", "Slow")}
    young = protea.job(age=11 * MINUTE, operation="quick")
    protea.sweep(protea.source(thresholds(kinds=kinds)))
    assert {kind: protea.status(job) for kind, job in jobs.items()} == {
        "slow": "running",
        "quiet": "running",
        "quick": "failed",
        'o\'brien\\ %s :x "{}" é': "running",
        "other": "failed",
        "Slow": "failed",
    }
    assert protea.status(young) == "failed"


def test_audit_event_names_the_origin_of_each_threshold(protea: Protea) -> None:
    mixed, plain = protea.stale(operation="mixed"), protea.stale()
    kinds = {"mixed": limits(timeout=HOUR, origin="reaper.toml:12")}
    protea.sweep(protea.source(thresholds(kinds=kinds)))
    [event] = protea.audits(mixed)
    assert (event["fields"]["timeout_seconds"], event["fields"]["timeout_from"]) == (3600, "reaper.toml:12")
    assert (event["fields"]["stall_seconds"], event["fields"]["stall_from"]) == (1800, "default")
    assert "(timeout 1h)" in event["message"] and "(stall window 30m)" in event["message"]
    [event] = protea.audits(plain)
    assert (event["fields"]["timeout_seconds"], event["fields"]["timeout_from"]) == (21600, "default")


# --- signs of life -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["progress", "child.done", "child.progress", "anything at all"])
def test_recent_event_of_any_type_spares_the_job(protea: Protea, event: str) -> None:
    job = protea.job()
    protea.event(job, age=29 * MINUTE, event=event)
    report = protea.sweep()
    assert protea.status(job) == "running"
    assert report.census is not None and report.census.spared == 1


def test_newest_event_counts_in_whatever_order_they_were_written(protea: Protea) -> None:
    job = protea.job()
    for age in (5 * HOUR, 10 * MINUTE, 4 * HOUR, 3 * HOUR):
        protea.event(job, age=age)
    protea.sweep()
    assert protea.status(job) == "running"


def test_events_of_another_job_do_not_count(protea: Protea) -> None:
    job, other = protea.job(), protea.job()
    protea.event(other, age=0)
    protea.sweep()
    assert (protea.status(job), protea.status(other)) == ("failed", "running")


def test_sign_in_the_future_is_a_sign_of_life(protea: Protea) -> None:
    job, endless = protea.job(), protea.job()
    protea.event(job, age=-3 * HOUR)
    protea.connection.execute(
        "INSERT INTO job_event (job_id, ts, event) VALUES (%s, 'infinity', 'x'), (%s, '-infinity', 'x')",
        (endless, endless),
    )
    protea.sweep()
    assert (protea.status(job), protea.status(endless)) == ("running", "running")
    for ahead, written in ((job, "20"), (endless, "infinity")):
        evidence = protea.judge(ahead)
        assert (evidence.future_sign or "").startswith(written)
        assert evidence.silence_seconds == pytest.approx(0, abs=30), "nothing remembers when it was first seen"


# --- children --------------------------------------------------------------------------------------------------


def test_children_are_signs_of_life_while_they_run_and_when_they_begin_and_end(protea: Protea) -> None:
    lately, earlier, long_ago = 29 * MINUTE, 31 * MINUTE, 5 * HOUR
    alive, dead = Verdict.SPARED, Verdict.STALE
    cases: list[tuple[dict[str, Any], Verdict]] = [
        ({"status": "running", "age": long_ago}, alive),
        ({"status": "running", "age": 100 * HOUR}, alive),
        ({"status": "running", "age": None, "created": long_ago}, alive),
        ({"status": "succeeded", "age": long_ago, "finished": lately}, alive),
        ({"status": "failed", "age": long_ago, "finished": lately}, alive),
        ({"status": "cancelled", "age": None, "created": long_ago, "finished": lately}, alive),
        ({"status": "queued", "age": None, "created": lately}, alive),
        ({"status": "queued", "age": lately, "created": long_ago}, alive),
        ({"status": "queued", "age": None, "created": earlier}, dead),
        ({"status": "queued", "age": earlier, "created": long_ago}, dead),
        ({"status": "succeeded", "age": long_ago, "finished": earlier}, dead),
        ({"status": "failed", "age": long_ago, "finished": None}, dead),
    ]
    deserved = {}
    for child, verdict in cases:
        parent = protea.stale()
        protea.job(parent=parent, status="succeeded", age=long_ago, finished=long_ago)
        protea.job(parent=parent, **child)
        deserved[parent] = verdict
    assert {parent: protea.judge(parent).verdict for parent in deserved} == deserved
    protea.sweep()
    assert {parent: protea.status(parent) for parent in deserved} == {
        parent: "running" if verdict is alive else "failed" for parent, verdict in deserved.items()
    }


def test_child_that_is_ended_by_a_sweep_spares_its_parent_for_another_stall_window(protea: Protea) -> None:
    parent = protea.stale()
    child = protea.stale(parent=parent)
    first = protea.sweep()
    assert (protea.status(parent), protea.status(child), first.reaped) == ("running", "failed", 1)
    assert protea.sweep().reaped == 0
    assert protea.judge(parent).witness == "child job"
    protea.connection.execute("UPDATE job SET finished_at = now() - interval '31 min' WHERE id = %s", (child,))
    protea.sweep()
    assert protea.status(parent) == "failed"


def test_job_that_is_its_own_parent_does_not_keep_itself_alive(protea: Protea) -> None:
    job = protea.stale()
    protea.connection.execute("UPDATE job SET parent_job_id = id WHERE id = %s", (job,))
    protea.sweep()
    assert protea.status(job) == "failed"


def test_parents_are_no_signs_of_life_of_their_children(protea: Protea) -> None:
    parent = protea.job(age=HOUR)
    protea.event(parent, age=0)
    child = protea.stale(parent=parent)
    protea.sweep()
    assert (protea.status(parent), protea.status(child)) == ("running", "failed")


# --- odd starts --------------------------------------------------------------------------------------------------


def test_null_start_falls_back_to_the_creation(protea: Protea) -> None:
    job = protea.job(age=None, created=7 * HOUR)
    fresh = protea.job(age=None, created=5 * HOUR)
    report = protea.sweep()
    assert (protea.status(job), protea.status(fresh), report.reaped) == ("failed", "running", 1)
    [event] = protea.audits(job)
    assert event["fields"]["started_from"] == "created_at"


def test_start_comes_before_the_creation(protea: Protea) -> None:
    job = protea.job(age=HOUR, created=50 * HOUR)
    assert protea.judge(job).started_from == "started_at"
    assert protea.sweep().reaped == 0


def test_job_without_any_start_is_not_ended_before_it_was_seen(protea: Protea) -> None:
    protea.connection.execute("ALTER TABLE job ALTER created_at DROP NOT NULL")
    job = protea.job(age=None)
    protea.connection.execute("UPDATE job SET created_at = NULL")
    assert protea.sweep().reaped == 0
    evidence = protea.judge(job)
    assert (evidence.verdict, evidence.started, evidence.stale_in_seconds) == (Verdict.YOUNG, None, None)


def test_start_at_infinity_is_never_past(protea: Protea) -> None:
    job = protea.job()
    protea.connection.execute("UPDATE job SET started_at = 'infinity'")
    report = protea.sweep()
    assert (report.outcome, protea.status(job)) == (Outcome.DONE, "running")
    evidence = protea.judge(job)
    assert (evidence.verdict, evidence.age_seconds, evidence.stale_in_seconds) == (Verdict.YOUNG, None, None)


@pytest.mark.parametrize("start", ["-infinity", "4713-01-01 BC", "0001-01-01 00:00:00+00"])
def test_start_before_all_time_is_none_so_that_the_creation_counts(protea: Protea, start: str) -> None:
    silent, alive, newborn = protea.job(), protea.job(), protea.job(created=5)
    protea.connection.execute("UPDATE job SET started_at = %s::timestamptz", (start,))
    protea.event(alive, age=MINUTE)
    report = protea.sweep()
    assert (report.outcome, protea.status(silent), protea.status(alive)) == (Outcome.DONE, "failed", "running")
    assert protea.status(newborn) == "running"
    [event] = protea.audits(silent)
    assert event["fields"]["started_from"] == "created_at"


# --- what a reap writes ------------------------------------------------------------------------------------------


def test_audit_event_holds_all_of_the_evidence(protea: Protea) -> None:
    parent = protea.job(age=8 * HOUR + 15, created=9 * HOUR)
    protea.event(parent, age=3 * HOUR)
    protea.job(parent=parent, status="succeeded", age=5 * HOUR, finished=2 * HOUR + 15)
    recorder = SweepRecorder()
    report = protea.sweep(recorder=recorder)
    [event], row = protea.audits(parent), protea.row(parent)
    fields = event["fields"]
    assert set(fields) == {
        "age_seconds", "audible_since", "deaf_until", "host", "judged_at", "last_sign", "reason", "signs",
        "silence_seconds", "source", "stall_from", "stall_seconds", "started", "started_from", "sweep_id",
        "timeout_from", "timeout_seconds", "witness",
    }  # fmt: skip
    assert datetime.fromisoformat(fields["started"]) == row["started_at"]
    assert fields["started_from"] == "started_at"
    assert fields["witness"] == "child job"
    assert set(fields["signs"]) == {"job_event", "child job"}
    assert fields["signs"]["child job"] == fields["last_sign"] > fields["signs"]["job_event"]
    assert 8 * HOUR + 15 <= fields["age_seconds"] < 8 * HOUR + 75
    assert 2 * HOUR + 15 <= fields["silence_seconds"] < 2 * HOUR + 75
    assert (fields["timeout_seconds"], fields["timeout_from"]) == (21600, "default")
    assert (fields["stall_seconds"], fields["stall_from"]) == (1800, "default")
    assert (fields["reason"], fields["source"], fields["host"]) == ("JobTimeout", "main", "test-host")
    assert fields["sweep_id"] == report.sweep_id
    assert fields["deaf_until"] is None
    assert datetime.fromisoformat(fields["last_sign"]) < datetime.fromisoformat(fields["audible_since"])
    for name in ("started", "last_sign", "judged_at", "audible_since"):
        assert fields[name].endswith("+00:00")

    assert datetime.fromisoformat(fields["judged_at"]) == row["finished_at"] == event["ts"]
    assert (event["event"], event["level"]) == ("job.timeout", "error")
    assert event["message"] == row["error_message"] == (
        "No sign of life for 2h 0m (stall window 30m) after running for 8h 0m (timeout 6h); "
        f"last sign of life at {fields['last_sign'][:19]}Z from child job."
    )  # fmt: skip
    [reaped_job] = recorder.reaped_jobs
    assert reaped_job.key == (parent,)
    assert (reaped_job.reason, reaped_job.kind, reaped_job.witness) == ("JobTimeout", "embed", "child job")
    assert (reaped_job.age_seconds, reaped_job.silence_seconds) == (fields["age_seconds"], fields["silence_seconds"])


def test_columns_that_the_transition_does_not_name_stay(protea: Protea) -> None:
    job = protea.stale()
    before = protea.row(job)
    protea.sweep()
    after = protea.row(job)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"status", "finished_at", "error_code", "error_message"}


def test_second_sweep_finds_nothing_to_do(protea: Protea) -> None:
    jobs = [protea.stale() for _ in range(3)]
    assert protea.sweep().reaped == 3
    after = protea.dump()
    assert protea.sweep().reaped == 0
    assert protea.dump() == after
    assert all(len(protea.audits(job)) == 1 for job in jobs)


# --- batches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 10, 1000])
def test_batches_of_any_size_end_all_of_them(protea: Protea, batch_size: int) -> None:
    stale = {protea.stale() for _ in range(10)}
    alive = protea.job(age=HOUR)
    recorder = SweepRecorder()
    report = protea.sweep(batch_size=batch_size, recorder=recorder)
    assert (report.outcome, report.reaped, report.lost, report.locked_total) == (Outcome.DONE, 10, 0, 0)
    assert {job for job, status in protea.statuses().items() if status == "failed"} == stale
    assert protea.status(alive) == "running"
    assert {reaped_job.key for reaped_job in recorder.reaped_jobs} == {(job,) for job in stale}
    assert all(len(protea.audits(job)) == 1 for job in stale)
    assert 0 < report.longest_transaction_seconds <= report.duration_seconds


def test_stopped_sweep_leaves_whole_batches(protea: Protea) -> None:
    for _ in range(10):
        protea.stale()
    asked = iter([False, False, True])
    report = protea.sweep(batch_size=3, stopping=lambda: next(asked))
    assert (report.outcome, report.reaped) == (Outcome.STOPPED, 6)
    failed = [job for job, status in protea.statuses().items() if status == "failed"]
    assert len(failed) == 6
    assert all(len(protea.audits(job)) == 1 for job in failed)
    assert protea.sweep().reaped == 4


# --- between the survey and the lock -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE job SET status = 'succeeded', finished_at = now()",
        "UPDATE job SET status = 'queued', started_at = NULL",
        "UPDATE job SET started_at = now()",
        "UPDATE job SET started_at = started_at - interval '1 microsecond'",
        "INSERT INTO job_event (job_id, event) SELECT id, 'progress' FROM job",
        "INSERT INTO job (operation, queue_name, status, parent_job_id) SELECT 'x', 'q', 'queued', id FROM job",
        "DELETE FROM job",
    ],
)
def test_job_that_moves_between_survey_and_lock_is_lost_not_ended(protea: Protea, change: str) -> None:
    job = protea.stale()
    report = protea.sweep(recorder=HookedRecorder(happens=lambda: protea.connection.execute(change)))
    assert (report.outcome, report.reaped, report.lost, report.locked_total) == (Outcome.DONE, 0, 1, 0)
    assert report.census is not None and report.census.stale == 1
    assert not protea.audits(job)
    assert "failed" not in protea.statuses().values()


def test_job_that_becomes_of_a_slower_kind_is_lost_too(protea: Protea) -> None:
    job = protea.stale()
    source = protea.source(thresholds(kinds={"slow": limits(timeout=48 * HOUR)}))
    slower = HookedRecorder(happens=lambda: protea.connection.execute("UPDATE job SET operation = 'slow'"))
    report = protea.sweep(source, recorder=slower)
    assert (report.reaped, report.lost, protea.status(job)) == (0, 1, "running")


def test_only_jobs_that_moved_are_lost(protea: Protea) -> None:
    jobs = [protea.stale() for _ in range(6)]
    report = protea.sweep(recorder=HookedRecorder(happens=lambda: protea.event(jobs[2])), batch_size=2)
    assert (report.reaped, report.lost) == (5, 1)
    assert protea.status(jobs[2]) == "running"

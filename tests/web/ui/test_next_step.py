"""What the page says of a job's next step and of the daemon as a whole, from values alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.memory import HaltRecord
from reaper.model import Evidence, JobCounts, LockHolder, Outcome, SweepReport, Verdict
from reaper.scheduling.scheduler import State
from reaper.sweep.breaker import Breaker
from reaper.web.read_cache import TooManyReaders
from reaper.web.service import SourceStatus
from reaper.web.ui.formatting import visible
from reaper.web.ui.headline import headline, status_strip
from reaper.web.ui.next_step import SourceView
from reaper.web.ui.source_rows import source_row
from tests.support.protea import HOUR, MINUTE

EVIDENCE = Evidence(
    key=("7",), kind="embed", status="running", verdict=Verdict.STALE, started="2026-01-01T00:00:00+00:00",
    started_from="started_at", last_sign=None, witness="start", age_seconds=8 * HOUR, silence_seconds=2 * HOUR,
    timeout_seconds=6 * HOUR, timeout_from="default", stall_seconds=30 * MINUTE, stall_from="default",
    audible_since=None, deaf_until=None, judged_at=None,
)  # fmt: skip
STATUS = SourceStatus("main", "protea", (), None, False, 34.0, 26.0, None)
EXPECTING = SourceView(STATUS, State.RUNNING, None, Breaker(50, 0.5), "fail", JobCounts(9, 2, 1, None))
SWEPT = SweepReport("main", "1", Outcome.DONE, 0.1, leads=True)
STANDBY = SweepReport("main", "1", Outcome.STANDBY, 0.1)
SPARED = replace(EVIDENCE, verdict=Verdict.SPARED, stale_in_seconds=12 * MINUTE, silence_seconds=MINUTE)


@pytest.mark.parametrize(
    ("expecting", "job", "tone", "sentence"),
    [
        (EXPECTING, EVIDENCE, "soon", "ended by the next sweep, in 34s"),
        (replace(EXPECTING, status=replace(STATUS, next_seconds=-2.0)), EVIDENCE, "soon", "which is due"),
        (replace(EXPECTING, status=replace(STATUS, sweeping=True)), EVIDENCE, "soon", "a sweep works now"),
        (replace(EXPECTING, action="requeue_else_fail"), EVIDENCE, "soon", "(action requeue_else_fail), in 34s"),
        (
            replace(EXPECTING, action="delete_remote_else_complete"),
            replace(EVIDENCE, action="delete"),
            "soon",
            "(action delete), in 34s",
        ),
        (replace(EXPECTING, halted=HaltRecord("ada")), EVIDENCE, "held", "halted by ada"),
        (replace(EXPECTING, state=State.FINISHED), EVIDENCE, "held", "the schedule has ended"),
        (
            replace(EXPECTING, state=None, status=replace(STATUS, next_seconds=None)),
            EVIDENCE,
            "held",
            "no schedule",
        ),
        (replace(EXPECTING, census=JobCounts(90, 80, 60, None)), EVIDENCE, "held", "held by the breaker"),
        (replace(EXPECTING, held_back=JobCounts(90, 80, 60, None)), EVIDENCE, "held", "held by the breaker"),
        (replace(EXPECTING, status=replace(STATUS, report=STANDBY)), EVIDENCE, "soon", "if it is not halted"),
        (
            replace(EXPECTING, halted=HaltRecord("ada"), status=replace(STATUS, report=STANDBY)),
            EVIDENCE,
            "soon",
            "another replica holds the lease: it ends it if it is not halted",
        ),
        (
            replace(EXPECTING, refusal=lambda key: "no,\nnever" if key == ("7",) else None),
            EVIDENCE,
            "held",
            r"refused by the database: no,\nnever; tried again later",
        ),
        (
            replace(EXPECTING, holders={("7",): LockHolder(12, "psql", "eve", "idle", None, 3.0)}),
            EVIDENCE,
            "alive",
            "its row is locked by process 12 (psql, user eve, idle)",
        ),
        (EXPECTING, SPARED, "alive", "stale in 12m if it shows no further sign of life"),
        (
            EXPECTING,
            replace(SPARED, unknown="the broker is away", silence_seconds=HOUR),
            "wait",
            "unknown is not dead: it is left alone until it is known whether it is alive; stale in 12m",
        ),
        (EXPECTING, replace(EVIDENCE, verdict=Verdict.ENDED), "alive", "it does not run"),
    ],
)
def test_next_step_is_what_the_daemon_will_do(expecting: SourceView, job: Evidence, tone: str, sentence: str) -> None:
    found = expecting.next_step(job)
    assert (found.tone, sentence in found.text) == (tone, True), found


def test_standby_says_that_only_the_holder_of_the_lease_ends_jobs() -> None:
    standby = replace(EXPECTING, status=replace(STATUS, report=STANDBY))
    sentence = headline([source_row(standby, None)], [standby], None, State.RUNNING)
    assert sentence.detail == "Another replica holds the lease; it ends it if it is not halted."
    halted = replace(standby, halted=HaltRecord("ada"))
    sentence = headline([source_row(halted, None)], [halted], HaltRecord("ada"), State.HALTED)
    assert sentence.title == "Halted by ada"
    assert sentence.detail.endswith(
        "This halt does not reach the replica that holds the lease of main: halt that one too."
    )
    assert "nothing is ended until" not in sentence.detail
    alone = headline([source_row(EXPECTING, None)], [EXPECTING], HaltRecord("ada"), State.HALTED)
    assert alone.detail == "Sweeps only look: 1 job is stuck, and nothing is ended until a restart."


def test_database_is_called_away_only_when_it_cannot_be_reached() -> None:
    calm = replace(EXPECTING, census=JobCounts(9, 0, 0, None), status=replace(STATUS, report=SWEPT))
    for trouble, cell, title in (
        (None, "reachable", "Nothing is stuck"),
        (TooManyReaders(), "not read", "main could not be read just now"),
        (ReaperError("permission denied for table job"), "not read", "main could not be read just now"),
        (DatabaseUnavailable("connection refused"), "away", "The database is away"),
    ):
        row = source_row(calm, trouble)
        shown = {each.name: each.value for each in status_strip([row], State.RUNNING, 0, more=False)}
        assert shown["Database"] == cell
        assert headline([row], [calm], None, State.RUNNING).title == title
    assert (
        headline([source_row(EXPECTING, TooManyReaders())], [EXPECTING], None, State.RUNNING).title == "1 job is stuck"
    )


def test_late_signs_are_counted_as_far_as_they_are_remembered() -> None:
    counted = [
        status_strip([], State.RUNNING, late, more=more)[-1].value
        for late, more in ((0, False), (7, False), (100, True))
    ]
    assert counted == ["0", "7", "100+"]


NAMES = ["run\n1", "run\\n1", "run\\\\n1", "run\\\n1", "a\x00", "a\\x00", "a\u202e", "a\\u202e", "App\\Jobs\\Load", "é"]


def test_names_that_differ_look_different() -> None:
    shown = [visible(name) for name in NAMES]
    assert len(set(shown)) == len(NAMES) and all(each.isprintable() for each in shown)
    assert shown[0] == r"run\n1" and shown[-2] == r"App\Jobs\Load", "a backslash alone is no riddle"

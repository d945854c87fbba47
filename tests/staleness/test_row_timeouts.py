"""Timeouts and stall windows in a job's own row: what they mean, on both servers, in every shape of the rule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from reaper.model import KindThresholds, Threshold, Verdict
from reaper.profile import Profile
from reaper.sweep.source_state import SourceState
from tests.support.protea import HOUR, MINUTE, SweepRecorder, thresholds
from tests.support.tasks import Tasks, before, mapped, tasks_in
from tests.support.worlds.servers import database_on

STALE, SPARED, YOUNG = Verdict.STALE, Verdict.SPARED, Verdict.YOUNG


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        yield made


def limited(unit: str = "s", **changes: Any) -> Profile:
    return mapped(limits={"timeout": {"column": "run_limit", "unit": unit}}, **changes)


def test_timeout_of_a_row_counts_when_positive_and_is_none_when_zero_negative_or_null(tasks: Tasks) -> None:
    expected = {
        tasks.add(1, age=8 * HOUR, run_limit=None): STALE,
        tasks.add(2, age=5 * HOUR, run_limit=None): YOUNG,
        tasks.add(3, age=8 * HOUR, run_limit=0): STALE,
        tasks.add(4, age=5 * HOUR, run_limit=0): YOUNG,
        tasks.add(5, age=8 * HOUR, run_limit=-1): STALE,
        tasks.add(6, age=5 * HOUR, run_limit=-1): YOUNG,
        tasks.add(7, age=5 * HOUR, run_limit=3600): STALE,
        tasks.add(8, age=5 * HOUR, run_limit=0.001): STALE,
        tasks.add(9, age=40 * MINUTE, run_limit=3600, beat=None): YOUNG,
        tasks.add(10, age=8 * HOUR, run_limit=36_000): YOUNG,
        tasks.add(11, age=5 * HOUR, run_limit=3600, beat=MINUTE): SPARED,
        tasks.add(12, age=8 * HOUR, run_limit=0, beat=MINUTE): SPARED,
        tasks.add(13, age=5 * HOUR, run_limit=3600, state="over"): Verdict.ENDED,
    }
    source = tasks.source(limited())
    assert tasks.verdicts(source) == expected
    recorder = SweepRecorder()
    report = tasks.sweep(source, recorder=recorder)
    stale = {key for key, verdict in expected.items() if verdict is STALE}
    assert (report.error, report.failures, report.reaped) == (None, (), len(stale))
    assert {job.key[0] for job in recorder.reaped_jobs} == stale
    assert {key for key, state in tasks.states().items() if state == "dead"} == stale


def test_age_that_is_asked_for_passes_shorter_timeouts_of_rows_and_kinds_and_no_longer_ones(tasks: Tasks) -> None:
    """As `cleanup --older-than 2h` does: the limit of the row, else of the kind, if it is longer."""
    kinds = {"slow": KindThresholds(Threshold(9 * HOUR, "kind")), "fast": KindThresholds(Threshold(60, "kind"))}
    limits = thresholds(kinds=kinds).at_least(Threshold(2 * HOUR, "asked"), Threshold(HOUR, "asked"))
    expected = {
        tasks.add(1, age=3 * HOUR, run_limit=None): STALE,
        tasks.add(2, age=3 * HOUR, run_limit=4 * 3600): YOUNG,
        tasks.add(3, age=5 * HOUR, run_limit=4 * 3600): STALE,
        tasks.add(4, age=90 * MINUTE, run_limit=60): YOUNG,
        tasks.add(5, age=3 * HOUR, run_limit=60): STALE,
        tasks.add(6, age=3 * HOUR, run_limit=60, kind="slow"): YOUNG,
        tasks.add(7, age=5 * HOUR, run_limit=4 * 3600, kind="slow"): STALE,
        tasks.add(8, age=90 * MINUTE, run_limit=None, kind="fast"): YOUNG,
        tasks.add(9, age=3 * HOUR, run_limit=None, kind="fast"): STALE,
    }
    assert tasks.verdicts(tasks.source(limited(), limits)) == expected


@pytest.mark.parametrize(
    ("unit", "seconds"), [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)], ids=lambda value: str(value)
)
def test_timeout_of_a_row_is_in_its_profiles_unit(tasks: Tasks, unit: str, seconds: float) -> None:
    limit = 0.5 * HOUR / seconds
    longer, shorter = tasks.add(1, age=31 * MINUTE, beat=None), tasks.add(2, age=29 * MINUTE, beat=None)
    tasks.session.do("UPDATE task SET run_limit = %s", limit)
    source = tasks.source(limited(unit), thresholds(stall=MINUTE))
    assert tasks.verdicts(source) == {longer: STALE, shorter: YOUNG}
    explained = tasks.explained(longer, source=source)[longer]
    assert explained.timeout_seconds == pytest.approx(0.5 * HOUR)
    assert explained.timeout_from == "column run_limit"


def test_timeout_of_a_row_that_is_just_reached_is_not_passed(tasks: Tasks) -> None:
    now = tasks.now()
    for number, age in enumerate((3599.999, 3600.0, 3600.001), 1):
        tasks.add(number, run_limit=3600)
        tasks.started_at(number, before(now, age))
    assert tasks.verdicts(tasks.as_of(now, limited())) == {"1": YOUNG, "2": YOUNG, "3": STALE}


def test_timeout_of_a_row_comes_before_its_kinds_and_that_before_the_sources(tasks: Tasks) -> None:
    kinds = {"slow": KindThresholds(timeout=Threshold(10 * HOUR, "kind slow"))}
    expected = {
        tasks.add(1, kind="slow", run_limit=3600): STALE,
        tasks.add(2, kind="slow", run_limit=0): YOUNG,
        tasks.add(3, kind="slow", run_limit=-1): YOUNG,
        tasks.add(4, kind="slow"): YOUNG,
        tasks.add(5, kind="slow", age=11 * HOUR, run_limit=0): STALE,
        tasks.add(6, kind="other", run_limit=0): STALE,
        tasks.add(7, kind="slow", age=11 * HOUR, run_limit=12 * HOUR): YOUNG,
        tasks.add(8, kind=None, run_limit=0): STALE,
    }
    source = tasks.source(limited(), thresholds(kinds=kinds))
    assert tasks.verdicts(source) == expected
    places = {key: evidence.timeout_from for key, evidence in tasks.explained(*expected, source=source).items()}
    assert places == {
        **dict.fromkeys(("1", "7"), "column run_limit"),
        **dict.fromkeys(("2", "3", "4", "5"), "kind slow"),
        **dict.fromkeys(("6", "8"), "default"),
    }


@pytest.mark.parametrize(
    ("limit", "seconds", "place", "words"),
    [
        (5400, 5400, "column run_limit", "(timeout 1h 30m)"),
        (0, 6 * HOUR, "default", "(timeout 6h)"),
        (-1, 6 * HOUR, "default", "(timeout 6h)"),
        (None, 6 * HOUR, "default", "(timeout 6h)"),
    ],
)
def test_timeout_of_a_row_is_named_with_its_place_in_evidence_and_message(
    tasks: Tasks, limit: int | None, seconds: float, place: str, words: str
) -> None:
    tasks.add(1, run_limit=limit)
    source = tasks.source(limited())
    explained = tasks.explained("1", source=source)["1"]
    assert (explained.timeout_seconds, explained.timeout_from) == (seconds, place)
    assert tasks.sweep(source).reaped == 1
    said = tasks.said(1)
    assert (said["timeout_seconds"], said["timeout_from"]) == (seconds, place)
    assert words in tasks.column("note", 1)


def test_timeout_of_a_row_counts_from_the_start_that_the_job_has(tasks: Tasks) -> None:
    expected = {
        tasks.add(1, age=None, made=2 * HOUR, beat=None, run_limit=3600): STALE,
        tasks.add(2, age=None, made=40 * MINUTE, beat=None, run_limit=3600): YOUNG,
        tasks.add(3, age=40 * MINUTE, made=2 * HOUR, beat=None, run_limit=3600): YOUNG,
        tasks.add(4, age=None, made=2 * HOUR, beat=None, run_limit=0): YOUNG,
    }
    assert tasks.verdicts(tasks.source(limited())) == expected


@pytest.mark.parametrize("limit", [3600, 0, None])
def test_start_before_all_time_is_none_to_the_timeout_of_its_row_too(tasks: Tasks, limit: int | None) -> None:
    tasks.add(1, run_limit=limit)
    tasks.add(2, run_limit=limit, made=5)
    tasks.session.do(
        "UPDATE task SET started = '0001-01-01 00:00:00'" if tasks.mariadb else "UPDATE task SET started = '-infinity'"
    )
    source = tasks.source(limited())
    assert tasks.verdicts(source) == {"1": STALE, "2": YOUNG}
    assert tasks.sweep(source).reaped == 1


def test_interval_is_a_timeout_whatever_the_unit(tasks: Tasks) -> None:
    """On MariaDB, a time of day."""
    tasks.session.do(f"ALTER TABLE task ADD run_for {'time' if tasks.mariadb else 'interval'}")
    longest = "838:59:59" if tasks.mariadb else "1000000 years"
    limits = {1: "01:00:00", 2: "03:00:00", 3: "00:00:00", 4: "-01:00:00", 5: longest, 6: None}
    for number, limit in limits.items():
        tasks.add(number, age=2 * HOUR, run_for=limit)
    tasks.add(7, age=8 * HOUR, run_for="00:00:00")
    source = tasks.source(mapped(limits={"timeout": {"column": "run_for", "unit": "h"}}))
    assert tasks.verdicts(source) == {**dict.fromkeys("23456", YOUNG), "1": STALE, "7": STALE}
    explained = tasks.explained("1", source=source)["1"]
    assert (explained.timeout_seconds, explained.timeout_from) == (HOUR, "column run_for")
    report = tasks.sweep(source)
    assert (report.error, report.reaped) == (None, 2)
    assert "(timeout 1h 0m)" in tasks.column("note", 1)


def test_timeout_of_a_row_that_says_none_does_not_make_the_job_overdue_for_ever(tasks: Tasks) -> None:
    tasks.add(1, age=9 * HOUR, run_limit=0)
    tasks.add(2, age=5 * HOUR, run_limit=10 * HOUR)
    census = tasks.sweep(tasks.source(limited())).census
    assert census is not None and census.past_timeout == 1
    assert census.most_overdue == pytest.approx(1.5, abs=0.01)


def test_job_that_lives_past_the_timeout_of_its_row_is_reported_once(tasks: Tasks) -> None:
    tasks.add(1, age=2 * HOUR, beat=MINUTE, run_limit=3600)
    tasks.add(2, age=2 * HOUR, beat=MINUTE, run_limit=0)
    memory, source = SourceState(), tasks.source(limited())
    report = tasks.sweep(source, memory=memory)
    assert [evidence.key for evidence in report.newly_spared] == [("1",)]
    assert tasks.sweep(source, memory=memory).newly_spared == ()


# --- other columns of a row ------------------------------------------------------------------------------------


def test_heartbeat_saves_its_job_until_it_is_older_than_the_stall_window(tasks: Tasks) -> None:
    now = tasks.now()
    for number, silence in enumerate((1799.999, 1800.0, 1800.001), 1):
        tasks.add(number)
        tasks.beat_at(number, before(now, silence))
    tasks.add(4, beat=None)
    tasks.add(5, beat=-HOUR)
    verdicts = tasks.verdicts(tasks.as_of(now))
    assert verdicts == {"1": SPARED, "2": SPARED, "3": STALE, "4": STALE, "5": SPARED}


def test_deadline_in_the_future_is_life_now_and_one_that_has_passed_is_no_more(tasks: Tasks) -> None:
    source = tasks.source(mapped(alive=[{"witness": "deadline", "deadline": "due"}]))
    expected = {
        tasks.add(1, due=-10 * HOUR): SPARED,
        tasks.add(2, due=29 * MINUTE): SPARED,
        tasks.add(3, due=31 * MINUTE): STALE,
        tasks.add(4, due=None): STALE,
    }
    assert tasks.verdicts(source) == expected
    explained = tasks.explained(*expected, source=source)
    silence = {key: evidence.silence_seconds for key, evidence in explained.items()}
    # It says until when a job may be silent, which is no sign from the future.
    assert silence["1"] == pytest.approx(0, abs=60)
    assert silence["3"] == pytest.approx(31 * MINUTE, abs=60)
    assert silence["4"] == pytest.approx(8 * HOUR, abs=60)
    assert [explained[key].witness for key in expected] == ["deadline", "deadline", "deadline", "start"]


# --- stall windows of rows ---------------------------------------------------------------------------------------


def quieted(tasks: Tasks, unit: str = "s", **changes: Any) -> Profile:
    """The profile where a column has the stall window of each task."""
    tasks.session.do("ALTER TABLE task ADD quiet_limit numeric(12, 3)")
    return mapped(limits={"stall": {"column": "quiet_limit", "unit": unit}}, **changes)


def test_stall_window_of_a_row_counts_when_positive_and_comes_before_its_kinds_and_the_sources(tasks: Tasks) -> None:
    profile = quieted(tasks)
    kinds = {"slow": KindThresholds(stall=Threshold(4 * HOUR, "kind slow"))}
    expected = {
        tasks.add(1, quiet_limit=None): STALE,
        tasks.add(2, quiet_limit=0): STALE,
        tasks.add(3, quiet_limit=-1): STALE,
        tasks.add(4, quiet_limit=3 * 3600): SPARED,
        tasks.add(5, quiet_limit=3600): STALE,
        tasks.add(6, beat=20 * MINUTE, quiet_limit=None): SPARED,
        tasks.add(7, beat=20 * MINUTE, quiet_limit=600): STALE,
        tasks.add(8, beat=20 * MINUTE, quiet_limit=600, age=5 * HOUR): YOUNG,
        tasks.add(9, kind="slow", quiet_limit=0): SPARED,
        tasks.add(10, kind="slow", quiet_limit=3600): STALE,
        tasks.add(11, kind="slow", beat=5 * HOUR, quiet_limit=None): STALE,
        tasks.add(12, kind="slow", beat=5 * HOUR, quiet_limit=6 * 3600): SPARED,
        tasks.add(13, beat=None, age=7 * HOUR, quiet_limit=7.5 * 3600): SPARED,
    }
    plain = {key: verdict for key, verdict in expected.items() if key not in ("9", "10", "11", "12")}
    assert plain.items() <= tasks.verdicts(tasks.source(profile)).items()
    source = tasks.source(profile, thresholds(kinds=kinds))
    assert tasks.verdicts(source) == expected
    recorder = SweepRecorder()
    report = tasks.sweep(source, recorder=recorder)
    stale = {key for key, verdict in expected.items() if verdict is STALE}
    assert (report.error, report.failures, report.reaped) == (None, (), len(stale))
    assert {key for key, state in tasks.states().items() if state == "dead"} == stale


def test_stall_window_of_a_row_holds_for_signs_in_other_tables(tasks: Tasks) -> None:
    tasks.session.do(f"CREATE TABLE pulse (task_id integer, at {'datetime(6)' if tasks.mariadb else 'timestamptz'})")
    events = {"table": "pulse", "job": "task_id", "at": "at"}
    profile = quieted(tasks, "m", alive=[{"witness": "pulse", "events": events}])
    expected = {}
    for number, (ago, limit, verdict) in enumerate(
        [
            (20 * MINUTE, None, SPARED),
            (20 * MINUTE, 10, STALE),
            (2 * HOUR, None, STALE),
            (2 * HOUR, 180, SPARED),
            (None, 60, STALE),
            (None, 540, SPARED),
        ],
        1,
    ):
        expected[tasks.add(number, quiet_limit=limit)] = verdict
        if ago is not None:
            tasks.session.do(f"INSERT INTO pulse VALUES (%s, {tasks.database.ago})", number, ago)
    kinds = {"other": KindThresholds(stall=Threshold(MINUTE, "kind other"))}
    for limits in (thresholds(), thresholds(kinds=kinds)):
        assert tasks.verdicts(tasks.source(profile, limits)) == expected


def test_stall_window_of_a_row_is_named_with_its_place_in_evidence_and_message(tasks: Tasks) -> None:
    source = tasks.source(quieted(tasks, "ms"))
    tasks.add(1, quiet_limit=5_400_000)
    tasks.add(2, beat=3 * HOUR, quiet_limit=14_400_000)
    explained = tasks.explained("1", "2", source=source)
    assert (explained["1"].stall_seconds, explained["1"].stall_from) == (5400, "column quiet_limit")
    assert explained["2"].stale_in_seconds == pytest.approx(HOUR, abs=60)
    assert tasks.sweep(source).reaped == 1
    said = tasks.said(1)
    assert (said["stall_seconds"], said["stall_from"]) == (5400, "column quiet_limit")
    asked, since = (datetime.fromisoformat(said[name]) for name in ("judged_at", "audible_since"))
    assert (asked - since).total_seconds() == pytest.approx(5400, abs=60)
    assert "(stall window 1h 30m)" in tasks.column("note", 1)


def test_age_that_is_asked_for_passes_shorter_stall_windows_of_rows_and_no_longer_ones(tasks: Tasks) -> None:
    profile = quieted(tasks)
    limits = thresholds().at_least(Threshold(HOUR, "asked"), Threshold(HOUR, "asked"))
    expected = {
        tasks.add(1, beat=40 * MINUTE, quiet_limit=60): SPARED,
        tasks.add(2, beat=80 * MINUTE, quiet_limit=60): STALE,
        tasks.add(3, beat=80 * MINUTE, quiet_limit=2 * 3600): SPARED,
        tasks.add(4, beat=3 * HOUR, quiet_limit=2 * 3600): STALE,
    }
    assert tasks.verdicts(tasks.source(profile, limits)) == expected


def test_timeout_and_stall_window_of_a_row_hold_together(tasks: Tasks) -> None:
    both = quieted(tasks).limits, limited().limits
    limits = {name: limit for given in both if given for name, limit in given.model_dump(exclude_none=True).items()}
    expected = {
        tasks.add(1, age=2 * HOUR, beat=20 * MINUTE, run_limit=3600, quiet_limit=600): STALE,
        tasks.add(2, age=2 * HOUR, beat=20 * MINUTE, run_limit=3600, quiet_limit=None): SPARED,
        tasks.add(3, age=2 * HOUR, beat=20 * MINUTE, run_limit=None, quiet_limit=600): YOUNG,
    }
    assert tasks.verdicts(tasks.source(mapped(limits=limits))) == expected


def test_limits_of_a_row_may_be_made_by_sql(tasks: Tasks) -> None:
    limits = {
        "timeout": {"sql": "{run_limit} * 2", "unit": "m"},
        "stall": {"sql": "CASE WHEN {kind} = 'calm' THEN {tries} * 60 END", "unit": "s"},
    }
    profile = mapped(limits=limits)
    expected = {
        tasks.add(1, age=HOUR, run_limit=20): STALE,
        tasks.add(2, age=HOUR, run_limit=40): YOUNG,
        tasks.add(3, age=7 * HOUR, run_limit=None): STALE,
        tasks.add(4, age=3 * HOUR, run_limit=20, kind="calm", tries=180): SPARED,
        tasks.add(5, age=3 * HOUR, run_limit=20, kind="calm", tries=60): STALE,
        tasks.add(6, age=3 * HOUR, run_limit=20, kind="calm", tries=None): STALE,
    }
    source = tasks.source(profile)
    assert tasks.verdicts(source) == expected
    explained = tasks.explained("5", source=source)["5"]
    assert (explained.timeout_seconds, explained.timeout_from) == (40 * MINUTE, "SQL of limits.timeout")
    assert (explained.stall_seconds, explained.stall_from) == (HOUR, "SQL of limits.stall")
    assert tasks.sweep(source).reaped == 4

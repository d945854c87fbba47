"""Ended jobs are tracked for late signs of life: the newest, for a day, in little memory."""

from __future__ import annotations

import time
import tracemalloc
import uuid

import pytest

from reaper.model import PostTransitionState, ReapedJob
from reaper.sweep import late_signs
from reaper.sweep.late_signs import MAX_PER_SWEEP, MAX_TRACKED, ReapedJobTracker


def ended(*numbers: int) -> list[ReapedJob]:
    remains = PostTransitionState(1.0, (1.0,), "failed", requeued=False)
    return [
        ReapedJob((str(n),), "JobTimeout", "embed", 1.0, 1.0, None, evidence={"big": "x" * 9}, state_after=remains)
        for n in numbers
    ]


def test_tracker_keeps_the_newest_jobs_up_to_its_limit() -> None:
    tracker = ReapedJobTracker()
    for begin in range(0, 2 * MAX_TRACKED, 1000):
        tracker.track(ended(*range(begin, begin + 1000)))
    assert len(tracker) == MAX_TRACKED
    due: set[str] = set()
    for _ in range(2 * MAX_TRACKED // MAX_PER_SWEEP):
        found = [key for (key,) in tracker.next_sample()]
        assert len(set(found)) == len(found) == MAX_PER_SWEEP
        # The newest every time, the others in turn.
        assert set(found) >= {str(n) for n in range(2 * MAX_TRACKED - MAX_PER_SWEEP // 2, 2 * MAX_TRACKED)}
        due |= set(found)
    assert due == {str(n) for n in range(MAX_TRACKED, 2 * MAX_TRACKED)}


def test_tracked_jobs_take_little_memory() -> None:
    tracker = ReapedJobTracker()
    tracemalloc.start()
    for begin in range(0, MAX_TRACKED + 1000, 1000):
        batch = [
            job._replace(
                key=(str(uuid.uuid4()),),
                kind=f"embed {n % 5}",
                evidence={"signs": [n] * 100},
                state_after=PostTransitionState(1.5, (float(n),), f"failed {n % 2}", requeued=False),
            )
            for n, job in enumerate(ended(*range(begin, begin + 1000)))
        ]
        tracker.track(batch)
        del batch
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(tracker) == MAX_TRACKED
    assert held < 4 << 20, held


def test_tracker_forgets_jobs_after_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = ReapedJobTracker()
    tracker.track(ended(1))
    now = time.monotonic()
    monkeypatch.setattr("reaper.sweep.late_signs.time.monotonic", lambda: now + late_signs.RETENTION_SECONDS / 2)
    tracker.track(ended(2))
    assert list(tracker.next_sample()) == [("1",), ("2",)]
    monkeypatch.setattr("reaper.sweep.late_signs.time.monotonic", lambda: now + late_signs.RETENTION_SECONDS + 60)
    assert list(tracker.next_sample()) == [("2",)] and len(tracker) == 1


def test_job_that_is_ended_again_is_tracked_again() -> None:
    tracker = ReapedJobTracker()
    tracker.track(ended(1))
    before = tracker.next_sample()[("1",)]
    tracker.track(ended(1))
    tracker.forget(before)
    assert list(tracker.next_sample()) == [("1",)]
    tracker.track([job._replace(state_after=None) for job in ended(1)])
    assert len(tracker) == 0

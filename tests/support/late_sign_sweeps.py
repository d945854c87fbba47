"""Sweeps of one source, one after the other, that look for late signs of life."""

from __future__ import annotations

from typing import Any

from sqlalchemy.event import listens_for

from reaper.model import LateSign, Outcome, SweepReport
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import SweepRecorder

FINISHES = {
    "protea": "UPDATE job SET status = 'succeeded', finished_at = {now} WHERE id = %s",
    "adhese": "UPDATE \"JOB_RESULTS\" SET state = 'failed' WHERE id = %s",
    "vuls": "UPDATE task_runs SET status = 'success', completed_at = {now} WHERE id = %s",
    "vuls-schedule": "UPDATE scheduled_tasks SET last_status = 'success' WHERE id = %s",
}
"""What the worker of a job does that does not ask whether it is still its own."""


class Sweeps:
    """One sweep after the other of a source, as a daemon does them; what they executed stands in `statements`."""

    def __init__(self, source: Source, **options: Any) -> None:
        self.source, self.memory = source, SourceState()
        self.options = SweepOptions(**{"host": "test-host", "batch_size": 10, "breaker": Breaker(50, 1.0), **options})
        self.statements: list[str] = []

        @listens_for(source.engine, "before_cursor_execute")
        def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            self.statements.append(statement)

    def once(self) -> SweepReport:
        recorder = SweepRecorder(memory=self.memory)
        report = sweep(self.source, DowntimeTracker(0), self.memory, self.options, None, recorder)
        self.source.close()
        assert report.late_trouble is None, report.late_trouble
        return report

    def reaps(self, jobs: int = 1) -> None:
        report = self.once()
        assert (report.error, report.failures, report.reaped, list(report.late)) == (None, (), jobs, []), report

    def late(self) -> list[LateSign]:
        report = self.once()
        assert (report.error, report.outcome, report.reaped) == (None, Outcome.DONE, 0)
        return list(report.late)

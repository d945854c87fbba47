"""Logs what people have decided about a source: quiet times, that it is observed, and stale jobs that are kept.

Each is logged once.
"""

from __future__ import annotations

from typing import Any

from reaper.common import messages
from reaper.model import Key, Outcome, SweepReport
from reaper.observers.log_fields import would_reap_fields


class DecisionLog:
    """Of all sources of one daemon."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._quiet: set[str] = set()
        self._observed: set[str] = set()
        self._kept: dict[str, dict[Key, str]] = {}

    def swept(self, report: SweepReport) -> None:
        """A sweep has ended. One that failed, and that of a standby, says nothing about its source."""
        if report.outcome in (Outcome.FAILED, Outcome.STANDBY):
            return
        self._log_quiet(report)
        self._log_observed(report)
        self._log_kept(report)

    def _log_quiet(self, report: SweepReport) -> None:
        source = report.source
        if report.outcome is Outcome.QUIET and source not in self._quiet:
            self._quiet.add(source)
            self._log.info("Reaper is quiet: no job of the source is ended.", source=source, until=report.quiet_until)
        elif report.outcome is not Outcome.QUIET and source in self._quiet:
            self._quiet.discard(source)
            self._log.info("Reaper's quiet time is over: sweeps end jobs again.", source=source)

    def _log_observed(self, report: SweepReport) -> None:
        """A line for each job that would have been ended: the report has those that no sweep before has named."""
        source = report.source
        if report.outcome is not Outcome.OBSERVED:
            if source in self._observed:
                self._observed.discard(source)
                self._log.info("Reaper no longer only observes the source: sweeps end jobs.", source=source)
            return
        if source not in self._observed:
            self._observed.add(source)
            text = "Reaper observes the source: it judges its jobs, and ends none."
            self._log.warning(text, source=source, remedy="observe = false lets sweeps end its jobs")
        for job in report.would_reap:
            self._log.info("Reaper would end a stale job.", source=source, **would_reap_fields(job))

    def _log_kept(self, report: SweepReport) -> None:
        """One line for each of the first jobs, and for one that is kept for another reason than before."""
        before = self._kept.get(report.source, {})
        self._kept[report.source] = {job.key: job.why for job in report.kept}
        for job in report.kept:
            if before.get(job.key) != job.why:
                self._log.info(
                    "Reaper leaves a stale job alone.",
                    source=report.source,
                    job=messages.format_key(job.key),
                    reason=job.why,
                )

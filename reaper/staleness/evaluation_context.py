"""The moment and the knowledge that the rule is evaluated with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reaper.liveness import LivenessReport
from reaper.model import DISTANT_PAST, Thresholds
from reaper.profile.columns import TableColumn
from reaper.staleness.audible_time import AudibleSpan, SilenceCutoff, cutoff_of
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.future_signs import SeenSign
from reaper.staleness.lost_workers import LostWorkers


@dataclass(frozen=True, slots=True)
class EvaluationContext:
    """The database's clock, how far back silence reaches, and the liveness report.

    `spans` say that of a stall window of any length; `cutoff` is that of the source, `newest_cutoff` that of the
    shortest. `row_security_reason` says why signs of life may be hidden from the role; None when it sees them all.
    `reapers_moments` is what the reaper wrote to the rows of a witness, by its number. `future_signs` is what is
    remembered of signs in the future (`reaper.staleness.future_signs`), `first_seen` when jobs without a start were
    first seen (`reaper.staleness.first_seen`), `lost_workers` which workers are gone
    (`reaper.staleness.lost_workers`), `unknown_moments` why the moments of a column are unknown
    (`reaper.staleness.unknown_moments`).
    """

    now: datetime
    spans: Sequence[AudibleSpan]
    cutoff: SilenceCutoff
    newest_cutoff: SilenceCutoff
    liveness: LivenessReport | None = None
    row_security_reason: str | None = None
    reapers_moments: Mapping[int, Sequence[str]] = field(default_factory=dict)
    future_signs: Mapping[str, SeenSign] = field(default_factory=dict)
    first_seen: Mapping[str, SeenSign] = field(default_factory=dict)
    lost_workers: LostWorkers = field(default_factory=LostWorkers)
    unknown_moments: Mapping[TableColumn, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, downtime: DowntimeTracker, thresholds: Thresholds, liveness: LivenessReport | None = None
    ) -> EvaluationContext:
        spans = downtime.audible_spans()
        cutoff, newest = (
            cutoff_of(spans, seconds) for seconds in (thresholds.stall.seconds, thresholds.shortest_stall_seconds)
        )
        return cls(downtime.now, spans, cutoff, newest, liveness)

    def seconds_ago(self, seconds: float) -> datetime:
        """The moment that many seconds before `now`; DISTANT_PAST when that is before the first date."""
        try:
            return self.now - timedelta(seconds=seconds)
        except OverflowError:
            return DISTANT_PAST

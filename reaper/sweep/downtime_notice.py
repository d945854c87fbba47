"""Until when downtime keeps silent jobs from being ended, for log and operators."""

from __future__ import annotations

from reaper.model import DISTANT_PAST, DowntimeNotice
from reaper.staleness.downtime import DowntimeTracker


def downtime_notice(downtime: DowntimeTracker, stall_seconds: float) -> DowntimeNotice | None:
    """What the last interruption still means for a stall window; None when the whole window counts again."""
    interruption, cutoff = downtime.interruption, downtime.cutoff(stall_seconds)
    if interruption is None:
        return None
    nothing_before = None
    if cutoff.at == DISTANT_PAST:
        # As much time as this must still pass in which workers can report.
        missing = cutoff.not_before - cutoff.earliest_possible
        nothing_before = (downtime.silence_counts_from + missing).isoformat()
    elif interruption.end <= cutoff.at:
        return None
    return DowntimeNotice(
        away_from=None if interruption.start is None else interruption.start.isoformat(),
        silence_counts_from=interruption.end.isoformat(),
        nothing_before=nothing_before,
        why=interruption.why,
    )

"""The parameters of the rule's statements: what changes from one evaluation to the next, by name.

The statements of a source are compiled once. The moment, the cutoffs and the liveness report of each evaluation reach
them as parameters, so that their text does not depend on these.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reaper.liveness import LivenessReport
from reaper.model import DISTANT_PAST, Thresholds
from reaper.profile.columns import TableColumn
from reaper.staleness import silence_cutoffs
from reaper.staleness.audible_time import cutoff_of
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.future_signs import AHEAD_SECONDS

NOW, PREVIOUS_NOW = "reaper_now", "reaper_previous_now"
"""The moment of this evaluation, and that of the one before it."""
STARTED_BEFORE, PREVIOUS_STARTED_BEFORE = "reaper_started_before", "reaper_previous_started_before"
"""Jobs that started before are past their timeout; those of a kind with thresholds of its own: see `KindLimits`."""
CUTOFF, FLOOR, ESTIMATE = "reaper_cutoff", "reaper_floor", "reaper_estimate"
"""The fields of the silence cutoff, of the same jobs."""
NEWEST_STARTED_BEFORE, NEWEST_CUTOFF = "reaper_newest_started_before", "reaper_newest_cutoff"
"""The newest of these moments among all kinds: by the shortest timeout, and by the shortest stall window."""
MAX_AGE_REACHED = "reaper_max_age_reached"
"""Jobs that started before are not kept alive by the worker that executes them."""

LATEST = "reaper_latest"
"""Signs of life after this moment are in the future."""
FUTURE_STATES, FUTURE_SINCE = "reaper_future_states", "reaper_future_since"
HAS_FUTURE_SIGNS = "reaper_has_future_signs"
"""What is remembered of signs in the future, by witness and job: their state, and when it was first seen; and whether
there is any."""

FIRST_SEEN = "reaper_first_seen"
"""When jobs without a start were first seen, by the names of the jobs."""

LOST_WORKERS, LOST_SINCE = "reaper_lost_workers", "reaper_lost_since"
"""The workers that are gone, by their identities: the state of each, and when it was first seen so."""
GONE_CUTOFF = "reaper_gone_cutoff"
"""A job with a sign of life since then, other than its worker's heartbeat, is alive, whatever became of its worker."""

UNKNOWN_MOMENTS = "reaper_unknown_moments_{}"
"""Why the moments of a column are unknown, by its number among those without a zone; NULL where they are not."""

LEASE_OVER = "reaper_lease_over"
"""A lease that ended before, as it is read, was over in every zone for the longest stall window."""
WESTERNMOST_SECONDS = 12 * 3600.0
"""In no zone is a moment later than so long after the same time of day in UTC."""

REAPERS = "reaper_wrote_{}"
"""What the reaper wrote to the rows of a witness, by the number of that witness."""

ALIVE, EXECUTING = "reaper_alive", "reaper_executing"
"""Ids of tasks of the liveness report."""
SERVED, BACKLOG = "reaper_served", "reaper_backlog"
"""Queues of the liveness report."""
IS_SERVED, HAS_BACKLOG = "reaper_is_served", "reaper_has_backlog"
"""Whether this is true of the queues of jobs whose queue no column names."""
NOT_ASKED, UNRELIABLE, UNRELIABLE_QUEUE = "reaper_not_asked", "reaper_unreliable", "reaper_unreliable_queue"
"""Why nothing is known: of any task; by queue, as JSON; and of the jobs whose queue no column names."""


@dataclass(frozen=True, slots=True)
class RuleParameters:
    """Makes the parameters for one set of thresholds.

    `queues` are those of jobs whose queue no column names. `silent_witnesses` are the numbers of the witnesses to which
    what the reaper wrote is no sign of life. `columns_without_zone` are those whose moments may be unknown. `never` are
    patterns: jobs of a kind that matches one are judged, and not ended. A worker is gone, and its jobs are stale, after
    `gone_after_seconds`; None: no job is stale for its worker.
    """

    thresholds: Thresholds
    queues: Sequence[str] = ()
    max_age_seconds: float | None = None
    silent_witnesses: Collection[int] = ()
    columns_without_zone: tuple[TableColumn, ...] = ()
    never: tuple[str, ...] = ()
    gone_after_seconds: float | None = None

    def values(self, context: EvaluationContext, previous: EvaluationContext | None = None) -> dict[str, Any]:
        """The values of one evaluation. Without a previous one, no job was past its timeout then."""
        values: dict[str, Any] = self._moments(context, previous) | silence_cutoffs.values(context.spans)
        if self.max_age_seconds is not None:
            values[MAX_AGE_REACHED] = context.seconds_ago(self.max_age_seconds)
        values |= {REAPERS.format(n): list(context.reapers_moments.get(n, ())) for n in self.silent_witnesses}
        values[FUTURE_STATES] = {name: seen.state for name, seen in context.future_signs.items()}
        values[HAS_FUTURE_SIGNS] = bool(context.future_signs)
        values[FUTURE_SINCE] = {name: f"{seen.first_seen:.6f}" for name, seen in context.future_signs.items()}
        values[FIRST_SEEN] = {name: f"{seen.first_seen:.6f}" for name, seen in context.first_seen.items()}
        if self.gone_after_seconds is not None:
            values[LOST_WORKERS] = dict(context.lost_workers.states)
            values[LOST_SINCE] = {name: f"{epoch:.6f}" for name, epoch in context.lost_workers.since.items()}
            values[GONE_CUTOFF] = cutoff_of(context.spans, self.gone_after_seconds).at
        for n, column in enumerate(self.columns_without_zone):
            values[UNKNOWN_MOMENTS.format(n)] = context.unknown_moments.get(column)
        return values | self._liveness(context.liveness)

    def _moments(self, context: EvaluationContext, previous: EvaluationContext | None) -> dict[str, Any]:
        timeout, cutoff = self.thresholds.timeout.seconds, context.cutoff
        silent = cutoff_of(context.spans, self.thresholds.longest_stall_seconds).at
        return {
            NOW: context.now,
            LEASE_OVER: _earlier(silent, WESTERNMOST_SECONDS),
            LATEST: context.seconds_ago(-AHEAD_SECONDS),
            PREVIOUS_NOW: previous.now if previous else DISTANT_PAST,
            STARTED_BEFORE: context.seconds_ago(timeout),
            PREVIOUS_STARTED_BEFORE: previous.seconds_ago(timeout) if previous else DISTANT_PAST,
            CUTOFF: cutoff.at,
            FLOOR: cutoff.not_before,
            ESTIMATE: cutoff.earliest_possible,
            NEWEST_STARTED_BEFORE: context.seconds_ago(self.thresholds.shortest_timeout_seconds),
            NEWEST_CUTOFF: context.newest_cutoff.at,
        }

    def _liveness(self, liveness: LivenessReport | None) -> dict[str, Any]:
        report = liveness or LivenessReport(trouble="was not asked")
        possible = report.known.union(self.queues)
        reasons = {queue: f"Celery: {why}" for queue, why in report.unreliable.items()}
        return {
            ALIVE: sorted(report.alive),
            EXECUTING: sorted(report.executing),
            SERVED: sorted(report.queues),
            BACKLOG: sorted(report.backlog),
            IS_SERVED: possible <= report.queues,
            HAS_BACKLOG: not possible.isdisjoint(report.backlog),
            NOT_ASKED: None if report.trouble is None else f"Celery: {report.trouble}",
            UNRELIABLE: reasons,
            UNRELIABLE_QUEUE: next((why for queue, why in reasons.items() if queue in possible), None),
        }


def _earlier(moment: datetime, seconds: float) -> datetime:
    return DISTANT_PAST if moment == DISTANT_PAST else moment - timedelta(seconds=seconds)

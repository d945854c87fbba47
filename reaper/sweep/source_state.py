"""What one process remembers of a source between its sweeps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from reaper.liveness import LivenessReport
from reaper.model import Key
from reaper.source.local_time_proof import LocalLook
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.late_signs import ReapedJobTracker
from reaper.sweep.refused_jobs import RefusedJobs
from reaper.sweep.spared_jobs import SparedJobTracker
from reaper.sweep.vanished_signs import SignSample


@dataclass(slots=True)
class SourceState:
    """Kept from one sweep of a source to the next.

    `previous_context`: what the last sweep was judged by.
    `spared_jobs`: jobs past their timeout that have been reported as spared.
    `sign_sample`: running jobs that had signs of life.
    `observed_jobs`: jobs that observing sweeps have reported, as far as they are still stale.
    `refused_jobs`: jobs that the database refuses to end, which are set aside.
    `locked_since`: stale jobs whose row another session holds, and since when (monotonic clock, seconds).
    `unconfirmed_revocations`: Celery tasks of ended jobs, and the worker that executed each when it last answered.
    `reaped_jobs`: ended jobs that are watched for signs of life, as far as a listener has them tracked.
    `next_future_look`: when (monotonic clock, seconds) to look for signs of life in the future again.
    `local_look`: the last look for local times, with which the next one is compared.
    `may_lack_starts`: the last sweep counted running jobs without a start, or there was none.
    `worker_goes_at`: when (monotonic clock, seconds) the next worker that holds a job is gone, unless it beats.
    `survey_timed_out`: the last survey took longer than a statement may.
    `liveness`: the last answer of the witness outside the database; None without one. `liveness_at` (monotonic clock,
    seconds) is when it was received.
    """

    previous_context: EvaluationContext | None = None
    spared_jobs: SparedJobTracker = field(default_factory=SparedJobTracker)
    sign_sample: SignSample = field(default_factory=SignSample)
    observed_jobs: set[Key] = field(default_factory=set)
    refused_jobs: RefusedJobs = field(default_factory=RefusedJobs)
    locked_since: dict[Key, float] = field(default_factory=dict)
    unconfirmed_revocations: dict[str, str] = field(default_factory=dict)
    reaped_jobs: ReapedJobTracker = field(default_factory=ReapedJobTracker)
    next_future_look: float = -math.inf
    local_look: LocalLook | None = None
    may_lack_starts: bool = True
    worker_goes_at: float = math.inf
    survey_timed_out: bool = False
    liveness: LivenessReport | None = None
    liveness_at: float = -math.inf

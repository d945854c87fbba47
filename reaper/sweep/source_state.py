"""."""

from __future__ import annotations

from dataclasses import dataclass, field

from reaper.liveness import LivenessReport
from reaper.model import Key
from reaper.staleness.rule import EvaluationContext
from reaper.sweep.late_signs import ReapedJobTracker


@dataclass(slots=True)
class SourceState:
    """What is kept from one sweep of a source to the next: to say each thing once, and not to insist."""

    previous_context: EvaluationContext | None = None
    refused_until: dict[Key, float] = field(default_factory=dict)
    locked_since: dict[Key, float] = field(default_factory=dict)
    unconfirmed_revocations: dict[str, str] = field(default_factory=dict)
    """Tasks of ended jobs that a worker had when it was last heard → that worker."""
    reaped_jobs: ReapedJobTracker = field(default_factory=ReapedJobTracker)
    """Jobs that may yet show life, as far as somebody who listens had them remembered."""
    liveness: LivenessReport | None = None
    """What the witness outside the database said last, where there is one."""

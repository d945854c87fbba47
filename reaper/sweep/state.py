"""."""

from __future__ import annotations

from dataclasses import dataclass, field

from reaper.liveness import LivenessReport
from reaper.model import Key
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.late_signs import ReapedJobTracker


@dataclass(slots=True)
class SourceState:
    """What is kept from one sweep of a source to the next: to say each thing once, and not to insist."""

    before: EvaluationContext | None = None
    refused: dict[Key, float] = field(default_factory=dict)
    locked_since: dict[Key, float] = field(default_factory=dict)
    revoked: dict[str, str] = field(default_factory=dict)
    """Tasks of ended jobs that a worker had when it was last heard → that worker."""
    ended: ReapedJobTracker = field(default_factory=ReapedJobTracker)
    """Jobs that may yet show life, as far as somebody who listens had them remembered."""
    liveness: LivenessReport | None = None
    """What the witness outside the database said last, where there is one."""

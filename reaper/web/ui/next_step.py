"""What happens to a job next, and when: from the job's evidence and the state of its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reaper.common import messages
from reaper.memory import HaltRecord
from reaper.model import Evidence, JobCounts, Key, LockHolder, Outcome, Verdict
from reaper.scheduling.scheduler import State
from reaper.sweep.breaker import Breaker
from reaper.sweep.reasons_not_ended import UNGUARDED, LeftReason, SourceGuards, held_by
from reaper.web.service import SourceStatus, source_guards
from reaper.web.ui.formatting import duration, visible

_TONES = {LeftReason.LOCKED: "alive", LeftReason.STANDBY: "soon", LeftReason.UNKNOWN: "wait", LeftReason.QUIET: "wait"}
"""Of the reasons for which a job is left. For the others an operator must act."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """`tone`: soon (it is ended), held (an operator must act), alive (it is left alone), wait (it resolves itself)."""

    tone: str
    text: str


@dataclass(frozen=True, slots=True)
class SourceView:
    """Everything on which the next step of a source's jobs depends.

    `census` is the newest count; `held_back` is what the breaker holds, as the last sweep counted it; `refusal` is the
    error with which the database refuses to end a job, which is set aside; None for any other. `start_lost` counts the
    jobs whose start was lost, which sweeps end only with `ends_start_lost`. `decisions` has the holds, the quiet time
    and the cap of the source, `limits` what is configured of these, in words.
    """

    status: SourceStatus
    state: State | None
    halted: HaltRecord | None
    breaker: Breaker
    action: str
    census: JobCounts | None = None
    held_back: JobCounts | None = None
    holders: Mapping[Key, LockHolder] = field(default_factory=dict)
    refusal: Callable[[Key], str | None] = lambda _: None
    start_lost: JobCounts | None = None
    ends_start_lost: bool = False
    decisions: SourceGuards = UNGUARDED
    limits: str = "no cap"

    def next_step(self, job: Evidence) -> NextStep:
        """What happens next to the job if it shows no sign of life and no operator acts."""
        if job.verdict is Verdict.STALE:
            return self._stale_job(job)
        if job.verdict is Verdict.ENDED:
            return NextStep("alive", "nothing: it does not run")
        later = messages.describe_outlook(job)
        if messages.spared_as_unknown(job):
            unknown = "unknown is not dead: it is left alone until it is known whether it is alive"
            return NextStep("wait", f"{unknown}; {later}" if later else unknown)
        return NextStep("alive", later or "left alone")

    @property
    def another_sweeps(self) -> bool:
        """Another replica holds the lease."""
        return self.status.report is not None and self.status.report.outcome is Outcome.STANDBY

    @property
    def guards(self) -> SourceGuards:
        """What keeps this daemon from ending the stale jobs."""
        counts = self.held_back or self.census
        guards = source_guards(
            self.status,
            self.state,
            self.halted,
            None if counts is None else held_by(self.breaker, counts),
            self.refusal,
            ends_start_lost=self.ends_start_lost,
        )
        return guards.with_decisions_of(self.decisions)

    def _stale_job(self, job: Evidence) -> NextStep:
        action = job.action or self.action
        left = next(iter(self.guards.of_job(job, self.holders.get(job.key))), None)
        if left is None:
            return self._by_next_sweep(action)
        acts = _by_action(action) if left.reason is LeftReason.STANDBY else ""
        return NextStep(_TONES.get(left.reason, "held"), f"{visible(left.why)}{acts}")

    def _by_next_sweep(self, action: str) -> NextStep:
        seconds = self.status.next_seconds
        if self.status.sweeping or seconds is None:
            return NextStep("soon", f"a sweep works now and ends it{_by_action(action)}")
        when = f"in {duration(seconds)}" if seconds >= 1 else "which is due"
        return NextStep("soon", f"ended by the next sweep{_by_action(action)}, {when}")


def _by_action(action: str) -> str:
    return f" (action {action})" if action != "fail" else ""

"""What happens to a job next, and when: from the job's evidence and the state of its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reaper.common import messages
from reaper.memory import HaltRecord
from reaper.model import Evidence, JobCounts, Key, LockHolder, Outcome, Verdict
from reaper.scheduling.scheduler import State
from reaper.sweep.breaker import Breaker
from reaper.web.service import SourceStatus
from reaper.web.ui.formatting import duration, visible


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
    jobs whose start was lost, which sweeps end only with `ends_start_lost`.
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

    def next_step(self, job: Evidence) -> NextStep:
        """What happens next to the job if it shows no sign of life and no operator acts."""
        if job.verdict is Verdict.STALE:
            return self._stale_job(job)
        if job.verdict is Verdict.ENDED:
            return NextStep("alive", "nothing: it does not run")
        later = messages.describe_outlook(job)
        if messages.spared_as_unknown(job):
            unknown = "unknown is not dead: it is left alone until its workers can be asked"
            return NextStep("wait", f"{unknown}; {later}" if later else unknown)
        return NextStep("alive", later or "left alone")

    @property
    def held(self) -> bool:
        """The breaker holds the stale jobs, or will at the next sweep."""
        return self.held_back is not None or (self.census is not None and self.breaker.opens(self.census))

    @property
    def another_sweeps(self) -> bool:
        """Another replica holds the lease."""
        return self.status.report is not None and self.status.report.outcome is Outcome.STANDBY

    def _stale_job(self, job: Evidence) -> NextStep:
        if (holder := self.holders.get(job.key)) is not None:
            return NextStep(
                "alive", f"its row is held by {visible(messages.describe_holder(holder))}: alive while that lasts"
            )
        if (error := self.refusal(job.key)) is not None:
            return NextStep("held", f"refused by the database: {visible(error)}; tried again later")
        if job.start_lost and not self.ends_start_lost:
            return NextStep("held", "sweeps do not end it, because its start was lost; `reaper cleanup` does")
        return self._by_sweep(job.action or self.action)

    def _by_sweep(self, action: str) -> NextStep:
        if self.state is State.FINISHED:
            return NextStep("held", "not swept: the schedule has ended; restart it")
        if self.halted is not None and not self.another_sweeps:
            return NextStep("held", f"halted by {visible(self.halted.by)}: it is not ended until a restart")
        if self.held:
            return NextStep("held", "held by the breaker until it is released")
        if self.another_sweeps:
            text = f"another replica holds the lease: it ends it if it is not halted{_by_action(action)}"
            return NextStep("soon", text)
        return self._by_next_sweep(action)

    def _by_next_sweep(self, action: str) -> NextStep:
        seconds = self.status.next_seconds
        if self.status.sweeping:
            return NextStep("soon", f"a sweep works now and ends it{_by_action(action)}")
        if seconds is None:
            return NextStep("held", "not swept: there is no schedule yet")
        when = f"in {duration(seconds)}" if seconds >= 1 else "which is due"
        return NextStep("soon", f"ended by the next sweep{_by_action(action)}, {when}")


def _by_action(action: str) -> str:
    return f" (action {action})" if action != "fail" else ""

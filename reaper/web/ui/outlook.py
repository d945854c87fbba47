"""What becomes of a job next, and when: the daemon's own state put beside the job's evidence."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    """`tone`: soon (it is ended), held (somebody has to act), alive (it is left alone) or wait (it solves itself)."""

    tone: str
    text: str


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a source's jobs have to expect.

    `census` is as fresh as is known; `held_back` is what the breaker holds, as the last sweep counted it; `refused` are
    left alone for a while.
    """

    standing: SourceStatus
    state: State | None
    halted: HaltRecord | None
    breaker: Breaker
    action: str
    census: JobCounts | None = None
    held_back: JobCounts | None = None
    holders: Mapping[Key, LockHolder] = field(default_factory=dict)
    refused: Collection[Key] = ()

    def of(self, job: Evidence) -> NextStep:
        """What happens next to a job, if nobody interferes."""
        if job.verdict is Verdict.STALE:
            return self._of_stale(job)
        if job.verdict is Verdict.ENDED:
            return NextStep("alive", "nothing: it does not run")
        later = messages.describe_outlook(job)
        if messages.spared_as_unknown(job):
            return NextStep(
                "wait", f"unknown is not dead: it is left alone until its workers can be asked{_and(later)}"
            )
        return NextStep("alive", later or "left alone")

    @property
    def held(self) -> bool:
        """The breaker holds what is stale, or will by the next sweep."""
        return self.held_back is not None or (self.census is not None and self.breaker.opens(self.census))

    @property
    def another_sweeps(self) -> bool:
        """Another replica has the lease."""
        return self.standing.report is not None and self.standing.report.outcome is Outcome.STANDBY

    def _of_stale(self, job: Evidence) -> NextStep:
        if (holder := self.holders.get(job.key)) is not None:
            return NextStep(
                "alive", f"its row is held by {visible(messages.describe_holder(holder))}: alive while that lasts"
            )
        if job.key in self.refused:
            return NextStep("held", f"refused by the database{self._what_it_said(job.key)}; tried again later")
        return self._by_sweep()

    def _by_sweep(self) -> NextStep:
        if self.state is State.FINISHED:
            return NextStep("held", "not swept: the schedule has ended; restart it")
        if self.halted is not None and not self.another_sweeps:
            return NextStep("held", f"halted by {visible(self.halted.by)}: it stays as it is until somebody restarts")
        if self.held:
            return NextStep("held", "held by the breaker until somebody releases it")
        if self.another_sweeps:
            doing = self._by_which_action("if it is not halted")
            return NextStep("soon", f"another replica holds the lease: it ends it{doing}")
        return self._in_time()

    def _in_time(self) -> NextStep:
        seconds = self.standing.next_seconds
        if self.standing.sweeping:
            return NextStep("soon", f"a sweep works now{self._by_which_action('and ends it')}")
        if seconds is None:
            return NextStep("held", "not swept: there is no schedule yet")
        when = f"in {duration(seconds)}" if seconds >= 1 else "which is due"
        return NextStep("soon", f"ended by the next sweep{self._by_which_action('')}, {when}")

    def _by_which_action(self, what: str) -> str:
        doing = f" (action {self.action})" if self.action != "fail" else ""
        return f"{' ' if what else ''}{what}{doing}"

    def _what_it_said(self, key: Key) -> str:
        report = self.standing.report
        said = next((failure.error for failure in report.failures if failure.key == key), None) if report else None
        return f": {visible(said)}" if said else ""


def _and(later: str | None) -> str:
    return f"; {later}" if later else ""

"""Why a stale job is left: every reason that there is, and the one place that says which of them hold for a job.

The report, `explain`, `check`, the page and the API take their answers from here. A further guard is one more member of
`LeftReason`, and one more of `SourceGuards`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from reaper.common import messages
from reaper.errors import StateUnavailable
from reaper.model import Evidence, JobCounts, JobHold, Key, LockHolder, Verdict
from reaper.source import Source
from reaper.source.kept_jobs import kept_by_hold, kept_by_kind
from reaper.sweep.breaker import Breaker


class LeftReason(StrEnum):
    """Why a silent job is not ended: first what concerns this one job, then what concerns its whole source."""

    UNKNOWN = "unknown"  # a witness could not be asked: whether the job is stale is not known
    LOCKED = "locked"  # another transaction holds its row, or a row that belongs to it
    REFUSED = "refused"  # the database refused to end it: it is tried again later
    HOLD = "hold"  # an operator holds it
    NEVER = "never"  # its kind is never ended
    START_LOST = "start lost"  # sweeps do not end jobs without a start
    UNSCHEDULED = "unscheduled"  # no sweep is due
    HALT = "halt"
    OBSERVED = "observed"  # the source is only observed
    QUIET = "quiet"  # a maintenance window
    BREAKER = "breaker"
    CAP = "cap"  # too many jobs were ended lately
    STANDBY = "standby"  # another replica sweeps

    @property
    def of_source(self) -> bool:
        """It holds every stale job of the source."""
        return self in _OF_SOURCE


_OF_SOURCE = frozenset(
    {
        LeftReason.UNSCHEDULED,
        LeftReason.HALT,
        LeftReason.OBSERVED,
        LeftReason.QUIET,
        LeftReason.BREAKER,
        LeftReason.CAP,
        LeftReason.STANDBY,
    }
)


@dataclass(frozen=True, slots=True)
class Left:
    """One reason why a job is left, and what is known of it, in words."""

    reason: LeftReason
    why: str


@dataclass(frozen=True, slots=True)
class SourceGuards:
    """What keeps sweeps from ending stale jobs of one source, at one moment.

    `unscheduled`, `halted`, `observed`, `quiet`, `breaker` and `cap` say why in words; None where that holds
    nothing.
    `refusal` is the error with which the database refused to end a job; None for any other. `holds` are the jobs that
    operators hold; `holds_trouble` says why they are not known, so that none is ended. `ends_start_lost`: sweeps end
    jobs whose start was lost, too.
    """

    unscheduled: str | None = None
    halted: str | None = None
    breaker: str | None = None
    standby: bool = False
    refusal: Callable[[Key], str | None] = lambda _: None
    ends_start_lost: bool = False
    holds: Mapping[Key, JobHold] = field(default_factory=dict)
    holds_trouble: str | None = None
    quiet: str | None = None
    cap: str | None = None
    observed: str | None = None

    def with_decisions_of(self, other: SourceGuards) -> SourceGuards:
        """With the holds, the quiet time and the cap of the other one, and whether it is observed."""
        known = replace(self, holds=other.holds, holds_trouble=other.holds_trouble, observed=other.observed)
        return replace(known, quiet=other.quiet, cap=other.cap)

    def of_job(self, job: Evidence, holder: LockHolder | None = None) -> Sequence[Left]:
        """Why the job is left, the most particular reason first; empty for one that is not silent, or will be ended.

        `holder` holds its row, or a row that belongs to it.
        """
        if messages.spared_as_unknown(job):
            return (Left(LeftReason.UNKNOWN, job.unknown or "whether it is alive is not known"),)
        if job.verdict is not Verdict.STALE:
            return ()
        return (*self._of_this_job(job, holder), *self.of_source())

    def _of_this_job(self, job: Evidence, holder: LockHolder | None) -> Iterator[Left]:
        if holder is not None:
            yield Left(LeftReason.LOCKED, messages.describe_lock(holder))
        if (hold := self.holds.get(job.key)) is not None:
            yield Left(LeftReason.HOLD, kept_by_hold(hold).why)
        if job.never is not None:
            yield Left(LeftReason.NEVER, kept_by_kind(job.key, job.never).why)
        if (error := self.refusal(job.key)) is not None:
            yield Left(LeftReason.REFUSED, f"refused by the database: {error}; tried again later")
        if job.start_lost and not self.ends_start_lost:
            why = "sweeps do not end it, because its start was lost; `reaper cleanup` does"
            yield Left(LeftReason.START_LOST, why)

    def of_source(self) -> Sequence[Left]:
        """Why every stale job of the source is left."""
        return tuple(self._of_source())

    def _of_source(self) -> Iterator[Left]:
        if self.unscheduled is not None:
            yield Left(LeftReason.UNSCHEDULED, self.unscheduled)
        if self.halted is not None:
            yield Left(LeftReason.HALT, f"{self.halted}: nothing is ended until `reaper restart`")
        if self.observed is not None:
            yield Left(LeftReason.OBSERVED, self.observed)
        if self.holds_trouble is not None:
            yield Left(LeftReason.HOLD, f"which jobs are held is not known, so none is ended: {self.holds_trouble}")
        if self.quiet is not None:
            yield Left(LeftReason.QUIET, self.quiet)
        if self.breaker is not None:
            yield Left(LeftReason.BREAKER, f"held by the breaker until it is released: {self.breaker}")
        if self.cap is not None:
            yield Left(LeftReason.CAP, f"held by the cap until it is released: {self.cap}")
        if self.standby:
            why = "another replica holds the lease: it ends it if it is not halted"
            yield Left(LeftReason.STANDBY, why)


UNGUARDED = SourceGuards()
"""Nothing is known that would keep sweeps from ending stale jobs."""


def held_by(breaker: Breaker, census: JobCounts | None) -> str | None:
    """Why the breaker holds a sweep with these counts; None when it does not."""
    return breaker.reason(census) if census is not None and breaker.opens(census) else None


def decisions(source: Source, census: JobCounts | None) -> SourceGuards:
    """The guards that were configured for a source, and the holds on its jobs; after a look at its jobs.

    Without a `census` the cap is not asked.
    """
    until, observed = source.quiet_until(), source.options.why_observed
    quiet = None if until is None else source.options.quiet.why(until)
    try:
        holds, cap = source.holds_now(), source.options.cap
        to_end = max(0, census.stale - census.kept - census.refused) if census else 0
        held = cap.would_hold(source.name, to_end) if cap else None
    except StateUnavailable as error:
        return SourceGuards(holds_trouble=str(error), quiet=quiet, observed=observed)
    return SourceGuards(holds=holds, quiet=quiet, cap=held, observed=observed)

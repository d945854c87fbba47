"""Workers that are gone: those whose row the reaper has seen unchanged, or missing, for long enough.

What is compared is the value of the heartbeat, not its age: the clock of a worker's host may be wrong. A sweep reads
the workers of the running jobs, and those without jobs, and remembers when it first saw each as it is. A worker is gone
when that was `gone_after` of audible time ago. What is remembered is asked for again with the rule, behind the locks: a
worker that has beaten since has another state, and is not gone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from reaper.staleness.audible_time import AudibleSpan, cutoff_of
from reaper.staleness.future_signs import SeenSign

MISSING = "missing"
"""The state of a worker that has no row."""
_GOING = 0.5
"""Unchanged for this share of `gone_after`, a worker does not show that heartbeats arrive."""


class LostWorkers(NamedTuple):
    """The workers that are gone: by their identities the state that each was last seen in, and when it was first seen
    so, in seconds since 1970. `together`: so many workers went at about the same time, and of no other a heartbeat has
    arrived lately; 0 for fewer than two. In `next_seconds` the next one goes, unless it beats; None: that is not known.
    """

    states: Mapping[str, str] = {}
    since: Mapping[str, float] = {}
    together: int = 0
    next_seconds: float | None = None


def lost_among(
    seen: Mapping[str, SeenSign],
    now: datetime,
    spans: Sequence[AudibleSpan],
    gone_after_seconds: float,
    holding: Collection[str] | None = None,
) -> LostWorkers:
    """Those of the remembered workers that are gone, as far as they are `holding` running jobs; None: all of them.

    Heartbeats that do not arrive any more stop one after the other. So a worker that has not gone yet, but is about to,
    goes with the others.
    """
    gone_since, going_since = (
        cutoff_of(spans, seconds).at.timestamp() for seconds in (gone_after_seconds, _GOING * gone_after_seconds)
    )
    of_jobs = {worker: sign for worker, sign in seen.items() if holding is None or worker in holding}
    gone = {worker: sign for worker, sign in of_jobs.items() if sign.first_seen <= gone_since}
    # While deaf time is left out, nothing is said of the others: they may take longer.
    due = (sign.first_seen + gone_after_seconds - now.timestamp() for sign in of_jobs.values())
    next_seconds = min((seconds for seconds in due if seconds > 0), default=None)
    if not gone:
        return LostWorkers(next_seconds=next_seconds)
    together = 0
    if not any(sign.first_seen > going_since and sign.state != MISSING for sign in seen.values()):
        last = max(sign.first_seen for sign in gone.values())
        together = sum(sign.first_seen >= last - gone_after_seconds for sign in seen.values())
    return LostWorkers(
        {worker: sign.state for worker, sign in gone.items()},
        {worker: sign.first_seen for worker, sign in gone.items()},
        together if together > 1 else 0,
        next_seconds,
    )

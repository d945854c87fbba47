"""What counts as silence: only time in which a sign of life could have been written and seen.

Time in which the database was away is *deaf* time. `Hearing` is told of every contact and of every failed try, and
answers one question: how far back must one look to have listened for a whole stall window?

Three things make time deaf:

- an outage that this process saw: from the last contact before it to the first one after it;
- a server that was started while we did not look: nobody knows how long it was away before;
- a jump of the database's clock: time that went by there and not here was not lived through by anyone.

After each, workers get an allowance to reconnect. An allowance of 0 says that silence across restarts is
to be trusted; outages that were seen are subtracted all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from reaper.model import DISTANT_PAST, ServerClock

_CLOCK_SLACK = 5.0
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class SilenceCutoff:
    """A sign of life older than `at` lies a whole stall window of audible time back.

    `floor` is the moment before which nothing counts (LONG_AGO when there is none); `at` is LONG_AGO while less
    than a stall window has been audible since. `estimate` is where `at` would stand if it could be reached.
    """

    at: datetime
    not_before: datetime
    earliest_possible: datetime


class DowntimeTracker:
    """The deaf time of one database, as one process knows it. One per source, told by one thread at a time.

    Any other thread may take a copy.
    """

    def __init__(self, grace_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._grace = timedelta(seconds=grace_seconds)
        self._monotonic = monotonic
        self._created_at = monotonic()
        self._last: ServerClock | None = None
        self._last_tick = self._created_at
        self._failed = False
        self._downtime: list[tuple[datetime, datetime]] = []
        self._changing = threading.Lock()

    def copy(self) -> DowntimeTracker:
        """The same knowledge, for somebody else who judges as of another moment, on another thread."""
        with self._changing:
            other = DowntimeTracker(self._grace.total_seconds(), self._monotonic)
            other._created_at, other._last, other._last_tick = self._created_at, self._last, self._last_tick
            other._failed, other._downtime = self._failed, list(self._downtime)
            return other

    def set_grace(self, grace_seconds: float) -> None:
        """From now on give workers this much to reconnect; what was deaf so far stays so."""
        self._grace = timedelta(seconds=grace_seconds)

    def record_failure(self) -> None:
        """The database could not be reached, or not be written to."""
        self._failed = True

    def record_contact(self, contact: ServerClock) -> None:
        """The database answered."""
        tick = self._monotonic()
        with self._changing:
            if self._last is None:
                self._record_first_contact(contact, tick - self._created_at)
            else:
                self._record_next_contact(self._last, contact, tick - self._last_tick)
            self._last, self._last_tick, self._failed = contact, tick, False
            # A clock that was put right leaves no deaf time in the future: it would take that long to end.
            latest = contact.now + self._grace
            self._downtime = [(start, min(end, latest)) for start, end in self._downtime if start < latest]

    def record_stall(self, seconds: float) -> None:
        """The database took that long, until just now, for something that takes no time: nobody was heard meanwhile."""
        if self._last is None:
            self._failed = True
            return
        now = self._last.now + timedelta(seconds=self._monotonic() - self._last_tick)
        self._add(now - timedelta(seconds=seconds), now + self._grace)

    def _record_first_contact(self, contact: ServerClock, waited: float) -> None:
        if not self._grace:
            if self._failed:
                self._add(contact.now - timedelta(seconds=waited), contact.now)
        elif self._failed:
            # It was away when we came: nobody knows for how long.
            self._add(DISTANT_PAST, contact.now + self._grace)
        else:
            self._add(DISTANT_PAST, min(contact.server_started, contact.now) + self._grace)

    def _record_next_contact(self, last: ServerClock, contact: ServerClock, elapsed: float) -> None:
        restarted = contact.server_started != last.server_started
        lived = contact.now - timedelta(seconds=elapsed)
        ahead = (lived - last.now).total_seconds()
        # When the clock was put back in between, the last look was earlier by the new one than it said.
        since = lived if ahead < -_CLOCK_SLACK else last.now
        if self._failed:
            self._add(since, contact.now + self._grace)
        elif restarted and self._grace:
            # Started after our last look: away in between. Started before it: another server took over.
            back = contact.server_started if contact.server_started > last.now else contact.now
            self._add(since, back + self._grace)
        if ahead > _CLOCK_SLACK:
            self._add(last.now, lived)

    def _add(self, start: datetime, end: datetime) -> None:
        """Keep the intervals apart and in order: overlapping ones become one, and so do the oldest of too many."""
        apart = []
        for a, b in self._downtime:
            if b < start or end < a:
                apart.append((a, b))
            else:
                start, end = min(a, start), max(b, end)
        deaf = sorted([*apart, (start, end)])
        if len(deaf) > _REMEMBERED:
            deaf[:2] = [(deaf[0][0], deaf[1][1])]
        self._downtime = deaf

    def excluded_seconds(self, stall_seconds: float) -> float:
        """How much further than `stall_seconds` one has to look back; infinite while that reaches nothing."""
        at = self.cutoff(stall_seconds).at
        return float("inf") if at == DISTANT_PAST else (self.now - at).total_seconds() - stall_seconds

    @property
    def now(self) -> datetime:
        """The database's clock at the last contact."""
        if self._last is None:
            raise ValueError("the database has not been met yet")
        return self._last.now

    def cutoff(self, stall_seconds: float) -> SilenceCutoff:
        """Walk back `stall_seconds` of audible time from the last contact."""
        at, left = self.now, timedelta(seconds=stall_seconds)
        for start, end in reversed(self._downtime):
            audible = max(at - end, timedelta(0))
            if audible >= left:
                break
            left -= audible
            at = min(start, at)
            if start == DISTANT_PAST:
                return SilenceCutoff(at=DISTANT_PAST, not_before=end, earliest_possible=end - left)
        return SilenceCutoff(at=at - left, not_before=DISTANT_PAST, earliest_possible=at - left)

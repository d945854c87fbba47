"""The downtime of a database, which is not silence: silence counts only while a sign of life could be written and seen.

`DowntimeTracker` records every contact with the database and every failed one, and answers one question: how far back
does a stall window reach when downtime is stepped over?

Three things are downtime:

- an outage that this process saw: from the last contact before it to the first one after it;
- the time before the start of a server that this process meets for the first time: how long the server was away is not
  known. Where the process before this one has written down its last contact with the same server (`DowntimeHistory`),
  only the time from then to the server's start is downtime;
- a jump of the database's clock: time that passed on that clock and not on ours did not pass for any worker.

The quiet times of the source, which are its maintenance windows, do not count either.

After each, workers get a grace to reconnect. A grace of 0 means that silence across restarts is trusted; outages that
this process saw, and quiet times, are subtracted all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reaper.model import DISTANT_PAST, ServerClock
from reaper.staleness.audible_time import AudibleSpan, Interval, SilenceCutoff, audible_spans, cutoff_of
from reaper.staleness.quiet_times import ALWAYS_LOUD

_CLOCK_TOLERANCE_SECONDS = 5.0
_MAX_INTERVALS = 1000
_MAX_REMEMBERED = 100
_QUIET_BACK = timedelta(days=60)
"""Earlier quiet times count as audible: to stall windows that reach back for so long, they make little difference."""


@dataclass(frozen=True, slots=True)
class DowntimeHistory:
    """What a process knew at its last contact with a database, for the process after it: the downtime before that."""

    last: ServerClock
    downtime: tuple[Interval, ...] = ()


@dataclass(frozen=True, slots=True)
class Interruption:
    """The last time in which the database was away, or may have been: from `start` (None: not known) to `end`.

    `why` says what is known of it.
    """

    start: datetime | None
    end: datetime
    why: str


class DowntimeTracker:
    """The downtime of one database, as far as one process knows it. One per source.

    One thread at a time records. Any other thread may take a copy.
    """

    def __init__(self, grace_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._grace = timedelta(seconds=grace_seconds)
        self._monotonic = monotonic
        self._created_at = monotonic()
        self._last: ServerClock | None = None
        self._last_tick = self._created_at  # when `_last` was read, on the monotonic clock
        self._failed = False
        self._downtime: list[Interval] = []
        self._interruption: Interruption | None = None
        self.unknown_because = "this process has not met it before"
        """Why nothing is known of the time before the first contact."""
        self.before_first_contact: Callable[[Any, Any, DowntimeTracker], None] | None = None
        """Is called with the source, a connection and the tracker itself, and may `resume`."""
        self.quiet = ALWAYS_LOUD
        """The quiet times of the source."""
        self._lock = threading.Lock()

    def copy(self) -> DowntimeTracker:
        """A tracker with the same knowledge, for another thread, which evaluates as of another moment."""
        with self._lock:
            other = DowntimeTracker(self.grace_seconds, self._monotonic)
            other._created_at, other._last, other._last_tick = self._created_at, self._last, self._last_tick
            other._failed, other._downtime = self._failed, list(self._downtime)
            other._interruption, other.unknown_because = self._interruption, self.unknown_because
            other.before_first_contact, other.quiet = self.before_first_contact, self.quiet
            return other

    @property
    def grace_seconds(self) -> float:
        """How long workers get to reconnect after an outage."""
        return self._grace.total_seconds()

    def copy_trusting_silence(self) -> DowntimeTracker:
        """A copy to which silence across a restart counts: it keeps only the outages whose beginning was seen."""
        other = self.copy()
        other._grace = timedelta(0)
        other._downtime = [(start, end) for start, end in other._downtime if start != DISTANT_PAST]
        return other

    def set_grace(self, grace_seconds: float) -> None:
        """Give workers this long to reconnect from now on. The downtime so far stays as it is."""
        self._grace = timedelta(seconds=grace_seconds)

    def record_failure(self) -> None:
        """The database could not be reached, or takes no changes."""
        self._failed = True

    def record_contact(self, contact: ServerClock) -> None:
        """The database answered."""
        tick = self._monotonic()
        with self._lock:
            if self._last is None:
                self._record_first_contact(contact, tick - self._created_at)
            else:
                self._record_next_contact(self._last, contact, tick - self._last_tick)
            self._end_contact(contact, tick)

    def resume(self, history: DowntimeHistory, contact: ServerClock) -> bool:
        """Make the first contact of this process from what the process before it knew of the same server.

        False, and nothing is changed, when that cannot be true of one server: its clock is behind, or it was running
        already when another one was reached. False, too, after a contact, and without a grace: then nothing before a
        start is downtime.
        """
        tick = self._monotonic()
        with self._lock:
            last = history.last
            restarted = contact.server_started != last.server_started
            impossible = contact.now < last.now or (restarted and contact.server_started < last.now)
            if self._last is not None or not self._grace or impossible:
                return False
            self._downtime = list(history.downtime)
            if self._failed:
                self._interrupt(last.now, contact.now, "it could not be reached when the reaper started")
            elif restarted:
                self._interrupt(last.now, contact.server_started, "its server was restarted while no reaper ran")
            elif history.downtime:
                start, end = history.downtime[-1]
                known = None if start == DISTANT_PAST else start
                self._interruption = Interruption(known, end, "as the reaper that ran before has noted")
            self._end_contact(contact, tick)
            return True

    def history(self) -> DowntimeHistory | None:
        """For the process after this one; None before the first contact, and while the database is away."""
        with self._lock:
            if self._last is None or self._failed:
                return None
            older, newer = self._downtime[:-_MAX_REMEMBERED], self._downtime[-_MAX_REMEMBERED:]
            merged = [(older[0][0], newer[0][1]), *newer[1:]] if older else newer
            return DowntimeHistory(self._last, tuple(merged))

    @property
    def has_contact(self) -> bool:
        """Whether this process has reached the database already."""
        return self._last is not None

    @property
    def interruption(self) -> Interruption | None:
        """The last one that this process knows of."""
        return self._interruption

    def _end_contact(self, contact: ServerClock, tick: float) -> None:
        self._last, self._last_tick, self._failed = contact, tick, False
        # After a clock was set back, no downtime may lie in the future: it would take that long to end.
        latest = contact.now + self._grace
        self._downtime = [(start, min(end, latest)) for start, end in self._downtime if start < latest]

    def record_stall(self, seconds: float) -> None:
        """The database took this long, until now, for something that takes no time: that is downtime."""
        if self._last is None:
            self._failed = True
            return
        now = self.estimated_now
        self._add(now - timedelta(seconds=seconds), now + self._grace)

    def record_replacement(self, why: str) -> None:
        """Another table was put in the place of one: signs of life from before the last contact may not be there yet.

        So silence counts from then on alone, for one stall window. After a contact.
        """
        with self._lock:
            self._interrupt(DISTANT_PAST, self.now, why)

    def _record_first_contact(self, contact: ServerClock, waited_seconds: float) -> None:
        if not self._grace:
            if self._failed:
                self._add(contact.now - timedelta(seconds=waited_seconds), contact.now)
        elif self._failed:
            # It was away when this process started: how long it was away is not known.
            self._interrupt(DISTANT_PAST, contact.now, f"it could not be reached before; {self.unknown_because}")
        else:
            started = min(contact.server_started, contact.now)
            self._interrupt(DISTANT_PAST, started, f"its server was started then; {self.unknown_because}")

    def _record_next_contact(self, last: ServerClock, contact: ServerClock, elapsed_seconds: float) -> None:
        restarted = contact.server_started != last.server_started
        # The last contact, by the database's clock as it is now: later than it said if the clock jumped ahead.
        last_by_new_clock = contact.now - timedelta(seconds=elapsed_seconds)
        jump_seconds = (last_by_new_clock - last.now).total_seconds()
        since = last_by_new_clock if jump_seconds < -_CLOCK_TOLERANCE_SECONDS else last.now
        if self._failed:
            self._interrupt(since, contact.now, "it could not be reached")
        elif restarted and self._grace:
            # A start after the last contact: away in between. A start before it: another server took over just now.
            back = contact.server_started if contact.server_started > last.now else contact.now
            self._interrupt(since, back, "its server was restarted, or another one took over")
        if jump_seconds > _CLOCK_TOLERANCE_SECONDS:
            self._add(last.now, last_by_new_clock)

    def _interrupt(self, start: datetime, back: datetime, why: str) -> None:
        """The database was away until `back`, and workers get a grace to reconnect."""
        self._add(start, back + self._grace)
        self._interruption = Interruption(None if start == DISTANT_PAST else start, back + self._grace, why)

    def _add(self, start: datetime, end: datetime) -> None:
        """Keep the intervals apart and in order: overlapping ones are merged, and so are the oldest two of too many."""
        downtime = _merged([*self._downtime, (start, end)])
        if len(downtime) > _MAX_INTERVALS:
            downtime[:2] = [(downtime[0][0], downtime[1][1])]
        self._downtime = downtime

    def excluded_seconds(self, stall_seconds: float) -> float:
        """How much further back than `stall_seconds` the cutoff is; infinite while it cannot be reached."""
        at = self.cutoff(stall_seconds).at
        return float("inf") if at == DISTANT_PAST else (self.now - at).total_seconds() - stall_seconds

    @property
    def silence_counts_from(self) -> datetime:
        """The database's clock at the last contact, or the end of a grace that has not ended by then."""
        return max([self.now, *(end for _, end in self._downtime[-1:])])

    @property
    def now(self) -> datetime:
        """The database's clock at the last contact."""
        if self._last is None:
            raise ValueError("there was no contact with the database yet")
        return self._last.now

    @property
    def estimated_now(self) -> datetime:
        """The database's clock now, by the time that has passed here since the last contact."""
        return self.now + timedelta(seconds=self._monotonic() - self._last_tick)

    def cutoff(self, stall_seconds: float) -> SilenceCutoff:
        """Walk back `stall_seconds` from the last contact, stepping over downtime and quiet times."""
        return cutoff_of(self.audible_spans(), stall_seconds)

    def audible_spans(self) -> tuple[AudibleSpan, ...]:
        """How far back stall windows of any length reach from the last contact."""
        if not self.quiet.times:
            return audible_spans(self.now, self._downtime)
        quiet = ((start, end + self._grace) for start, end in self.quiet.between(self.now - _QUIET_BACK, self.now))
        return audible_spans(self.now, _merged([*self._downtime, *quiet]))


def _merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time, as intervals that are apart and in order."""
    merged = list[Interval]()
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged

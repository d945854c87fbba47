"""Workers that are gone, over time: whatever the phases of heartbeats and sweeps, and whatever outage comes between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from reaper.staleness.audible_time import audible_spans
from reaper.staleness.future_signs import SeenSign
from reaper.staleness.lost_workers import LostWorkers, lost_among
from tests.support.examples import examples

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
seconds = st.integers


class Clock:
    """One worker and the sweeps that look at it, second by second; `away` is when the database cannot be reached."""

    def __init__(self, period: int, gone_after: int, interval: int, away: tuple[int, int]) -> None:
        self.period, self.gone_after, self.interval, self.away = period, gone_after, interval, away
        self.seen = SeenSign("", 0.0)

    def newest_beat(self, at: int, dies: int) -> int:
        """The heartbeat that stands in the row: none arrives while the database is away."""
        newest = min(at, dies) // self.period * self.period
        while newest > 0 and self.is_away(newest):
            newest -= self.period
        return newest

    def is_away(self, at: int) -> bool:
        start, end = self.away
        return start <= at < end

    def look(self, at: int, dies: int) -> LostWorkers:
        now = EPOCH + timedelta(seconds=at)
        start, end = self.away
        # The workers get a heartbeat's time to reconnect, as after any outage.
        downtime = (
            [(EPOCH + timedelta(seconds=start), EPOCH + timedelta(seconds=end + self.period))] if at >= end else []
        )
        state = str(self.newest_beat(at, dies))
        if state != self.seen.state:
            self.seen = SeenSign(state, now.timestamp())
        return lost_among({"w": self.seen}, now, audible_spans(now, downtime), float(self.gone_after), {"w"})

    def found(self, dies: int, first_look: int, until: int) -> int | None:
        """When a sweep takes the worker for gone; None: until then, none does."""
        at = first_look
        while at <= until:
            if self.is_away(at):
                at += 1
                continue
            lost = self.look(at, dies)
            if lost.states:
                return at
            soon = lost.next_seconds
            at += self.interval if soon is None else min(self.interval, max(1, int(soon)))
        return None


@settings(max_examples=examples(60, all_of_them=3000), deadline=None)
@given(seconds(1, 30), seconds(1, 60), seconds(0, 60), seconds(0, 300), seconds(0, 200), st.data())
def test_dead_worker_is_found_in_time_and_a_live_one_never(
    period: int, interval: int, first_look: int, away_from: int, away_for: int, data: st.DataObject
) -> None:
    gone_after = data.draw(seconds(period + interval + 1, 200))
    clock = Clock(period, gone_after, interval, (away_from + 1, away_from + 1 + away_for))
    assert clock.found(dies=10_000, first_look=first_look, until=800) is None
    dies = data.draw(seconds(0, 400))
    clock = Clock(period, gone_after, interval, (away_from + 1, away_from + 1 + away_for))
    found = clock.found(dies, first_look, until=2_000)
    assert found is not None
    # After deaf time the next sweep is an interval away: how long it takes until then is not known before.
    deaf = away_for + period + interval if found > away_from else 0
    assert found - max(dies, first_look) <= gone_after + interval + deaf

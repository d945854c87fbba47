"""What counts as silence: only time in which a sign of life could have been written and seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reaper.model import DISTANT_PAST, ServerClock
from reaper.staleness.downtime import DowntimeTracker

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
STALL = 1800.0


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


class World:
    """A database's clock, its server's start, and the clock of this process, all moved by hand from noon on."""

    def __init__(self, allowance: float = 60, *, started: float = -86400) -> None:
        self.tick = 100.0
        self.clock = 0.0
        self.started = started
        self.downtime = DowntimeTracker(allowance, lambda: self.tick)

    def wait(self, seconds: float) -> None:
        self.tick += seconds
        self.clock += seconds

    def meet(self) -> None:
        self.downtime.record_contact(ServerClock(now=at(self.clock), server_started=at(self.started)))

    def lose(self) -> None:
        self.downtime.record_failure()

    def reach(self, stall: float = STALL) -> float | None:
        """The cutoff in seconds after noon; None when it cannot be reached."""
        cutoff = self.downtime.cutoff(stall).at
        return None if cutoff == DISTANT_PAST else (cutoff - NOON).total_seconds()

    def deaf(self) -> float:
        """How much longer than a stall window one has to look back; infinite where that reaches nothing."""
        reach = self.reach()
        return float("inf") if reach is None else self.clock - reach - STALL


# --- one thing at a time -----------------------------------------------------------------------------------------


def test_clock_is_missing_before_the_first_contact() -> None:
    with pytest.raises(ValueError, match="no contact with the database yet"):
        DowntimeTracker(60).cutoff(STALL)


def test_copy_has_the_same_downtime_and_records_by_itself() -> None:
    world = World(60)
    world.meet()
    world.wait(100)
    world.lose()
    world.wait(100)
    world.meet()
    copy = world.downtime.copy()
    assert (copy.now, copy.cutoff(STALL)) == (world.downtime.now, world.downtime.cutoff(STALL))
    known = world.downtime.cutoff(STALL)
    copy.record_failure()
    world.wait(50)
    copy.record_contact(ServerClock(now=at(world.clock), server_started=at(world.started)))
    assert copy.now > world.downtime.now and world.downtime.cutoff(STALL) == known
    assert copy.excluded_seconds(STALL) > world.downtime.excluded_seconds(STALL)


def test_new_grace_changes_no_downtime_of_before() -> None:
    world = World(60)
    world.meet()
    world.wait(600)
    world.lose()
    world.meet()
    world.wait(1000)
    world.meet()
    before = world.reach()
    world.downtime.set_grace(0)
    assert world.reach() == before


def test_silence_counts_in_full_while_the_server_was_up() -> None:
    world = World()
    for _ in range(5):
        world.meet()
        assert world.reach() == world.clock - STALL
        assert world.deaf() == 0
        world.wait(60)


def test_outage_that_was_seen_is_stepped_over_with_its_grace() -> None:
    world = World(allowance=60)
    world.meet()
    for _ in range(3):
        world.wait(600)
        world.lose()
    world.wait(200)
    world.meet()  # at 2000, away since 0
    assert world.reach() == -STALL
    world.wait(60)
    world.meet()
    assert world.reach() == -STALL
    world.wait(600)
    world.meet()
    assert world.reach() == -STALL + 600
    assert world.deaf() == 2060
    world.wait(1200)
    world.meet()
    assert world.reach() == world.clock - STALL
    assert world.deaf() == 0


def test_failure_between_two_contacts_makes_all_the_time_between_them_downtime() -> None:
    world = World(allowance=0)
    world.meet()
    world.wait(59)
    world.lose()
    world.wait(1)
    world.meet()
    assert world.reach() == -STALL


def test_silence_counts_from_the_start_of_a_server_that_was_up_before_us() -> None:
    world = World(allowance=60, started=-1000)
    world.meet()
    cutoff = world.downtime.cutoff(STALL)
    assert (cutoff.at, cutoff.not_before) == (DISTANT_PAST, at(-940))
    assert cutoff.earliest_possible == at(-STALL)
    assert world.deaf() == float("inf")
    world.wait(STALL - 940 - 1)
    world.meet()
    assert world.reach() is None
    world.wait(1)
    world.meet()
    assert world.reach() == -940
    assert world.downtime.cutoff(STALL + 1).at == DISTANT_PAST
    assert world.downtime.cutoff(STALL - 1).at == at(-939)


def test_silence_counts_from_the_return_of_a_database_that_was_away_before_us() -> None:
    world = World(allowance=60, started=-86400)
    world.lose()
    world.wait(100)
    world.meet()
    assert world.downtime.cutoff(STALL).not_before == at(160)
    world.wait(60 + STALL)
    world.meet()
    assert world.reach() == 160


def test_restart_between_two_contacts_is_downtime_since_the_first_of_them() -> None:
    world = World(allowance=60)
    world.meet()
    world.wait(100)
    world.started = 30.0
    world.meet()
    assert world.reach() == -STALL + 10
    assert world.deaf() == 90


def test_server_that_started_before_the_last_contact_took_over_just_now() -> None:
    world = World(allowance=60)
    world.meet()
    world.wait(100)
    world.started = -500000
    world.meet()
    assert world.reach() == -STALL
    world.wait(100)
    world.meet()
    assert world.reach() == -STALL + 40


def test_grace_of_zero_trusts_restarts_and_not_outages() -> None:
    young = World(allowance=0, started=-1)
    young.meet()
    assert young.reach() == -STALL
    young.wait(60)
    young.started = 30.0
    young.meet()
    assert young.reach() == 60 - STALL
    young.lose()
    young.wait(60)
    young.started = 110.0
    young.meet()
    assert young.reach() == 60 - STALL


def test_grace_of_zero_makes_only_the_wait_at_the_start_downtime() -> None:
    world = World(allowance=0)
    world.wait(10)
    world.lose()
    world.wait(90)
    world.meet()
    assert world.reach() == -STALL


def test_clock_jump_ahead_is_downtime() -> None:
    world = World()
    world.meet()
    world.wait(60)
    world.clock += 7 * 3600
    world.meet()
    assert world.reach() == -STALL + 60
    world.wait(STALL)
    world.meet()
    assert world.reach() == world.clock - STALL


def test_small_differences_of_the_clocks_are_no_jump() -> None:
    world = World()
    for _ in range(10):
        world.meet()
        world.wait(60)
        world.clock += 4.9
    world.meet()
    assert world.deaf() == 0


def test_clock_that_is_set_back_makes_no_downtime() -> None:
    world = World()
    world.meet()
    world.wait(60)
    world.clock -= 3600
    world.meet()
    assert world.reach() == world.clock - STALL


def test_outage_across_which_the_clock_was_set_back_is_as_long_as_we_waited() -> None:
    world = World(allowance=60)
    world.meet()
    world.wait(100)
    world.lose()
    world.wait(200)
    world.clock -= 3600
    world.meet()
    back = world.clock
    assert world.reach() == back - 300 - STALL
    world.wait(60 + 600)
    world.meet()
    assert world.reach() == back - 300 - (STALL - 600)


def test_failover_across_which_the_clock_was_set_back_is_as_long_as_we_waited() -> None:
    world = World(allowance=60)
    world.meet()
    world.wait(300)
    world.clock -= 3600
    world.started = -500000
    world.meet()
    back = world.clock
    world.wait(60 + 600)
    world.meet()
    assert world.reach() == back - 300 - (STALL - 600)


def test_clock_that_is_corrected_leaves_no_downtime_in_the_future() -> None:
    world = World(allowance=60)
    world.clock = 360000.0  # wrong by far, and away
    world.lose()
    world.meet()
    world.clock = 0.0
    world.wait(10)
    world.meet()
    assert world.downtime.cutoff(STALL).not_before == at(70)
    world.wait(60 + STALL)
    world.meet()
    assert world.reach() == 70


def test_stall_of_the_database_is_downtime() -> None:
    world = World(allowance=60)
    world.meet()
    world.wait(100)
    world.downtime.record_stall(80)  # from 20 on, and the allowance to 160
    world.wait(100)
    world.meet()
    assert world.reach() == 200 - STALL - 140


def test_stall_before_the_first_contact_is_a_failure() -> None:
    world = World(allowance=60)
    world.wait(100)
    world.downtime.record_stall(80)
    world.meet()
    assert world.downtime.cutoff(STALL).not_before == at(160)


def test_outages_that_touch_or_overlap_count_once() -> None:
    world = World(allowance=60)
    world.meet()
    for _ in range(3):
        world.wait(10)
        world.lose()
        world.wait(20)
        world.meet()  # 30, 60, 90: the allowance of one reaches into the next
    world.wait(60)
    world.meet()
    assert world.reach() == -STALL
    assert world.deaf() == 150


def test_outages_apart_are_stepped_over_one_by_one() -> None:
    world = World(allowance=0)
    world.meet()
    for _ in range(4):
        world.wait(500)
        world.meet()
        world.lose()
        world.wait(1000)
        world.meet()
    # Heard: 500 before each of four outages of 1000.
    assert world.clock == 6000
    assert world.reach(100) == 4900
    assert world.reach(500) == 4500
    assert world.reach(1100) == 4500 - 1000 - 500 - 100 - 1000
    assert world.reach(2000) == 0
    assert world.reach(2001) == -1


def test_outages_in_any_number_are_not_silence() -> None:
    world = World(allowance=1, started=-1)
    world.meet()
    for _ in range(3000):
        world.lose()
        world.wait(2)
        world.meet()
        world.wait(2)
        world.meet()
    # Each round of 4 seconds was audible for one: after its outage and its allowance.
    assert world.reach(100) == world.clock - 397
    assert world.reach(900) == world.clock - 3597
    # What is too much to remember is taken for deaf as a whole.
    assert world.reach(3001) is None


def test_server_that_booted_with_its_clock_in_the_future_causes_no_downtime_until_then() -> None:
    world = World(60, started=10 * 365 * 86400)
    world.meet()
    assert world.reach() is None
    world.wait(60 + STALL)
    world.meet()
    assert world.reach() == 60


def test_clock_that_jumped_a_year_ahead_and_was_set_back_leaves_no_year_of_downtime() -> None:
    world = World(60)
    world.meet()
    world.wait(60)
    world.clock += 365 * 86400
    world.meet()
    world.wait(60)
    world.clock -= 365 * 86400
    world.meet()
    for _ in range(60):
        world.wait(60)
        world.meet()
    assert world.reach() == world.clock - STALL


def test_stall_of_the_database_is_not_silence() -> None:
    world = World(60)
    world.meet()
    world.wait(STALL)
    world.downtime.record_stall(STALL - 100)
    world.wait(1000)
    world.meet()
    assert world.deaf() == STALL - 100 + 60


# --- against a reference that counts second by second ------------------------------------------------------------


@dataclass
class BySeconds:
    """The same rules, for whole seconds, with a set of deaf ones instead of intervals."""

    allowance: int
    deaf: set[int] = field(default_factory=set)
    forever_before: int | None = None
    last: int | None = None
    last_tick: int = 0
    started: int = 0
    failed: bool = False

    def met(self, clock: int, tick: int, started: int) -> None:
        if self.last is None:
            if self.allowance:
                self.forever_before = (clock if self.failed else min(started, clock)) + self.allowance
            elif self.failed:
                self.deaf |= set(range(clock - tick, clock))
        else:
            lived = clock - (tick - self.last_tick)
            since = lived if lived < self.last - 5 else self.last
            if self.failed:
                self.deaf |= set(range(since, clock + self.allowance))
            elif started != self.started and self.allowance:
                self.deaf |= set(range(since, (started if self.last < started < clock else clock) + self.allowance))
            if lived - self.last > 5:
                self.deaf |= set(range(self.last, lived))
        latest = clock + self.allowance
        self.deaf = {second for second in self.deaf if second < latest}
        if self.forever_before is not None:
            self.forever_before = min(self.forever_before, latest)
        # What a clock that was put back left in the future is forgotten.
        self.deaf = {second for second in self.deaf if second < clock + self.allowance}
        if self.forever_before is not None:
            self.forever_before = min(self.forever_before, clock + self.allowance)
        self.last, self.last_tick, self.started, self.failed = clock, tick, started, False

    def reach(self, stall: int) -> int | None:
        """The latest second with `stall` audible ones after it, up to the last contact."""
        assert self.last is not None
        at, heard = self.last, 0
        while heard < stall:
            at -= 1
            if self.forever_before is not None and at < self.forever_before:
                return None
            heard += at not in self.deaf
        return at


STEPS = st.one_of(
    st.just(("lose", 0)),
    st.tuples(st.just("started"), st.integers(0, 40) | st.integers(50, 400)),
    st.tuples(st.just("jump"), st.integers(-120, 120).filter(lambda s: abs(s) > 5)),
    *[st.tuples(st.just("look"), st.integers(1, 60))] * 3,
)


@given(
    allowance=st.sampled_from([0, 1, 7, 30]),
    started=st.integers(-300, -1),
    steps=st.lists(STEPS, max_size=30),
    stall=st.integers(1, 250),
)
@settings(max_examples=400, derandomize=True, deadline=None, database=None)
def test_cutoff_equals_counting_seconds_of_uptime(
    allowance: int, started: int, steps: list[tuple[str, int]], stall: int
) -> None:
    world, naive = World(allowance, started=started), BySeconds(allowance)
    clock = tick = 0
    for what, number in [*steps, ("look", 1)]:
        if what == "lose":
            world.lose()
            naive.failed = True
        elif what == "started":
            world.started = started = clock - number
        elif what == "jump":
            world.clock += number
            clock += number
        else:
            world.wait(number)
            clock, tick = clock + number, tick + number
            world.meet()
            naive.met(clock, tick, started)
            assert world.reach(stall) == naive.reach(stall)


# --- against a world that is known -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Life:
    """When the server was up (in whole seconds, each time with the second it ended), and when the reaper looked."""

    ups: tuple[tuple[int, int], ...]
    looks: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.ups[-1][1]

    def up_since(self, second: int) -> int | None:
        return next((begin for begin, end in self.ups if begin <= second < end), None)

    def heard_at(self, reconnect: int, every: int) -> list[int]:
        """The signs of a worker that needs a while to reconnect, and then writes at regular intervals."""
        return [s for begin, end in self.ups for s in range(begin + reconnect, end, every)]


@st.composite
def lives(draw: st.DrawFn) -> Life:
    clock, ups = -draw(st.integers(0, 200)), []
    for _ in range(draw(st.integers(1, 5))):
        up = draw(st.integers(1, 150))
        ups.append((clock, clock + up))
        clock += up + draw(st.integers(1, 120))
    looks = draw(st.lists(st.integers(0, max(0, ups[-1][1] - 1)), min_size=1, max_size=40, unique=True))
    return Life(tuple(ups), tuple(sorted(looks)))


def listen(life: Life, allowance: int) -> tuple[World, list[int]]:
    """A reaper that looks at its times, and the moments at which it found the database there."""
    world = World(allowance)
    met = []
    for look in life.looks:
        world.wait(look - world.clock)
        since = life.up_since(look)
        if since is None:
            world.lose()
        else:
            world.started = since
            world.meet()
            met.append(look)
    return world, met


@given(life=lives(), allowance=st.integers(1, 40), data=st.data())
@settings(max_examples=300, derandomize=True, deadline=None, database=None)
def test_worker_that_writes_whenever_it_can_is_never_silent(life: Life, allowance: int, data: st.DataObject) -> None:
    reconnect = data.draw(st.integers(0, allowance), label="reconnect")
    every = data.draw(st.integers(1, 60), label="every")
    stall = data.draw(st.integers(every, 90), label="stall")
    signs = life.heard_at(reconnect, every)
    for count in range(1, len(life.looks) + 1):
        world, met = listen(Life(life.ups, life.looks[:count]), allowance)
        before = [sign for sign in signs if met and sign <= met[-1]]
        if met and met[-1] == life.looks[count - 1] and before:
            reach = world.reach(stall)
            assert reach is None or before[-1] >= reach


@given(life=lives(), allowance=st.integers(0, 40), stall=st.integers(1, 90))
@settings(max_examples=200, derandomize=True, deadline=None, database=None)
def test_job_that_stays_silent_is_found_once_the_database_stays_up(life: Life, allowance: int, stall: int) -> None:
    world, _ = listen(life, allowance)
    world.wait(life.end - world.clock)
    world.started = life.ups[-1][0] if life.up_since(life.end - 1) is not None else life.end
    world.meet()
    world.wait(allowance + stall)
    world.meet()
    reach = world.reach(stall)
    assert reach is not None and reach >= life.end

"""The cutoff for any outages, restarts and clock jumps: against a reference by seconds, and against known uptimes."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.staleness.simulated_database import SimulatedDatabase
from tests.support.examples import examples

# --- against a reference that counts second by second ------------------------------------------------------------


@dataclass
class TrackerBySeconds:
    """The same rules, for whole seconds, with a set of seconds of downtime instead of intervals."""

    grace: int
    downtime_seconds: set[int] = field(default_factory=set)
    not_before: int | None = None
    last: int | None = None
    last_tick: int = 0
    started: int = 0
    failed: bool = False

    def contact(self, clock: int, tick: int, started: int) -> None:
        if self.last is None:
            if self.grace:
                self.not_before = (clock if self.failed else min(started, clock)) + self.grace
            elif self.failed:
                self.downtime_seconds |= set(range(clock - tick, clock))
        else:
            last_by_new_clock = clock - (tick - self.last_tick)
            since = last_by_new_clock if last_by_new_clock < self.last - 5 else self.last
            if self.failed:
                self.downtime_seconds |= set(range(since, clock + self.grace))
            elif started != self.started and self.grace:
                self.downtime_seconds |= set(
                    range(since, (started if self.last < started < clock else clock) + self.grace)
                )
            if last_by_new_clock - self.last > 5:
                self.downtime_seconds |= set(range(self.last, last_by_new_clock))
        latest = clock + self.grace
        self.downtime_seconds = {second for second in self.downtime_seconds if second < latest}
        if self.not_before is not None:
            self.not_before = min(self.not_before, latest)
        # After a clock was set back, no downtime may lie in the future.
        self.downtime_seconds = {second for second in self.downtime_seconds if second < clock + self.grace}
        if self.not_before is not None:
            self.not_before = min(self.not_before, clock + self.grace)
        self.last, self.last_tick, self.started, self.failed = clock, tick, started, False

    def cutoff(self, stall: int) -> int | None:
        """The latest second with `stall` seconds of uptime after it, up to the last contact."""
        assert self.last is not None
        at, uptime = self.last, 0
        while uptime < stall:
            at -= 1
            if self.not_before is not None and at < self.not_before:
                return None
            uptime += at not in self.downtime_seconds
        return at


STEPS = st.one_of(
    st.just(("fail", 0)),
    st.tuples(st.just("started"), st.integers(0, 40) | st.integers(50, 400)),
    st.tuples(st.just("jump"), st.integers(-120, 120).filter(lambda s: abs(s) > 5)),
    *[st.tuples(st.just("contact"), st.integers(1, 60))] * 3,
)


@given(
    grace=st.sampled_from([0, 1, 7, 30]),
    started=st.integers(-300, -1),
    steps=st.lists(STEPS, max_size=30),
    stall=st.integers(1, 250),
)
@settings(max_examples=examples(150, all_of_them=400), derandomize=True, deadline=None, database=None)
def test_cutoff_equals_counting_seconds_of_uptime(
    grace: int, started: int, steps: list[tuple[str, int]], stall: int
) -> None:
    database, reference = SimulatedDatabase(grace, started=started), TrackerBySeconds(grace)
    clock = tick = 0
    for what, number in [*steps, ("contact", 1)]:
        if what == "fail":
            database.fail()
            reference.failed = True
        elif what == "started":
            database.started = started = clock - number
        elif what == "jump":
            database.clock += number
            clock += number
        else:
            database.wait(number)
            clock, tick = clock + number, tick + number
            database.contact()
            reference.contact(clock, tick, started)
            assert database.cutoff(stall) == reference.cutoff(stall)


# --- against a database that is known -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Uptimes:
    """When the server was up (start and end in whole seconds), and when the reaper tried to contact it."""

    ups: tuple[tuple[int, int], ...]
    contacts_at: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.ups[-1][1]

    def up_since(self, second: int) -> int | None:
        return next((begin for begin, end in self.ups if begin <= second < end), None)

    def signs_at(self, reconnect: int, every: int) -> list[int]:
        """The signs of a worker that needs a while to reconnect, and then writes at regular intervals."""
        return [s for begin, end in self.ups for s in range(begin + reconnect, end, every)]


@st.composite
def uptimes_strategy(draw: st.DrawFn) -> Uptimes:
    clock, ups = -draw(st.integers(0, 200)), []
    for _ in range(draw(st.integers(1, 5))):
        up = draw(st.integers(1, 150))
        ups.append((clock, clock + up))
        clock += up + draw(st.integers(1, 120))
    contacts_at = draw(st.lists(st.integers(0, max(0, ups[-1][1] - 1)), min_size=1, max_size=40, unique=True))
    return Uptimes(tuple(ups), tuple(sorted(contacts_at)))


def play(uptimes: Uptimes, grace: int, processes: frozenset[int] = frozenset()) -> tuple[SimulatedDatabase, list[int]]:
    """The database after all contacts, and the moments at which it was up then. At some, another process begins.

    A process notes what it knows at each contact; the next one begins with what was noted last.
    """
    database = SimulatedDatabase(grace)
    contacts: list[int] = []
    noted = None
    for moment in uptimes.contacts_at:
        database.wait(moment - database.clock)
        since = uptimes.up_since(moment)
        if moment in processes:
            database.begin_process()
        if since is None:
            database.fail()
            continue
        database.started = since
        if noted is None or database.downtime.has_contact or not database.resume(noted):
            database.contact()
        contacts.append(moment)
        noted = database.downtime.history()
    return database, contacts


@given(uptimes=uptimes_strategy(), grace=st.integers(1, 40), data=st.data())
@settings(max_examples=examples(100, all_of_them=300), derandomize=True, deadline=None, database=None)
def test_worker_that_writes_whenever_it_can_is_never_silent(uptimes: Uptimes, grace: int, data: st.DataObject) -> None:
    reconnect = data.draw(st.integers(0, grace), label="reconnect")
    every = data.draw(st.integers(1, 60), label="every")
    stall = data.draw(st.integers(every, 90), label="stall")
    signs = uptimes.signs_at(reconnect, every)
    processes = data.draw(st.frozensets(st.sampled_from(uptimes.contacts_at)), label="processes")
    for count in range(1, len(uptimes.contacts_at) + 1):
        database, contacts = play(Uptimes(uptimes.ups, uptimes.contacts_at[:count]), grace, processes)
        before = [sign for sign in signs if contacts and sign <= contacts[-1]]
        if contacts and contacts[-1] == uptimes.contacts_at[count - 1] and before:
            cutoff = database.cutoff(stall)
            assert cutoff is None or before[-1] >= cutoff


@given(uptimes=uptimes_strategy(), grace=st.integers(0, 40), stall=st.integers(1, 90), data=st.data())
@settings(max_examples=examples(75, all_of_them=200), derandomize=True, deadline=None, database=None)
def test_job_that_stays_silent_is_found_once_the_database_stays_up(
    uptimes: Uptimes, grace: int, stall: int, data: st.DataObject
) -> None:
    processes = data.draw(st.frozensets(st.sampled_from(uptimes.contacts_at)), label="processes")
    database, _ = play(uptimes, grace, processes)
    database.wait(uptimes.end - database.clock)
    database.started = uptimes.ups[-1][0] if uptimes.up_since(uptimes.end - 1) is not None else uptimes.end
    database.contact()
    database.wait(grace + stall)
    database.contact()
    cutoff = database.cutoff(stall)
    assert cutoff is not None and cutoff >= uptimes.end

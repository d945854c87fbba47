"""The sweep's choice among any jobs equals that of a plain reading of the rule, written here a second time.

Every moment lies on a grid of minutes, give or take a microsecond, so that thresholds are often met exactly.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from reaper.model import KindThresholds, Outcome, ServerClock, Threshold, Thresholds, Verdict
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from tests.support.examples import examples
from tests.support.protea import PATIENCE, Protea, SweepRecorder

# Far from any clock: a rule that looked at one would choose otherwise. In the past, since a child that runs is alive at
# the moment of the statement, which no real cutoff lies behind.
NOW = datetime(2021, 4, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
KINDS = ("embed", "predict", "é'\"%s:x\\")
STATUSES = ("running", "running", "running", "queued", "succeeded", "failed", "cancelled")


# --- what is drawn -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """Moments are ages: how long before NOW, negative in the future."""

    status: str
    kind: str
    created: timedelta | None
    started: timedelta | None
    finished: timedelta | None
    parent: int | None
    events: tuple[timedelta, ...]


@dataclass(frozen=True)
class Outage:
    """The reaper saw the database go `ago` minutes before NOW, and come back `lasted` minutes later."""

    ago: int
    lasted: int


@dataclass(frozen=True)
class World:
    jobs: tuple[Job, ...]
    timeout: int
    stall: int
    kinds: tuple[tuple[str, int | None, int | None], ...]
    allowance: int
    server_age: int
    outages: tuple[Outage, ...]

    def limits(self, kind: str) -> tuple[int, int]:
        own = {name: (timeout, stall) for name, timeout, stall in self.kinds}.get(kind, (None, None))
        return own[0] or self.timeout, own[1] or self.stall

    def thresholds(self) -> Thresholds:
        def limit(minutes: int | None) -> Threshold | None:
            return Threshold(minutes * 60.0, "drawn") if minutes else None

        return Thresholds(
            Threshold(self.timeout * 60.0, "drawn"),
            Threshold(self.stall * 60.0, "drawn"),
            {name: KindThresholds(limit(timeout), limit(stall)) for name, timeout, stall in self.kinds},
        )


ages = st.builds(
    lambda minutes, microseconds: minutes * MINUTE + timedelta(microseconds=microseconds),
    st.integers(-5, 60),
    st.sampled_from([0, 0, 0, 1, -1]),
)
minutes = st.integers(1, 30)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 10))
    jobs = st.builds(
        Job,
        status=st.sampled_from(STATUSES),
        kind=st.sampled_from(KINDS),
        created=ages | st.none(),
        started=ages | st.none(),
        finished=st.none() | ages,
        parent=st.none() | st.integers(0, count - 1),
        events=st.lists(ages, max_size=3).map(tuple),
    )
    outages, ago = [], 0
    for gap, lasted in draw(st.lists(st.tuples(st.integers(0, 10), st.integers(1, 15)), max_size=3)):
        ago += gap + lasted
        outages.append(Outage(ago, lasted))
    return World(
        jobs=tuple(draw(st.lists(jobs, min_size=count, max_size=count))),
        timeout=draw(minutes),
        stall=draw(minutes),
        kinds=tuple(
            (kind, draw(st.none() | minutes), draw(st.none() | minutes))
            for kind in draw(st.sets(st.sampled_from(KINDS)))
        ),
        allowance=draw(st.sampled_from([0, 0, 1, 5])),
        server_age=draw(st.sampled_from([5, 40, 1000])),
        outages=tuple(reversed(outages)),
    )


# --- the plain reading -------------------------------------------------------------------------------------------


def audible(world: World, minute: int) -> bool:
    """Whether signs of life count in the minute that began so many minutes before NOW."""
    if world.allowance and minute > first_look(world) + world.server_age - world.allowance:
        return False
    return not any(out.ago - out.lasted - world.allowance < minute <= out.ago for out in world.outages)


def first_look(world: World) -> int:
    return max((out.ago for out in world.outages), default=0)


def cutoff(world: World, stall: int) -> timedelta | None:
    """How old a sign must be to lie before a whole stall window of such minutes; None when no sign is old enough."""
    minute = audible_minutes = 0
    while audible_minutes < stall:
        minute += 1
        if minute > 3000:
            return None
        audible_minutes += audible(world, minute)
    return minute * MINUTE


def signs(world: World, number: int) -> list[timedelta]:
    job = world.jobs[number]
    found = list(job.events)
    for child_number, child in enumerate(world.jobs):
        if child.parent == number and child_number != number:
            found += [age for age in (child.created, child.started, child.finished) if age is not None]
            if child.status == "running":
                # It is alive at the moment of the question, and that is later than any cutoff.
                found.append(timedelta.min)
    return found


def verdict(world: World, number: int) -> Verdict:
    job = world.jobs[number]
    timeout, stall = world.limits(job.kind)
    start = job.started if job.started is not None else job.created
    if job.status != "running":
        return Verdict.ENDED
    if start is None or start <= timeout * MINUTE:
        return Verdict.YOUNG
    limit = cutoff(world, stall)
    youngest = min([start, *signs(world, number)])
    return Verdict.STALE if limit is not None and youngest > limit else Verdict.SPARED


# --- the real thing ----------------------------------------------------------------------------------------------


def listened(world: World) -> DowntimeTracker:
    """The downtime tracker of a reaper that went through all outages and is at NOW."""
    tick = 0.0
    downtime = DowntimeTracker(world.allowance * 60.0, lambda: tick)
    first = first_look(world)
    server_started = NOW - (first + world.server_age) * MINUTE

    def meet(ago: int) -> None:
        nonlocal tick
        tick = (first - ago) * 60.0
        downtime.record_contact(ServerClock(NOW - ago * MINUTE, server_started))

    meet(first)
    for out in world.outages:
        meet(out.ago)
        downtime.record_failure()
        meet(out.ago - out.lasted)
    meet(0)
    return downtime


class SourceOfPastContacts(Source):
    """A source whose sweeps judge by the downtime until NOW."""

    def begin_evaluation(self, connection: Connection, downtime: DowntimeTracker) -> EvaluationContext:
        return EvaluationContext.of(downtime, self.thresholds)


def insert(protea: Protea, jobs: Sequence[Job]) -> list[str]:
    def at(age: timedelta | None) -> datetime | None:
        return None if age is None else NOW - age

    ids = [str(uuid.UUID(int=number + 1)) for number in range(len(jobs))]
    rows: list[tuple[Any, ...]] = [
        (id, job.kind, job.status, at(job.created), at(job.started), at(job.finished))
        for id, job in zip(ids, jobs, strict=True)
    ]
    parents = [(ids[job.parent], id) for id, job in zip(ids, jobs, strict=True) if job.parent is not None]
    events = [(id, at(age)) for id, job in zip(ids, jobs, strict=True) for age in job.events]
    with protea.connection.transaction(), protea.connection.cursor() as cursor:
        cursor.execute("DELETE FROM job_event")
        cursor.execute("DELETE FROM job")
        cursor.executemany(
            "INSERT INTO job (id, operation, queue_name, status, created_at, started_at, finished_at)"
            " VALUES (%s, %s, 'q', %s, %s, %s, %s)",
            rows,
        )
        if parents:
            cursor.executemany("UPDATE job SET parent_job_id = %s WHERE id = %s", parents)
        if events:
            cursor.executemany("INSERT INTO job_event (job_id, ts, event) VALUES (%s, %s, 'progress')", events)
    return ids


LONE = Job("running", "embed", 50 * MINUTE, 40 * MINUTE, None, None, (30 * MINUTE,))


@given(world=worlds(), batch_size=st.sampled_from([1, 2, 1000]))
@example(World((LONE,), 30, 30, (), 0, 1000, ()), 1)
@example(World((LONE,), 30, 29, (), 0, 1000, ()), 1)
@example(World((LONE,), 30, 20, (), 5, 1000, (Outage(20, 5),)), 1)
@example(World((LONE,), 30, 19, (), 5, 1000, (Outage(20, 5),)), 1)
@settings(
    max_examples=examples(14, all_of_them=150),
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def check(protea: Protea, world: World, batch_size: int) -> None:
    ids = insert(protea, world.jobs)
    expected = {id: verdict(world, number) for number, id in enumerate(ids)}
    stale = {id for id, said in expected.items() if said is Verdict.STALE}
    downtime = listened(world)
    source = SourceOfPastContacts("main", protea.url, resolve("protea"), world.thresholds(), PATIENCE)

    with source.connect() as connection, source.transaction(connection, read_only=True):
        context = source.begin_evaluation(connection, downtime)
        assert {candidate.key[0] for candidate in source.survey.stream(connection, context)} == stale
        assert source.survey.count_stale(connection, context) == len(stale)
        evidence = source.lookup.evidence(connection, context, [(id,) for id in ids])
        assert {found.key[0]: found.verdict for found in evidence} == expected

    before = protea.statuses()
    recorder = SweepRecorder()
    if batch_size == 1:
        dry = protea.sweep(source, downtime=downtime, dry_run=True)
        assert {found.key[0] for found in dry.would_reap} == stale
        assert protea.statuses() == before

    report = protea.sweep(source, downtime=downtime, batch_size=batch_size, recorder=recorder)
    assert report.outcome is Outcome.DONE, report.error
    assert report.census is not None
    assert report.census.running == sum(said is not Verdict.ENDED for said in expected.values())
    assert report.census.stale == len(stale)
    assert report.census.spared == sum(said is Verdict.SPARED for said in expected.values())
    spared = {id for id, said in expected.items() if said is Verdict.SPARED}
    assert {found.key[0] for found in report.newly_spared} == spared
    after = protea.statuses()
    ended = {id for id in ids if after[id] != before[id]}
    assert ended == stale == {reaped_job.key[0] for reaped_job in recorder.reaped_jobs}
    assert (report.reaped, report.lost, report.locked_total) == (len(stale), 0, 0)
    assert all(after[id] == "failed" for id in ended)
    audits = protea.connection.execute("SELECT job_id::text FROM job_event WHERE event = 'job.timeout'").fetchall()
    assert sorted(job for (job,) in audits) == sorted(ended)


def test_sweep_ends_exactly_the_jobs_that_the_rule_calls_stale(protea: Protea) -> None:
    protea.connection.execute("ALTER TABLE job ALTER created_at DROP NOT NULL")
    check(protea)

"""A sweep that finds nothing, against the bare query for what is stale; and whether finished jobs slow it down."""

from __future__ import annotations

from benchmark import statements
from benchmark.figures import Figure, Invalid, Measured, against, alternate, ratio, timed
from benchmark.scene import Session, add_finished, connect, copy, durable, forgetful, load
from benchmark.sizes import EVENTS_OF_THE_BOUND, RUNNING_OF_THE_BOUND, Sizes
from benchmark.sweeping import Sweeper
from reaper.dev.postgres import Embedded

_FEW, _MANY = "idle", "idle_with_more"


def measure(server: Embedded, sizes: Sizes) -> Measured:
    many = sizes.finished * sizes.finished_factor
    forgetful(server)
    load(server, _FEW, stale=0, live=sizes.running, events=sizes.events, finished=sizes.finished)
    add_finished(copy(server, _FEW, _MANY), many - sizes.finished)
    durable(server)
    with connect(server.url_of(_FEW)) as few, connect(server.url_of(_MANY)) as more:
        here, there = _Idle(few, server.url_of(_FEW)), _Idle(more, server.url_of(_MANY))
        # One database after the other: whoever came first after the other database would find its own pages gone, and
        # bring them back for the next. Rounds take a fraction of what a reap takes: more of them steady the median.
        taken = []
        for idle in (here, there):
            # The first sweep tells of all those that are spared, and warms the caches.
            alternate(1, idle.sweep, idle.survey)
            taken += alternate(2 * sizes.rounds + 1, idle.sweep, idle.survey)
        here.end()
        there.end()
    server.drop_database(_FEW)
    server.drop_database(_MANY)
    names = ("sweep_seconds", "survey_seconds", "sweep_with_more_finished_seconds", "survey_with_more_finished_seconds")
    raw = {
        "running": sizes.running,
        "events": sizes.running * sizes.events,
        "finished": sizes.finished,
        "more_finished": many,
        **dict(zip(names, taken, strict=True)),
    }
    return Measured(_figures(sizes, many, taken), raw)


def _figures(sizes: Sizes, many: int, taken: list[list[float]]) -> list[Figure]:
    swept, surveyed, swept_more, surveyed_more = taken
    at_size = sizes.running >= RUNNING_OF_THE_BOUND
    # What a sweep does beside its survey takes some 30 ms whatever the events: only a long survey can be compared with.
    at_events = at_size and sizes.events >= EVENTS_OF_THE_BOUND
    size = f"{sizes.running:,} running jobs, {sizes.running * sizes.events:,} events"
    return [
        Figure(
            "idle.ratio",
            f"a sweep that finds nothing, against the bare survey query: {size}, {sizes.finished:,} finished jobs",
            ratio(swept, surveyed),
            "×",
            bound=1.15,
            at_size=at_events,
            note=against(swept, surveyed),
        ),
        Figure(
            "idle.ratio_with_more_finished",
            f"the same with {many:,} finished jobs",
            ratio(swept_more, surveyed_more),
            "×",
            bound=1.15,
            at_size=at_events,
            note=against(swept_more, surveyed_more),
        ),
        Figure(
            "idle.growth",
            f"the sweep with {many:,} finished jobs, against the one with {sizes.finished:,}",
            ratio(swept_more, swept),
            "×",
            bound=1.1,
            at_size=at_size,
            note=against(swept_more, swept),
        ),
    ]


class _Idle:
    """One database in which nothing is stale. The sweep's connection is part of its time, the query's is not."""

    def __init__(self, session: Session, url: str) -> None:
        self._session, self._sweeper = session, Sweeper(url, leads=True)

    def sweep(self) -> float:
        return timed(lambda: self._sweeper.sweep(0))

    def survey(self) -> float:
        return timed(self._survey)

    def end(self) -> None:
        self._sweeper.release()

    def _survey(self) -> None:
        if found := self._session.execute(statements.SURVEY).fetchall():
            raise Invalid(f"the hand-written survey found {len(found)} stale jobs where there are none")

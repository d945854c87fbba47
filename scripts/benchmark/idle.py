"""A sweep that finds no stale job, compared with the bare survey query; and the cost of more finished jobs."""

from __future__ import annotations

from benchmark import baselines
from benchmark.fixtures import (
    Session,
    add_finished_jobs,
    connect,
    copy_database,
    create_database,
    use_loading_settings,
    use_measuring_settings,
)
from benchmark.report import Figure, InvalidMeasurement, Measured, interleave, median_ratio, medians_and_spread, timed
from benchmark.sizes import BOUND_EVENTS, BOUND_RUNNING, Sizes
from benchmark.sweeper import Sweeper
from reaper.dev.postgres import PrivatePostgreSQL

_FEW, _MANY = "idle", "idle_with_more"


def measure(server: PrivatePostgreSQL, sizes: Sizes) -> Measured:
    many = sizes.finished * sizes.finished_factor
    use_loading_settings(server)
    create_database(server, _FEW, stale=0, live=sizes.running, events=sizes.events, finished=sizes.finished)
    add_finished_jobs(copy_database(server, _FEW, _MANY), many - sizes.finished)
    use_measuring_settings(server)
    with connect(server.url_of(_FEW)) as few_session, connect(server.url_of(_MANY)) as many_session:
        fewer, more = _IdleDatabase(few_session, server.url_of(_FEW)), _IdleDatabase(many_session, server.url_of(_MANY))
        # One database after the other. If the databases took turns, the first variant after each change would find
        # its pages evicted and would load them for the second. Rounds are short here, so there are more of them: the
        # median is steadier.
        durations = []
        for database in (fewer, more):
            # The first sweep reports all spared jobs and warms the caches, so it is not measured.
            interleave(1, database.sweep, database.survey)
            durations += interleave(2 * sizes.rounds + 1, database.sweep, database.survey)
        fewer.close()
        more.close()
    server.drop_database(_FEW)
    server.drop_database(_MANY)
    names = ("sweep_seconds", "survey_seconds", "sweep_with_more_finished_seconds", "survey_with_more_finished_seconds")
    raw = {
        "running": sizes.running,
        "events": sizes.running * sizes.events,
        "finished": sizes.finished,
        "more_finished": many,
        **dict(zip(names, durations, strict=True)),
    }
    return Measured(_figures(sizes, many, durations), raw)


def _figures(sizes: Sizes, many: int, durations: list[list[float]]) -> list[Figure]:
    swept, surveyed, swept_more, surveyed_more = durations
    at_size = sizes.running >= BOUND_RUNNING
    # What a sweep does beside its survey takes some 30 ms whatever the events: only a long survey can be compared with.
    at_events = at_size and sizes.events >= BOUND_EVENTS
    size = f"{sizes.running:,} running jobs, {sizes.running * sizes.events:,} events"
    return [
        Figure(
            "idle.ratio",
            f"a sweep that finds nothing, against the bare survey query: {size}, {sizes.finished:,} finished jobs",
            median_ratio(swept, surveyed),
            "×",
            bound=1.15,
            at_size=at_events,
            note=medians_and_spread(swept, surveyed),
        ),
        Figure(
            "idle.ratio_with_more_finished",
            f"the same with {many:,} finished jobs",
            median_ratio(swept_more, surveyed_more),
            "×",
            bound=1.15,
            at_size=at_events,
            note=medians_and_spread(swept_more, surveyed_more),
        ),
        Figure(
            "idle.growth",
            f"the sweep with {many:,} finished jobs, against the one with {sizes.finished:,}",
            median_ratio(swept_more, swept),
            "×",
            bound=1.1,
            at_size=at_size,
            note=medians_and_spread(swept_more, swept),
        ),
    ]


class _IdleDatabase:
    """A database without stale jobs. Connecting is part of the sweep's time, but not of the query's."""

    def __init__(self, session: Session, url: str) -> None:
        self._session, self._sweeper = session, Sweeper(url, with_lease=True)

    def sweep(self) -> float:
        return timed(lambda: self._sweeper.sweep(0))

    def survey(self) -> float:
        return timed(self._survey)

    def close(self) -> None:
        self._sweeper.release()

    def _survey(self) -> None:
        if rows := self._session.execute(baselines.SURVEY).fetchall():
            raise InvalidMeasurement(f"the hand-written survey found {len(rows)} stale jobs where there are none")

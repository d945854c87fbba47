"""The survey alone: with statistics that are older than the last heartbeats, with many kinds, without an index.

All jobs are past their timeout. One in twenty is stale; the others have sent a heartbeat since statistics were made.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

from benchmark.fixtures import connect, copy_database, create_database, use_loading_settings, use_measuring_settings
from benchmark.report import (
    MIB,
    Figure,
    InvalidMeasurement,
    Measured,
    interleave,
    median_ratio,
    medians_and_spread,
    timed,
)
from benchmark.sizes import BOUND_RUNNING, Sizes
from benchmark.sweeper import THRESHOLDS
from reaper.database.timeouts import Timeouts
from reaper.dev.postgres import PrivatePostgreSQL
from reaper.model import KindThresholds, Threshold, Thresholds
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker

_EVENTS, _KINDS, _STALE_SHARE = 10, 500, 20
_FRESH, _OLD, _WITHOUT_INDEX = "survey_fresh", "survey_old", "survey_without_index"
_HEARTBEATS = """
INSERT INTO job_event (job_id, ts, event, message, fields)
SELECT id, now(), 'progress', 'batch done', '{"done": 1}'
FROM (SELECT id, row_number() OVER () AS n FROM job WHERE status = 'running') AS running WHERE n %% %(share)s <> 0
"""
_KIND_OF_EACH = "UPDATE job SET operation = 'kind ' || abs(hashtext(id::text)) %% %(kinds)s"


def measure(server: PrivatePostgreSQL, sizes: Sizes) -> Measured:
    use_loading_settings(server)
    create_database(server, _OLD, stale=sizes.running, live=0, events=_EVENTS)
    with connect(server.url_of(_OLD)) as session:
        session.execute(_KIND_OF_EACH, {"kinds": 2 * _KINDS})
        session.execute("VACUUM (FULL, ANALYZE) job")
    for name in (_FRESH, _WITHOUT_INDEX):
        copy_database(server, _OLD, name)
    for name in (_OLD, _FRESH, _WITHOUT_INDEX):
        with connect(server.url_of(name)) as session:
            session.execute(_HEARTBEATS, {"share": _STALE_SHARE})
            session.execute("VACUUM" if name == _OLD else "VACUUM (ANALYZE)")
            if name == _WITHOUT_INDEX:
                session.execute("DROP INDEX ix_job_parent_job_id")
            session.execute("CHECKPOINT")
    use_measuring_settings(server)
    stale = sizes.running // _STALE_SHARE
    fresh, old, without_index = (_survey(server.url_of(name), stale) for name in (_FRESH, _OLD, _WITHOUT_INDEX))
    # Before and after the first survey with kinds, which also compiles its statements.
    memory_before = _peak_memory()
    with_kinds = _survey(server.url_of(_FRESH), stale, _own_thresholds(_KINDS))
    memory = (_peak_memory() - memory_before) / MIB
    rounds = 2 * sizes.rounds + 1
    times = interleave(rounds, fresh, old, without_index, with_kinds)
    for name in (_FRESH, _OLD, _WITHOUT_INDEX):
        server.drop_database(name)
    names = ("fresh", "old_statistics", "without_index", "with_kinds")
    raw: dict[str, Any] = {"running": sizes.running, "stale": stale, "kinds": _KINDS, "kinds_mib": memory}
    raw |= {f"{name}_seconds": seconds for name, seconds in zip(names, times, strict=True)}
    return Measured(_figures(sizes, memory, *times), raw)


def _figures(
    sizes: Sizes,
    memory: float,
    fresh: list[float],
    old: list[float],
    without_index: list[float],
    with_kinds: list[float],
) -> list[Figure]:
    at_size = sizes.running >= BOUND_RUNNING
    what = f"a survey of {sizes.running:,} running jobs, {sizes.running * _EVENTS:,} events"
    variants = [
        ("old_statistics", f"{what}, with statistics older than the last heartbeats, against fresh ones", old, 1.1),
        (
            "without_index",
            "the same survey without an index on the parents' column, against one with it",
            without_index,
            1.1,
        ),
        ("kinds", f"the same survey with thresholds of {_KINDS} kinds, against one without", with_kinds, 1.2),
    ]
    figures = [
        Figure(
            f"survey.{name}",
            text,
            median_ratio(seconds, fresh),
            "×",
            bound=bound,
            at_size=at_size,
            note=f"{medians_and_spread(seconds, fresh)}; best {min(seconds) / min(fresh):.2f}",
        )
        for name, text, seconds, bound in variants
    ]
    growth = Figure("survey.kinds_memory", f"memory that {_KINDS} kinds take", memory, "MiB", bound=10, at_size=at_size)
    return [*figures, growth]


def _own_thresholds(kinds: int) -> Thresholds:
    """A second more for each kind than for the one before: their jobs are judged alike."""
    return Thresholds(
        timeout=THRESHOLDS.timeout,
        stall=THRESHOLDS.stall,
        kinds={
            f"kind {n}": KindThresholds(
                Threshold(THRESHOLDS.timeout.seconds + n, "bench"), Threshold(THRESHOLDS.stall.seconds + n, "bench")
            )
            for n in range(kinds)
        },
    )


def _survey(url: str, stale: int, thresholds: Thresholds = THRESHOLDS) -> Callable[[], float]:
    """Counts the jobs and finds those that are stale, on a connection that it makes first, which is not timed."""
    source = Source("main", url, resolve("protea"), thresholds, Timeouts(statement=300, connect=5))
    downtime = DowntimeTracker(0)

    def survey() -> float:
        with source.connect() as connection:
            context = source.begin_evaluation(connection, downtime)

            def read() -> None:
                with source.transaction(connection, read_only=True):
                    source.survey.count(connection, context, context)
                    found = sum(1 for _ in source.survey.stream(connection, context))
                if found != stale:
                    raise InvalidMeasurement(f"the survey found {found} stale jobs instead of {stale}")

            return timed(read)

    survey()  # compiles the statements, and warms the caches
    return survey


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

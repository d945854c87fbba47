"""A sweep that reaps, compared with one hand-written statement that does the same."""

from __future__ import annotations

from collections.abc import Callable

from benchmark import baselines
from benchmark.comparison import first_difference, read_rows
from benchmark.fixtures import connect, copy_database, create_database, use_loading_settings, use_measuring_settings
from benchmark.report import (
    Figure,
    InvalidMeasurement,
    Measured,
    format_value,
    interleave,
    median_ratio,
    medians_and_spread,
    timed,
)
from benchmark.sizes import BOUND_STALE, Sizes
from benchmark.sweeper import Sweeper
from reaper.dev.postgres import PrivatePostgreSQL

_EVENTS = 5
_TEMPLATE, _COPY = "reap_template", "reap"


def measure(server: PrivatePostgreSQL, sizes: Sizes) -> Measured:
    use_loading_settings(server)
    create_database(server, _TEMPLATE, stale=sizes.stale, live=2 * sizes.stale, events=_EVENTS)
    use_measuring_settings(server)
    comparison = _Comparison(server, sizes.stale)
    # These first runs also warm the caches.
    comparison.compare()
    swept, hand, naive = interleave(sizes.rounds, comparison.sweep, comparison.hand_written, comparison.naive)
    server.drop_database(_COPY)
    server.drop_database(_TEMPLATE)
    raw = {
        "stale": sizes.stale,
        "live": 2 * sizes.stale,
        "events_each": _EVENTS,
        "same_outcome": True,
        "sweep_seconds": swept,
        "hand_written_seconds": hand,
        "naive_seconds": naive,
        "longest_transaction_seconds": comparison.longest[-sizes.rounds :],
    }
    return Measured(_figures(sizes, swept, hand, naive, comparison.longest[-sizes.rounds :]), raw)


def _figures(
    sizes: Sizes, swept: list[float], hand: list[float], naive: list[float], longest: list[float]
) -> list[Figure]:
    at_size = sizes.stale >= BOUND_STALE
    return [
        Figure(
            "reap.ratio",
            f"a sweep that reaps {sizes.stale:,} jobs, against one hand-written statement that does the same",
            median_ratio(swept, hand),
            "×",
            bound=1.25,
            at_size=at_size,
            note=medians_and_spread(swept, hand),
        ),
        Figure(
            "reap.naive_ratio",
            "the same sweep, against a statement that writes no evidence",
            median_ratio(swept, naive),
            "×",
            note=medians_and_spread(swept, naive),
        ),
        Figure(
            "reap.longest_transaction",
            "the longest transaction of a sweep, at batches of 1,000",
            max(longest),
            "s",
            bound=0.25,
            at_size=at_size,
            note=f"the worst of {len(longest)} sweeps; the best: {format_value(min(longest), 's')}",
        ),
    ]


class _Comparison:
    """The variants of reaping, each on a fresh copy of one database. Making the copy is not timed.

    Connecting is part of the sweep's time, but not of the statements'.
    """

    def __init__(self, server: PrivatePostgreSQL, stale: int) -> None:
        self._server, self._stale = server, stale
        self._sweeper = Sweeper(server.url_of(_COPY))
        self.longest: list[float] = []

    def sweep(self) -> float:
        copy_database(self._server, _TEMPLATE, _COPY)
        return timed(self._sweep)

    def hand_written(self) -> float:
        return self._statement(baselines.REAP)

    def naive(self) -> float:
        return self._statement(baselines.NAIVE)

    def compare(self) -> None:
        """Raises InvalidMeasurement when the sweep and the hand-written statement leave different rows."""
        rows = [self._rows_after(variant) for variant in (self.sweep, self.hand_written)]
        if difference := first_difference(*rows):
            raise InvalidMeasurement(f"the sweep and the hand-written statement leave different rows: {difference}")

    def _rows_after(self, variant: Callable[[], float]) -> set[str]:
        variant()
        return read_rows(self._server.url_of(_COPY))

    def _sweep(self) -> None:
        self.longest.append(self._sweeper.sweep(self._stale).longest_transaction_seconds)

    def _statement(self, statement: str) -> float:
        with connect(copy_database(self._server, _TEMPLATE, _COPY)) as session:
            cursor = session.cursor()
            seconds = timed(lambda: cursor.execute(statement))
        if cursor.rowcount != self._stale:
            raise InvalidMeasurement(f"a hand-written statement ended {cursor.rowcount} of {self._stale} jobs")
        return seconds

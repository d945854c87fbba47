"""A sweep that reaps, against one hand-written statement that does the same."""

from __future__ import annotations

from collections.abc import Callable

from benchmark import statements
from benchmark.figures import Figure, Invalid, Measured, against, alternate, ratio, shown, timed
from benchmark.outcome import difference, written
from benchmark.scene import connect, copy, durable, forgetful, load
from benchmark.sizes import STALE_OF_THE_BOUND, Sizes
from benchmark.sweeping import Sweeper
from reaper.dev.postgres import Embedded

_EVENTS = 5
_TEMPLATE, _COPY = "reap_template", "reap"


def measure(server: Embedded, sizes: Sizes) -> Measured:
    forgetful(server)
    load(server, _TEMPLATE, stale=sizes.stale, live=2 * sizes.stale, events=_EVENTS)
    durable(server)
    race = _Race(server, sizes.stale)
    # The first ones warm the caches, too.
    race.compare()
    swept, hand, naive = alternate(sizes.rounds, race.sweep, race.by_hand, race.naively)
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
        "longest_transaction_seconds": race.longest[-sizes.rounds :],
    }
    return Measured(_figures(sizes, swept, hand, naive, race.longest[-sizes.rounds :]), raw)


def _figures(
    sizes: Sizes, swept: list[float], hand: list[float], naive: list[float], longest: list[float]
) -> list[Figure]:
    at_size = sizes.stale >= STALE_OF_THE_BOUND
    return [
        Figure(
            "reap.ratio",
            f"a sweep that reaps {sizes.stale:,} jobs, against one hand-written statement that does the same",
            ratio(swept, hand),
            "×",
            bound=1.25,
            at_size=at_size,
            note=against(swept, hand),
        ),
        Figure(
            "reap.naive_ratio",
            "the same sweep, against a statement that writes no evidence",
            ratio(swept, naive),
            "×",
            note=against(swept, naive),
        ),
        Figure(
            "reap.longest_transaction",
            "the longest transaction of a sweep, at batches of 1,000",
            max(longest),
            "s",
            bound=0.25,
            at_size=at_size,
            note=f"the worst of {len(longest)} sweeps; the best: {shown(min(longest), 's')}",
        ),
    ]


class _Race:
    """Each way of reaping, on a fresh copy of the same database; only the reaping is timed.

    The sweep's connections are part of its time, those of the statements are not.
    """

    def __init__(self, server: Embedded, stale: int) -> None:
        self._server, self._stale = server, stale
        self._sweeper = Sweeper(server.url_of(_COPY))
        self.longest: list[float] = []

    def sweep(self) -> float:
        copy(self._server, _TEMPLATE, _COPY)
        return timed(self._sweep)

    def by_hand(self) -> float:
        return self._statement(statements.REAP)

    def naively(self) -> float:
        return self._statement(statements.NAIVE)

    def compare(self) -> None:
        """Raises Invalid when the sweep and the hand-written statement leave different rows behind."""
        left = [self._left_by(way) for way in (self.sweep, self.by_hand)]
        if differing := difference(*left):
            raise Invalid(f"the sweep and the hand-written statement do not do the same: {differing}")

    def _left_by(self, way: Callable[[], float]) -> set[str]:
        way()
        return written(self._server.url_of(_COPY))

    def _sweep(self) -> None:
        self.longest.append(self._sweeper.sweep(self._stale).longest_transaction_seconds)

    def _statement(self, statement: str) -> float:
        with connect(copy(self._server, _TEMPLATE, _COPY)) as session:
            cursor = session.cursor()
            taken = timed(lambda: cursor.execute(statement))
        if cursor.rowcount != self._stale:
            raise Invalid(f"a hand-written statement ended {cursor.rowcount} of {self._stale} jobs")
        return taken

"""The geometry of the chart of sweeps and of bars, in units of the drawing. The templates draw it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reaper.model import Outcome
from reaper.observers.history import SweepRecord
from reaper.web.ui.formatting import brief, count, duration

BAR_WIDTH = 100.0
"""A bar's length. Its limit is in the middle, so that the limits in a list are aligned."""

CHART_WIDTH, LANE_HEIGHT, LANE_TOP = 1080.0, 62.0, 18.0
_COLUMNS = 72
_SPANS = tuple(
    minutes * 60.0 for minutes in (1, 2, 5, 15, 30, 60, 120, 240, 480, 720, 1440, 2880, 10080, 40320, 525600, 5256000)
)
_WORST = (
    Outcome.FAILED,
    Outcome.HELD,
    Outcome.HALTED,
    Outcome.STOPPED,
    Outcome.QUIET,
    Outcome.OBSERVED,
    Outcome.STANDBY,
    Outcome.DONE,
)


def filled(value: float, limit: float) -> float:
    """How much of a bar is filled: up to its limit in proportion, beyond it ever slower, since it has no end."""
    if not math.isfinite(value):
        return BAR_WIDTH
    if limit <= 0:
        return BAR_WIDTH
    ratio = max(0.0, value) / limit
    return round(BAR_WIDTH * (ratio / 2 if ratio <= 1 else 1 - 1 / (2 * ratio)), 1)


@dataclass(frozen=True, slots=True)
class ChartColumn:
    """The sweeps of one stretch of time: the longest gives the height, the worst outcome the shape."""

    x: float
    y: float
    width: float
    height: float
    outcome: str
    reaped: int
    label: str

    @property
    def middle(self) -> float:
        return round(self.x + self.width / 2, 1)


@dataclass(frozen=True, slots=True)
class Lane:
    """The sweeps of one source. `described` says in words what the drawing shows."""

    source: str
    columns: Sequence[ChartColumn]
    sweeps: int
    reaped: int
    longest: str
    described: str


@dataclass(frozen=True, slots=True)
class Chart:
    """`ticks` are positions on the axis of time, with their labels."""

    lanes: Sequence[Lane]
    ticks: Sequence[tuple[float, str]]
    span: str
    outcomes: Sequence[str]
    """Those that occur, for the legend."""


def chart(sources: Iterable[str], sweeps: Sequence[SweepRecord]) -> Chart:
    """The sweeps of each source on one axis of time, from left to right."""
    oldest = max((sweep.seconds_ago for sweep in sweeps), default=0.0)
    span = next((span for span in _SPANS if span >= oldest), _SPANS[-1])
    lanes = [_lane(source, [sweep for sweep in sweeps if sweep.source == source], span) for source in sources]
    outcomes = {column.outcome for lane in lanes for column in lane.columns}
    ticks = [(round(CHART_WIDTH * (1 - part / 4), 1), "now" if not part else duration(span * part / 4)) for part in
             range(4, -1, -1)]  # fmt: skip
    return Chart(lanes, ticks, duration(span), [outcome for outcome in reversed(_WORST) if outcome in outcomes])


def _lane(source: str, sweeps: Sequence[SweepRecord], span: float) -> Lane:
    bins: dict[int, list[SweepRecord]] = {}
    for sweep in sweeps:
        bins.setdefault(min(_COLUMNS - 1, int(sweep.seconds_ago / span * _COLUMNS)), []).append(sweep)
    longest = max((sweep.duration_seconds for sweep in sweeps), default=0.0)
    columns = [_column(number, bins[number], longest) for number in sorted(bins, reverse=True)]
    reaped = sum(sweep.reaped for sweep in sweeps)
    return Lane(source, columns, len(sweeps), reaped, brief(longest), _described(sweeps, longest, reaped))


def _column(number: int, sweeps: Sequence[SweepRecord], longest: float) -> ChartColumn:
    width = CHART_WIDTH / _COLUMNS
    full_height = LANE_HEIGHT - LANE_TOP
    most = max(sweep.duration_seconds for sweep in sweeps)
    height = round(max(3.0, full_height * most / longest) if longest else 3.0, 1)
    outcome = min((sweep.outcome for sweep in sweeps), key=_WORST.index)
    reaped = sum(sweep.reaped for sweep in sweeps)
    newest = min(sweep.seconds_ago for sweep in sweeps)
    result = f"{outcome}" if len(sweeps) == 1 else f"{len(sweeps)} sweeps, the worst {outcome}"
    label = f"{duration(newest)} ago: {result}, {brief(most)}{f', {reaped} reaped' if reaped else ''}"
    return ChartColumn(
        x=round(CHART_WIDTH - (number + 1) * width + 1.5, 1),
        y=round(LANE_HEIGHT - height, 1),
        width=round(width - 3, 1),
        height=height,
        outcome=outcome.value,
        reaped=reaped,
        label=label,
    )


def _described(sweeps: Sequence[SweepRecord], longest: float, reaped: int) -> str:
    if not sweeps:
        return "No sweep yet."
    outcomes = [sweep.outcome for sweep in sweeps]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in reversed(_WORST) if outcome in outcomes)
    return f"{count(len(sweeps), 'sweep')}: {counts}; {reaped} reaped; the longest took {brief(longest)}."

"""Results of a measure, and statistics for comparing two variants on a noisy machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmark.sizes import Sizes
from reaper.dev.postgres import PrivatePostgreSQL

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table. A figure without a bound is only reported. A bound is checked only when `at_size`."""

    name: str
    what: str
    value: float
    unit: str
    bound: float | None = None
    at_size: bool = True
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the bound holds; None without a bound, or below the size for which it is defined."""
        return self.value <= self.bound if self.bound is not None and self.at_size else None

    @property
    def measured(self) -> str:
        return f"{format_value(self.value, self.unit)}{f' ({self.note})' if self.note else ''}"


@dataclass(frozen=True, slots=True)
class Measured:
    """Result of one measure: its rows of the table, and the raw values behind them."""

    figures: Sequence[Figure]
    raw: Mapping[str, Any]


Measure = Callable[[PrivatePostgreSQL, Sizes], Measured]


class InvalidMeasurement(Exception):
    """The run did not measure what it should have, so its numbers must not be reported."""


def interleave(rounds: int, *variants: Callable[[], float]) -> list[list[float]]:
    """Run all variants once per round. Returns the results per variant.

    Interleaved, because a slow minute of the machine then affects all variants alike.
    """
    results = [[variant() for variant in variants] for _ in range(rounds)]
    return [list(of_variant) for of_variant in zip(*results, strict=True)]


def timed(action: Callable[[], object]) -> float:
    """Wall-clock duration of `action`, in seconds."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def median_ratio(values: Sequence[float], baseline: Sequence[float]) -> float:
    """The median over all rounds of `values` / `baseline`."""
    return median(a / b for a, b in zip(values, baseline, strict=True))


def medians_and_spread(values: Sequence[float], baseline: Sequence[float]) -> str:
    """Text: both medians (seconds), the number of rounds, and the lowest and highest ratio."""
    ratios = [a / b for a, b in zip(values, baseline, strict=True)]
    medians = f"{format_value(median(values), 's')} against {format_value(median(baseline), 's')}"
    return f"{medians}; rounds: {len(ratios)}, {min(ratios):.2f}–{max(ratios):.2f}"


def format_value(value: float, unit: str) -> str:
    """The value with its unit, short enough for a table cell."""
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
    return f"{value:.2f} {unit}" if unit in "×%" else f"{value:.1f} {unit}"

"""What a measure gives back, and how two ways of doing a thing are compared on a noisy machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmark.sizes import Sizes
from reaper.dev.postgres import Embedded

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. Without a bound it is told, not judged; a bound holds only at its own size."""

    name: str
    what: str
    value: float
    unit: str
    bound: float | None = None
    at_size: bool = True
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the bound holds; None where there is nothing to judge."""
        return self.value <= self.bound if self.bound is not None and self.at_size else None

    @property
    def measured(self) -> str:
        return f"{shown(self.value, self.unit)}{f' ({self.note})' if self.note else ''}"


@dataclass(frozen=True, slots=True)
class Measured:
    """The lines of one measure, and every raw figure behind them."""

    figures: Sequence[Figure]
    raw: Mapping[str, Any]


Measure = Callable[[Embedded, Sizes], Measured]


class Invalid(Exception):
    """What was measured is not what was meant: a number would be a lie."""


def alternate(rounds: int, *ways: Callable[[], float]) -> list[list[float]]:
    """What each way took, one after the other in every round, so that a slow minute of the machine hits all of them."""
    taken = [[way() for way in ways] for _ in range(rounds)]
    return [list(of_one) for of_one in zip(*taken, strict=True)]


def timed(action: Callable[[], object]) -> float:
    """Seconds of wall clock."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def ratio(some: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios, round by round."""
    return median(a / b for a, b in zip(some, others, strict=True))


def against(some: Sequence[float], others: Sequence[float]) -> str:
    """The two medians behind a ratio, and how far apart the rounds were."""
    ratios = [a / b for a, b in zip(some, others, strict=True)]
    medians = f"{shown(median(some), 's')} against {shown(median(others), 's')}"
    return f"{medians}; rounds: {len(ratios)}, {min(ratios):.2f}–{max(ratios):.2f}"


def shown(value: float, unit: str) -> str:
    """A number with its unit, short enough for a table."""
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
    return f"{value:.2f} {unit}" if unit in "×%" else f"{value:.1f} {unit}"

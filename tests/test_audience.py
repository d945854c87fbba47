"""Whoever is told of sweeps is told, whatever is wrong with the others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from reaper.audience import Audience
from reaper.model import Census, Outcome, Reaped, SweepReport


class Broken:
    """A subscriber with a defect."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[Reaped]) -> None:
        raise ArithmeticError("reaped")

    def surveyed(self, source: str, census: Census) -> None:
        raise ArithmeticError("surveyed")

    def swept(self, report: SweepReport) -> None:
        raise ArithmeticError("swept")


class Diary:
    """What was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def reaped(self, source: str, sweep_id: str, batch: Sequence[Reaped]) -> None:
        self.told.append("reaped")

    def surveyed(self, source: str, census: Census) -> None:
        self.told.append("surveyed")

    def swept(self, report: SweepReport) -> None:
        self.told.append("swept")


def test_a_defect_of_one_is_raised_when_all_have_been_told() -> None:
    first, last = Diary(), Diary()
    audience = Audience([first, Broken(), last, Broken()])
    with pytest.raises(ArithmeticError, match="surveyed"):
        audience.surveyed("main", Census(0, 0, 0, None))
    with pytest.raises(ArithmeticError, match="reaped"):
        audience.reaped("main", "1", [])
    with pytest.raises(ArithmeticError, match="swept"):
        audience.swept(SweepReport("main", "1", Outcome.DONE, 0.1))
    assert first.told == last.told == ["surveyed", "reaped", "swept"]

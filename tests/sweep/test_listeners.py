"""Every listener of sweeps is called, even if another one has a defect."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from reaper.model import JobCounts, Outcome, ReapedJob, SweepReport
from reaper.sweep.listeners import ListenerGroup


class Broken:
    """A subscriber with a defect."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        raise ArithmeticError("reaped")

    def surveyed(self, source: str, census: JobCounts) -> None:
        raise ArithmeticError("surveyed")

    def swept(self, report: SweepReport) -> None:
        raise ArithmeticError("swept")


class CallRecorder:
    """A subscriber that records its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self.calls.append("reaped")

    def surveyed(self, source: str, census: JobCounts) -> None:
        self.calls.append("surveyed")

    def swept(self, report: SweepReport) -> None:
        self.calls.append("swept")


def test_defect_of_a_listener_is_raised_when_all_have_been_called() -> None:
    first, last = CallRecorder(), CallRecorder()
    listeners = ListenerGroup([first, Broken(), last, Broken()])
    with pytest.raises(ArithmeticError, match="surveyed"):
        listeners.surveyed("main", JobCounts(0, 0, 0, None))
    with pytest.raises(ArithmeticError, match="reaped"):
        listeners.reaped("main", "1", [])
    with pytest.raises(ArithmeticError, match="swept"):
        listeners.swept(SweepReport("main", "1", Outcome.DONE, 0.1))
    assert first.calls == last.calls == ["surveyed", "reaped", "swept"]

"""Everybody who is told what sweeps do: metrics, journal, status, history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from reaper.model import JobCounts, ReapedJob, SweepReport


class SweepListener(Protocol):
    """Told while a sweep works, so that no sweep has to remember all that it did."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None: ...

    def surveyed(self, source: str, census: JobCounts) -> None: ...


class SweepSubscriber(SweepListener, Protocol):
    """Told of everything that sweeps do."""

    def swept(self, report: SweepReport) -> None: ...


class ListenerGroup:
    """Its members are told one after the other: a defect in one of them is no reason not to tell the others.

    It is raised when all have been told, the first where there are several.
    """

    def __init__(self, members: Sequence[SweepSubscriber]) -> None:
        self._members = tuple(members)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self._each(lambda member: member.reaped(source, sweep_id, batch))

    def surveyed(self, source: str, census: JobCounts) -> None:
        self._each(lambda member: member.surveyed(source, census))

    def swept(self, report: SweepReport) -> None:
        self._each(lambda member: member.swept(report))

    def _each(self, tell: Callable[[SweepSubscriber], None]) -> None:
        defects = list[Exception]()
        for member in self._members:
            try:
                tell(member)
            except Exception as defect:  # noqa: BLE001  raised below
                defects.append(defect)
        if defects:
            raise defects[0]

"""Listeners of sweeps: metrics, log, status and history are all subscribers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from reaper.model import JobCounts, ReapedJob, SweepReport


class SweepListener(Protocol):
    """Called during a sweep, after each step, so that the sweep need not collect all that it did."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        """These jobs have been ended, and that is committed."""

    def surveyed(self, source: str, census: JobCounts) -> None:
        """The running jobs have been counted; nothing is ended yet."""


class SweepSubscriber(SweepListener, Protocol):
    """Called during every sweep of a daemon, and at its end."""

    def swept(self, report: SweepReport) -> None: ...


class NullListener:
    """Ignores everything: what a dry run counts is in its report."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None: ...

    def surveyed(self, source: str, census: JobCounts) -> None: ...


class ListenerGroup:
    """Calls its members one after the other, all of them: a defect in one does not keep the others from being called.

    The first defect is raised when all have been called.
    """

    def __init__(self, members: Sequence[SweepSubscriber]) -> None:
        self._members = tuple(members)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self._call_all(lambda member: member.reaped(source, sweep_id, batch))

    def surveyed(self, source: str, census: JobCounts) -> None:
        self._call_all(lambda member: member.surveyed(source, census))

    def swept(self, report: SweepReport) -> None:
        self._call_all(lambda member: member.swept(report))

    def _call_all(self, call: Callable[[SweepSubscriber], None]) -> None:
        defects = list[Exception]()
        for member in self._members:
            try:
                call(member)
            except Exception as defect:  # noqa: BLE001  raised below
                defects.append(defect)
        if defects:
            raise defects[0]

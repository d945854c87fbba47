"""Sweeping sources and looking for their orphans, in one go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from reaper.breaker import Breaker
from reaper.cli import document, exits
from reaper.cli.interrupt import Interrupt
from reaper.cli.orphaned import find_orphans, one_per_broker, revoke_orphans
from reaper.cli.progress import Watched
from reaper.cli.sweeping import code, orders_of, sweep_each
from reaper.model import DatabaseAway, ReaperError, SweepReport
from reaper.operations.orphans import Orphan
from reaper.settings import Settings
from reaper.source import Source


@dataclass(slots=True)
class Orphans:
    """What was found of them, by source, what was revoked, and what stood in the way."""

    found: dict[str, list[Orphan]] = field(default_factory=dict)
    revoked: list[Orphan] = field(default_factory=list)
    errors: list[ReaperError] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(map(len, self.found.values()))

    @property
    def code(self) -> int:
        away = any(isinstance(error, DatabaseAway) for error in self.errors)
        return exits.AWAY if away else exits.FAILED if self.errors else exits.DONE


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was done, or would be, and the exit status."""

    swept: Sequence[tuple[SweepReport, Watched]]
    orphans: Orphans
    status: int

    @property
    def stale(self) -> int:
        return sum(report.census.stale for report, _ in self.swept if report.census)


@dataclass(frozen=True, slots=True)
class Clearing:
    """What is to be cleared."""

    settings: Settings
    sources: Sequence[Source]
    breaker: Breaker

    def look(self) -> Cleared:
        """Changes nothing."""
        swept, status = self._sweep(dry_run=True)
        return Cleared(swept, self._look_for_orphans(), status)

    def clear(self, seen: Cleared | None, *, revoking: bool) -> Cleared:
        """End what is stale; whoever has seen it all has seen what the breaker says, too."""
        swept, status = self._sweep(dry_run=False, force=seen is not None)
        orphans = seen.orphans if seen else self._look_for_orphans()
        if revoking:
            self._revoke(orphans)
        return Cleared(swept, orphans, status)

    def _sweep(self, *, dry_run: bool, force: bool = False) -> tuple[list[tuple[SweepReport, Watched]], int]:
        interrupt = Interrupt(changes=not dry_run)
        with interrupt:
            orders = orders_of(self.settings, force=force, dry_run=dry_run)
            swept = sweep_each(self.settings, self.sources, orders, interrupt)
        told = [exits.INTERRUPTED] if interrupt.asked() else []
        return swept, exits.worst([*told, *(code(report) for report, _ in swept)])

    def _look_for_orphans(self) -> Orphans:
        orphans = Orphans()
        for source in one_per_broker(self.settings, self.sources):
            with _told(orphans):
                orphans.found[source.name] = find_orphans(self.settings, source)
        return orphans

    def _revoke(self, orphans: Orphans) -> None:
        for source in self.sources:
            if found := orphans.found.get(source.name):
                with _told(orphans):
                    orphans.revoked += revoke_orphans(self.settings, source, found)


@contextmanager
def _told(orphans: Orphans) -> Iterator[None]:
    """Trouble with one broker is told, and kept from the others."""
    try:
        yield
    except ReaperError as error:
        orphans.errors.append(error)
        document.say(f"reaper: {error}")

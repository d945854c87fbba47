"""The thresholds of each source: the most specific place counts, and a flag is above them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reaper.model import KindLimits, Limit, Thresholds
from reaper.settings.layers import Layer, Stack
from reaper.settings.lines import Place
from reaper.settings.schema import KindTable, SourceTable


@dataclass(frozen=True)
class Limits:
    """Resolves timeouts and stall windows."""

    stack: Stack
    flags: Layer
    file: Layer

    def of(self, source: str, table: SourceTable) -> Thresholds:
        shared = self.stack.given.kinds
        kinds = {
            kind: KindLimits(
                self._of_kind("timeout_seconds", kind, source, table),
                self._of_kind("stall_seconds", kind, source, table),
            )
            for kind in sorted({*shared, *table.kinds})
        }
        timeout, stall = (self._of_source(knob, source, table) for knob in ("timeout_seconds", "stall_seconds"))
        return Thresholds(timeout, stall, kinds)

    def _of_source(self, knob: str, source: str, table: SourceTable) -> Limit:
        """A flag, the source's own, or the one for all."""
        own = getattr(table, knob)
        if own is None or knob in self.flags.values:
            return Limit(getattr(self.stack.given, knob), self.stack.origin(knob))
        return Limit(own, f"source {source} ({self.file.origin(('sources', source, knob))})")

    def _of_kind(self, knob: str, kind: str, source: str, table: SourceTable) -> Limit | None:
        """The kind's threshold in the source, or in all; a flag is above both."""
        if knob in self.flags.values:
            return None
        places = (
            (table.kinds, ("sources", source, "kinds", kind, knob), f"kind {kind} of source {source}"),
            (self.stack.given.kinds, ("kinds", kind, knob), f"kind {kind}"),
        )
        for kinds, place, words in places:
            seconds = getattr(kinds.get(kind, KindTable()), knob)
            if seconds is not None:
                return Limit(seconds, f"{words} ({self.file.origin(place)})")
        return None


def origins(thresholds: Thresholds) -> Iterator[tuple[Place, str]]:
    """Where each threshold came from, by its place below the source."""
    yield ("timeout_seconds",), thresholds.timeout.origin
    yield ("stall_seconds",), thresholds.stall.origin
    for kind, limits in thresholds.kinds.items():
        for knob, limit in (("timeout_seconds", limits.timeout), ("stall_seconds", limits.stall)):
            if limit is not None:
                yield ("kinds", kind, knob), limit.origin

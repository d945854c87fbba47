"""The thresholds of a source: its timeout, its stall window and those of its kinds, and where each was set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from reaper.config.layers import Layer, LayerStack
from reaper.config.schema import KeyPath, KindTable, SourceTable
from reaper.model import KindThresholds, Threshold, Thresholds


@dataclass(frozen=True)
class ThresholdResolver:
    """Resolves timeouts and stall windows. Precedence: kind in the source, kind, flag, source, all sources.

    Under a flag, the limit of a kind holds only if it is longer.
    """

    stack: LayerStack
    flags: Layer
    file: Layer

    def of(self, source: str, table: SourceTable) -> Thresholds:
        shared = self.stack.settings.kinds
        kinds = {
            kind: KindThresholds(
                self._of_kind("timeout_seconds", kind, source, table),
                self._of_kind("stall_seconds", kind, source, table),
            )
            for kind in sorted({*shared, *table.kinds})
        }
        timeout, stall = (self._of_source(name, source, table) for name in ("timeout_seconds", "stall_seconds"))
        # A flag is the age that a command asks for: shorter limits of kinds and rows give way, longer ones hold.
        at_least = (
            limit if name in self.flags.values else Threshold(0.0, "")
            for name, limit in (("timeout_seconds", timeout), ("stall_seconds", stall))
        )
        return replace(Thresholds(timeout, stall, kinds).at_least(*at_least), timeout=timeout, stall=stall)

    def _of_source(self, name: str, source: str, table: SourceTable) -> Threshold:
        """The flag, else the source's own, else the one for all sources."""
        own = getattr(table, name)
        if own is None or name in self.flags.values:
            return Threshold(getattr(self.stack.settings, name), self.stack.origin(name))
        return Threshold(own, f"source {source} ({self.file.origin(('sources', source, name))})")

    def _of_kind(self, name: str, kind: str, source: str, table: SourceTable) -> Threshold | None:
        """The kind's threshold in the source, else in all sources."""
        candidates = (
            (table.kinds, ("sources", source, "kinds", kind, name), f"kind {kind} of source {source}"),
            (self.stack.settings.kinds, ("kinds", kind, name), f"kind {kind}"),
        )
        for kinds, key, description in candidates:
            seconds = getattr(kinds.get(kind, KindTable()), name)
            if seconds is not None:
                return Threshold(seconds, f"{description} ({self.file.origin(key)})")
        return None


def threshold_origins(thresholds: Thresholds) -> Iterator[tuple[KeyPath, str]]:
    """Where each threshold was set, by its key in the source's table."""
    yield ("timeout_seconds",), thresholds.timeout.origin
    yield ("stall_seconds",), thresholds.stall.origin
    for kind, limits in thresholds.kinds.items():
        for name, limit in (("timeout_seconds", limits.timeout), ("stall_seconds", limits.stall)):
            if limit is not None:
                yield ("kinds", kind, name), limit.origin

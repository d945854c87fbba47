"""Jobs that nothing ends: an operator holds them, or their kind is configured as one that is never ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from reaper.model import JobHold, KeptJob, Key
from reaper.source.survey import Candidate


class JobHolds(Protocol):
    """Keeps the holds of operators. Thread-safe."""

    def of(self, source: str) -> Mapping[Key, JobHold]:
        """The holds of a source, also those that are over. Raises StateUnavailable when they cannot be read."""


def kept_by_hold(hold: JobHold) -> KeptJob:
    until = f"{hold.until:%Y-%m-%d %H:%M:%S} UTC"
    return KeptJob(hold.key, True, f"on hold until {until} by {hold.by}: {hold.reason}")


def kept_by_kind(key: Key, pattern: str) -> KeptJob:
    return KeptJob(key, False, f"its kind is never ended (never: {pattern})")


class KeptTally:
    """How many candidates are kept, and the first `listed` of them."""

    def __init__(self, listed: int) -> None:
        self.total, self.first, self._listed = 0, list[KeptJob](), listed

    def take_out(self, candidates: Iterable[Candidate], holds: Mapping[Key, JobHold]) -> Iterator[Candidate]:
        """The candidates that are not kept; the others are counted."""
        for candidate in candidates:
            if (kept := _kept(candidate, holds)) is None:
                yield candidate
            else:
                self.add(kept)

    def add(self, kept: KeptJob) -> None:
        self.total += 1
        if len(self.first) < self._listed:
            self.first.append(kept)


def _kept(candidate: Candidate, holds: Mapping[Key, JobHold]) -> KeptJob | None:
    if (hold := holds.get(candidate.key)) is not None:
        return kept_by_hold(hold)
    return None if candidate.never is None else kept_by_kind(candidate.key, candidate.never)


def without_kept(candidates: Iterable[Candidate], holds: Mapping[Key, JobHold]) -> Iterator[Candidate]:
    """The candidates that are not kept."""
    return (candidate for candidate in candidates if candidate.never is None and candidate.key not in holds)

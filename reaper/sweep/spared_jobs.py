"""Which jobs past their timeout have been reported as spared: each job is reported once for each reason."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from reaper.common import messages
from reaper.model import Evidence, Key, Verdict

MAX_TRACKED = 1000
"""With more jobs past their timeout in a source, only those that pass it between two sweeps are reported."""


class _Reason(Enum):
    ALIVE = "alive"
    UNKNOWN = "unknown"
    DOWNTIME = "downtime"


_ALL_REASONS = frozenset(_Reason)


class SparedJobTracker:
    """The spared jobs of one source, and for which reasons each was reported. Holds at most MAX_TRACKED keys."""

    def __init__(self) -> None:
        self._reported: dict[Key, frozenset[_Reason]] = {}
        self.complete = True
        """Whether the last sweep read all spared jobs. If not, those that it did not read may have been reported."""

    def clear(self) -> None:
        """No job is spared any more."""
        self._reported.clear()
        self.complete = True

    def unreported(self, spared: Sequence[Key]) -> list[Key]:
        """Those of all spared jobs that were not reported yet. Forgets jobs that are not spared any more."""
        self._reported = {key: self._reported[key] for key in spared if key in self._reported}
        return [key for key in spared if key not in self._reported]

    def maybe_alive_now(self) -> list[Key]:
        """Jobs of which was reported only that nothing certain is known of them: a sign of life is worth a report."""
        return [key for key, reasons in self._reported.items() if _Reason.ALIVE not in reasons]

    def count(self, keys: Sequence[Key]) -> None:
        """These were reported by their number only, and are not reported again."""
        self._reported |= dict.fromkeys(keys, _ALL_REASONS)

    def to_report(self, judged: Sequence[Evidence]) -> list[Evidence]:
        """Those of the judged jobs that are spared for a reason that was not reported of them; now it is."""
        new = []
        for evidence in judged:
            reasons = self._reported.get(evidence.key, frozenset())
            if evidence.verdict is Verdict.SPARED and (reason := _reason(evidence)) not in reasons:
                self._reported[evidence.key] = reasons | {reason}
                new.append(evidence)
        return new


def _reason(evidence: Evidence) -> _Reason:
    if messages.spared_as_unknown(evidence):
        return _Reason.UNKNOWN
    return _Reason.DOWNTIME if messages.spared_by_downtime(evidence) else _Reason.ALIVE

"""Who ends jobs, and in which sweep."""

from __future__ import annotations

from dataclasses import dataclass

from reaper.model import Reason


@dataclass(frozen=True, slots=True)
class AuditInfo:
    """Part of every audit event. `operator` is a person who decided it, and `message` what that person says.

    `action` is named where that person chose it.
    """

    source: str
    sweep_id: str
    host: str
    reason: Reason = Reason.JOB_TIMEOUT
    message: str | None = None
    operator: str | None = None
    action: str | None = None

    def as_fields(self) -> dict[str, str]:
        """What is the same for every job; without a person's message, each has its own, which follows from evidence."""
        known = {
            "reason": self.reason.value,
            "source": self.source,
            "sweep_id": self.sweep_id,
            "host": self.host,
            "operator": self.operator,
            "message": self.message,
            "action": self.action,
        }
        return {name: text for name, text in known.items() if text is not None}

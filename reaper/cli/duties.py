"""What a source's settings ask of the role that the daemon connects as."""

from __future__ import annotations

from reaper.preflight import Duties
from reaper.settings import SourceSettings


def duties_of(found: SourceSettings) -> Duties:
    """To sweep with the source's action, and to purge where that is scheduled."""
    return Duties(found.action, purge=found.purge.cron is not None)

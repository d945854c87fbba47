"""The zone in which a server writes its clock to columns without a zone, as far as its settings say it."""

from __future__ import annotations

from typing import NamedTuple

from reaper.common.time_zones import offset_changes, zone_name


class ServerZone(NamedTuple):
    """The zone of sessions that set none, and `whose` it is: that of the database, or of the server.

    `others` are roles with a zone of their own: "role app: UTC".
    """

    zone: str
    whose: str
    others: tuple[str, ...] = ()

    @property
    def is_utc(self) -> bool:
        """Its clocks always show UTC. A zone that is not known here does not."""
        try:
            return set(offset_changes(zone_name(self.zone)).offsets) == {0}
        except ValueError:
            return False

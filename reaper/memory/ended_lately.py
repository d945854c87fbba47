"""How many jobs were ended lately, by source and slot of time, for the cap on them.

A slot is the moment at which it begins: seconds since 1970 by the state file's own clock. When that clock is put back,
slots in the future count too: a cap may hold for longer, and never for less.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Float, Integer, Table, Text, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from reaper.memory.retention import delete_expired
from reaper.memory.schema import METADATA, NOW
from reaper.memory.state_file import StateFile

_MAX_AGE_SECONDS = 15 * 86_400.0

_ENDED = Table(
    "ended_lately",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("slot", Integer, primary_key=True),
    Column("jobs", Integer, nullable=False),
    Column("recorded_epoch", Float, nullable=False),
)


class EndedLatelyStore:
    """Keeps the counts. Thread-safe; every method raises StateUnavailable when the file cannot be used."""

    def __init__(self, state_file: StateFile) -> None:
        self._file = state_file

    def take(self, source: str, jobs: int, most: int, slots: int, slot_seconds: float) -> tuple[int | None, int]:
        """Count so many jobs, unless that is more than `most` in the last `slots`, of `slot_seconds` each.

        The slot that they are counted in, None when they are not; and how many had been counted before.
        """

        def take(connection: Connection) -> tuple[int | None, int]:
            now = delete_expired(connection, _ENDED, _MAX_AGE_SECONDS)
            slot = int(now // slot_seconds * slot_seconds)
            connection.execute(
                delete(_ENDED).where(_ENDED.c.source == source, _ENDED.c.slot < slot - slots * slot_seconds)
            )
            before = _counted(connection, source, slot - slots * slot_seconds)
            if before + jobs > most:
                return None, before
            row = insert(_ENDED).values(source=source, slot=slot, jobs=jobs, recorded_epoch=now)
            more = {"jobs": _ENDED.c.jobs + row.excluded.jobs, "recorded_epoch": now}
            connection.execute(row.on_conflict_do_update(index_elements=["source", "slot"], set_=more))
            return slot, before

        return self._file.write(take)

    def counted(self, source: str, slots: int, slot_seconds: float) -> int:
        """How many are counted in the last `slots`."""

        def read(connection: Connection) -> int:
            now: float = connection.execute(select(NOW)).scalar_one()
            return _counted(connection, source, now // slot_seconds * slot_seconds - slots * slot_seconds)

        return self._file.read(read, default=0)

    def correct(self, source: str, slot: int, jobs: int) -> None:
        """Add so many jobs to those that `take` has counted; less than 0 takes them off."""
        corrected = update(_ENDED).where(_ENDED.c.source == source, _ENDED.c.slot == slot)
        self._file.write(lambda connection: connection.execute(corrected.values(jobs=_ENDED.c.jobs + jobs)))

    def forget(self, source: str) -> None:
        """Count from now on."""
        self._file.write(lambda connection: connection.execute(delete(_ENDED).where(_ENDED.c.source == source)))


def _counted(connection: Connection, source: str, since: float) -> int:
    """The jobs in the slots since a moment, and in the slot in which it lies, which counts whole."""
    counted = select(func.coalesce(func.sum(_ENDED.c.jobs), 0)).where(_ENDED.c.source == source, _ENDED.c.slot >= since)
    return int(connection.execute(counted).scalar_one())

"""Jobs that operators hold: which, until when, who holds them and why.

A hold is never dropped before its time: when there is no room for another one, that one is refused. Its end is a moment
of the clock of the job's database, which is the clock that a sweep compares it with.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Connection, Float, Table, Text, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from reaper.common import messages
from reaper.errors import StateUnavailable
from reaper.memory.retention import delete_expired
from reaper.memory.schema import METADATA
from reaper.memory.state_file import StateFile
from reaper.model import JobHold, Key

MAX_HOLDS = 1_000
MAX_SECONDS = 31 * 86_400.0
"""For how long a job can be held at once."""
_SETTLED_SECONDS = 1.0

_HOLD = Table(
    "job_hold",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("job_key", Text, primary_key=True),
    Column("until_epoch", Float, nullable=False),
    Column("held_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("recorded_epoch", Float, nullable=False),
)


class JobHoldStore:
    """Keeps the holds of all sources. Thread-safe. Asked before every batch of a sweep."""

    def __init__(self, state_file: StateFile) -> None:
        self._file = state_file
        self._lock = threading.Lock()
        self._writes = 0
        self._version: tuple[object, ...] | None = None
        self._version_since = 0.0
        self._read: Sequence[JobHold] | None = None

    @property
    def durable(self) -> bool:
        """Whether holds outlive the process."""
        return self._file.path is not None

    def of(self, source: str) -> Mapping[Key, JobHold]:
        """The holds of a source, also those that are over. Raises StateUnavailable: it is not known what is held."""
        return {hold.key: hold for hold in self.all() if hold.source == source}

    def names(self, source: str) -> set[str]:
        """The names of the jobs that are held there, as people write them. Raises StateUnavailable."""
        return {messages.format_key(key) for key in self.of(source)}

    def all(self) -> Sequence[JobHold]:
        """The holds of every source. Raises StateUnavailable."""
        version = (self._writes, *self._file.fingerprint())
        with self._lock:
            if version != self._version:
                self._version, self._version_since, self._read = version, time.monotonic(), None
            elif self._read is not None:
                return self._read
            settled = time.monotonic() - self._version_since > _SETTLED_SECONDS
        nothing: Sequence[JobHold] = ()
        holds = self._file.read(_select, default=nothing)
        with self._lock:
            # Two writes within one tick of the file system's clock may leave the same fingerprint.
            if version == self._version and (settled or self._file.path is None):
                self._read = holds
        return holds

    def add(self, hold: JobHold, now: datetime) -> None:
        """Keep this hold, instead of one of the same job. `now` is the clock of its database.

        Raises StateUnavailable when it is not kept.
        """
        self._file.write(lambda connection: _add(connection, hold, now))
        self._writes += 1

    def remove(self, source: str, key: Key) -> JobHold | None:
        """Take a hold back; None when there is none. Raises StateUnavailable."""
        removed = self._file.write(lambda connection: _remove(connection, source, key))
        self._writes += 1
        return removed


def _hold(row: Sequence[Any]) -> JobHold:
    source, key, until, by, reason = row
    return JobHold(source, tuple(json.loads(key)), datetime.fromtimestamp(until, UTC), by, reason)


_COLUMNS = _HOLD.c.source, _HOLD.c.job_key, _HOLD.c.until_epoch, _HOLD.c.held_by, _HOLD.c.reason


def _select(connection: Connection) -> Sequence[JobHold]:
    return [_hold(row) for row in connection.execute(select(*_COLUMNS).order_by(_HOLD.c.until_epoch))]


def _add(connection: Connection, hold: JobHold, now: datetime) -> None:
    recorded = delete_expired(connection, _HOLD, 2 * MAX_SECONDS)
    connection.execute(delete(_HOLD).where(_HOLD.c.source == hold.source, _HOLD.c.until_epoch < now.timestamp()))
    row = {
        "source": hold.source,
        "job_key": json.dumps(hold.key),
        "until_epoch": hold.until.timestamp(),
        "held_by": hold.by,
        "reason": hold.reason,
        "recorded_epoch": recorded,
    }
    new = insert(_HOLD).values(row)
    changed = {name: new.excluded[name] for name in ("until_epoch", "held_by", "reason", "recorded_epoch")}
    connection.execute(new.on_conflict_do_update(index_elements=["source", "job_key"], set_=changed))
    if connection.execute(select(func.count()).select_from(_HOLD)).scalar_one() > MAX_HOLDS:
        raise StateUnavailable(f"{MAX_HOLDS} jobs are held already; take a hold back first (`reaper holds` lists them)")


def _remove(connection: Connection, source: str, key: Key) -> JobHold | None:
    this = _HOLD.c.source == source, _HOLD.c.job_key == json.dumps(key)
    row = connection.execute(select(*_COLUMNS).where(*this)).one_or_none()
    connection.execute(delete(_HOLD).where(*this))
    return None if row is None else _hold(row)

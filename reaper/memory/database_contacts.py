"""When each database was last reached: its own clock, which server it was, and its downtime before that.

A server that was restored from a backup, or replaced by its standby, has another system identifier or timeline, or its
write-ahead log ends earlier.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Column, Connection, Float, Integer, Table, Text, select
from sqlalchemy.dialects.sqlite import insert

from reaper.errors import ReaperError
from reaper.memory.retention import delete_expired, keep_newest
from reaper.memory.schema import METADATA
from reaper.memory.state_file import StateFile

WRITE_SECONDS = 10.0
"""Contacts are written at most once in so many seconds, those of all sources in one transaction."""

MAX_AGE_SECONDS = 90 * 86_400.0
MAX_CONTACTS = 2_000
"""Older contacts are deleted; so are the oldest beyond this number."""

_CONTACT = Table(
    "contact",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("database", Text, primary_key=True),
    Column("clock", Text, nullable=False),
    Column("system_identifier", Text),
    Column("timeline", Integer),
    Column("database_oid", Integer),
    Column("wal_position", Integer),
    Column("server_started", Text),
    Column("downtime", Text),
    Column("recorded_epoch", Float, nullable=False),
)


@dataclass(frozen=True, slots=True)
class DatabaseContact:
    """One successful look at a database.

    `database` says where it is, without a password. `clock` is the database's own clock, and `server_started` the start
    of its server, both in ISO 8601. `wal_position` is the end of what was on the server's disk, in bytes. The identity
    (`system_identifier` to `wal_position`) is None where the role may not read it, or the server has none. `downtime`
    are the intervals before the contact that do not count as silence, oldest first.
    """

    source: str
    database: str
    clock: str
    system_identifier: str | None = None
    timeline: int | None = None
    database_oid: int | None = None
    wal_position: int | None = None
    server_started: str | None = None
    downtime: tuple[tuple[str, str], ...] = ()


class ContactStore:
    """Keeps the last contact with each database of each source. Thread-safe."""

    def __init__(
        self,
        state_file: StateFile,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file, self._monotonic = state_file, monotonic
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, str], DatabaseContact] = {}
        self._recorded: dict[tuple[str, str], float] = {}
        self._next_write = 0.0

    def is_due(self, source: str, database: str) -> bool:
        """Whether the last contact was recorded long enough ago for another one to be worth a look."""
        with self._lock:
            recorded = self._recorded.get((source, database))
        return recorded is None or self._monotonic() - recorded >= WRITE_SECONDS

    def record(self, contact: DatabaseContact) -> None:
        """Keep this contact. It is written now, or with others within seconds. A file that fails is reported once."""
        now = self._monotonic()
        with self._lock:
            key = (contact.source, contact.database)
            self._pending[key], self._recorded[key] = contact, now
            if now < self._next_write:
                return
            self._next_write = now + WRITE_SECONDS
        self.flush()

    def flush(self) -> None:
        """Write what waits to be written."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        try:
            self._file.write(lambda connection: self._upsert(connection, list(pending.values())))
        except ReaperError as error:
            with self._lock:
                self._pending = {**pending, **self._pending}
            self._file.report_once(error)

    def last(self, source: str, database: str) -> DatabaseContact | None:
        """The last contact with this database; None when there was none. Raises StateUnavailable."""
        with self._lock:
            pending = self._pending.get((source, database))
        if pending is not None:
            return pending
        columns = [column for column in _CONTACT.c if column.name != "recorded_epoch"]
        query = select(*columns).where(_CONTACT.c.source == source, _CONTACT.c.database == database)
        row = self._file.read(lambda connection: connection.execute(query).mappings().one_or_none(), default=None)
        return None if row is None else _contact(dict(row))

    def report(self, error: ReaperError) -> None:
        """Report that the file cannot be read: once, until it can be written again."""
        self._file.report_once(error)

    def _upsert(self, connection: Connection, contacts: list[DatabaseContact]) -> None:
        now = delete_expired(connection, _CONTACT, MAX_AGE_SECONDS)
        statement = insert(_CONTACT)
        changed = {column.name: statement.excluded[column.name] for column in _CONTACT.c if not column.primary_key}
        statement = statement.on_conflict_do_update(index_elements=["source", "database"], set_=changed)
        connection.execute(statement, [{**_row(contact), "recorded_epoch": now} for contact in contacts])
        keep_newest(connection, _CONTACT, MAX_CONTACTS, _CONTACT.c.recorded_epoch)


def _row(contact: DatabaseContact) -> dict[str, Any]:
    return {**asdict(contact), "downtime": json.dumps(contact.downtime)}


def _contact(row: dict[str, Any]) -> DatabaseContact:
    downtime = json.loads(row.pop("downtime") or "[]")
    return DatabaseContact(**row, downtime=tuple((start, end) for start, end in downtime))

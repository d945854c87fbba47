"""Signs of life in the future that were seen, and when each was first seen: by database, table, witness and job.

One look of a sweep is one transaction: two processes that share the file agree on when a sign was first seen. A sign
that is lost counts as first seen when it is next looked at, which delays the end of its job by a stall window.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Column, Connection, Float, Table, Text, select
from sqlalchemy.dialects.sqlite import insert

from reaper.errors import ReaperError
from reaper.memory.halt import save_unknown_halt
from reaper.memory.retention import delete_expired, keep_newest
from reaper.memory.schema import METADATA
from reaper.memory.state_file import StateFile
from reaper.staleness.future_signs import SeenSign, is_same

MAX_AGE_SECONDS = 86_400.0
"""Forgotten so long after it was last seen. Not sooner: another source of the same table may look at fewer jobs."""
MAX_JOBS = 1_000
"""Of a table; further ones count as first seen at each look. Those that are known stay: they must grow old."""
MAX_ROWS = 10_000
"""Of all tables: the state file is bounded, and a halt must still fit into it."""
_WRITE_SECONDS = 600.0

_SIGN = Table(
    "future_sign",
    METADATA,
    Column("database", Text, primary_key=True),
    Column("table_name", Text, primary_key=True),
    Column("job", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("first_seen_epoch", Float, nullable=False),
    Column("recorded_epoch", Float, nullable=False),
)


class FutureSignStore:
    """Keeps them in the state file. Thread-safe.

    While the file cannot be used, this process keeps them itself. A file that fails is reported once.
    """

    def __init__(self, state_file: StateFile) -> None:
        self._file = state_file
        self._lock = threading.Lock()
        self._unwritten: dict[tuple[str, str], dict[str, SeenSign]] = {}
        self._written: dict[tuple[str, str], float] = {}

    def known(self, database: str, table: str) -> Mapping[str, SeenSign]:
        """What is kept of this table, by the name of witness and job."""
        try:
            return self._file.read(lambda connection: _kept(connection, database, table), default={})
        except ReaperError as error:
            self._file.report_once(error)
            with self._lock:
                return dict(self._unwritten.get((database, table), {}))

    def observe(self, database: str, table: str, states: Mapping[str, str], now: float) -> Mapping[str, SeenSign]:
        """Keep these states: those that are new, as first seen now."""
        place, known = (database, table), self.known(database, table)
        seen = _merged(known, states, now)
        with self._lock:
            written_lately = time.monotonic() - self._written.get(place, -_WRITE_SECONDS) < _WRITE_SECONDS
        if seen.items() <= known.items() and (written_lately or not seen):
            return known  # a write waits for the disk
        try:
            kept = self._file.write(lambda connection: _observe(connection, database, table, states, now))
        except ReaperError as error:
            self._file.report_once(error)
            with self._lock:
                kept = self._unwritten[place] = seen
            return kept
        with self._lock:
            self._written[place] = time.monotonic()
            self._unwritten.pop(place, None)
        return kept


class ProcessFutureSigns:
    """For a process beside the daemon: the file where a daemon has made one, else this process's own memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._shared = FutureSignStore(StateFile(path, after_loss=save_unknown_halt))
        self._own = FutureSignStore(StateFile(None))

    def known(self, database: str, table: str) -> Mapping[str, SeenSign]:
        """What is kept of this table."""
        return self._store.known(database, table)

    def observe(self, database: str, table: str, states: Mapping[str, str], now: float) -> Mapping[str, SeenSign]:
        """Keep these states."""
        return self._store.observe(database, table, states, now)

    @property
    def _store(self) -> FutureSignStore:
        # A file of ours might belong to another user than the daemon's: it is not made here.
        return self._shared if self._path is not None and os.path.lexists(self._path) else self._own


def _merged(known: Mapping[str, SeenSign], states: Mapping[str, str], now: float) -> dict[str, SeenSign]:
    """What is known after this look. What was first seen in the future, by a clock that was put back, is so now."""
    seen = dict[str, SeenSign]()
    for job, state in sorted(states.items(), key=lambda item: item[0] not in known):
        if len(seen) == MAX_JOBS:
            break
        before = known.get(job)
        same = before is not None and is_same(state, before.state) and before.first_seen <= now
        seen[job] = SeenSign(state, before.first_seen if before is not None and same else now)
    return seen


def _kept(connection: Connection, database: str, table: str) -> dict[str, SeenSign]:
    of_table = _SIGN.c.database == database, _SIGN.c.table_name == table
    rows = connection.execute(select(_SIGN.c.job, _SIGN.c.state, _SIGN.c.first_seen_epoch).where(*of_table))
    return {job: SeenSign(state, first_seen) for job, state, first_seen in rows}


def _observe(
    connection: Connection, database: str, table: str, states: Mapping[str, str], now: float
) -> dict[str, SeenSign]:
    """What is kept of the table afterwards."""
    recorded = delete_expired(connection, _SIGN, MAX_AGE_SECONDS)
    seen = _merged(_kept(connection, database, table), states, now)
    if seen:
        row = insert(_SIGN)
        changed = {name: row.excluded[name] for name in ("state", "first_seen_epoch", "recorded_epoch")}
        row = row.on_conflict_do_update(index_elements=["database", "table_name", "job"], set_=changed)
        own = {"database": database, "table_name": table, "recorded_epoch": recorded}
        rows = [
            {**own, "job": job, "state": one.state, "first_seen_epoch": one.first_seen} for job, one in seen.items()
        ]
        connection.execute(row, rows)
    of_table = _SIGN.c.database == database, _SIGN.c.table_name == table
    keep_newest(connection, _SIGN, MAX_JOBS, _SIGN.c.recorded_epoch, *of_table)
    keep_newest(connection, _SIGN, MAX_ROWS, _SIGN.c.recorded_epoch)
    return _kept(connection, database, table)

"""What the reaper wrote to the rows of jobs that it ended, for the sources that must not take it for a sign of life.

Beside it, the evidence of jobs whose profile writes no audit event, so that `explain` can show why they were ended.

Only tables that such a source asks about are kept, and only so many moments of each. A moment that is lost counts as a
sign of life, as any other does: it delays an end by a stall window.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from sqlalchemy import Column, Connection, Float, Integer, Table, Text, select
from sqlalchemy.dialects.sqlite import insert

from reaper.errors import ReaperError
from reaper.memory.halt import save_unknown_halt
from reaper.memory.retention import delete_expired, keep_newest
from reaper.memory.schema import METADATA
from reaper.memory.state_file import StateFile
from reaper.model import Key
from reaper.staleness.reap_moments import KeptReap

MAX_AGE_SECONDS = 7 * 86_400.0
MAX_MOMENTS = 20_000
"""Older moments are deleted; so are the oldest of a table beyond this number."""

MAX_ROWS = 100_000
"""So are the oldest of all tables beyond this number: the state file is bounded, and a halt must still fit into it."""

_MAX_SHOWN = 10
MAX_REAPS = 5_000
"""The evidence of so many jobs is kept, the newest."""

_REAP = Table(
    "reaped_job",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("database", Text, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("job_key", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("reaped_at", Text),
    Column("recorded_epoch", Float, nullable=False),
)

_MOMENT = Table(
    "reaped_row",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("database", Text, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("moment", Text, nullable=False),
    Column("recorded_epoch", Float, nullable=False),
)


class ReapedRowStore:
    """Keeps the moments that were written to reaped rows, by database and table. Thread-safe.

    What cannot be written to the file is kept in this process. A file that fails is reported once.
    """

    def __init__(self, state_file: StateFile) -> None:
        self._file = state_file
        self._lock = threading.Lock()
        self._unwritten: dict[tuple[str, str], list[str]] = {}

    def remember(self, database: str, table: str, moments: Collection[str]) -> None:
        """Keep these moments, the newest of all."""
        if not moments:
            return
        newest = list(moments)[-MAX_MOMENTS:]
        try:
            self._file.write(lambda connection: _add(connection, database, table, newest))
        except ReaperError as error:
            with self._lock:
                kept = self._unwritten.setdefault((database, table), [])
                kept[:] = [*kept, *newest][-MAX_MOMENTS:]
            self._file.report_once(error)

    def moments(self, database: str, table: str) -> Sequence[str]:
        """The moments that are kept of this table. Without a file that can be read: those of this process."""
        of_table = (_MOMENT.c.database == database, _MOMENT.c.table_name == table)
        query = select(_MOMENT.c.moment).where(*of_table).order_by(_MOMENT.c.id)
        try:
            written: list[str] = self._file.read(lambda connection: list(connection.scalars(query)), default=[])
        except ReaperError as error:
            written = []
            self._file.report_once(error)
        with self._lock:
            return [*written, *self._unwritten.get((database, table), ())]

    def remember_jobs(self, database: str, table: str, jobs: Sequence[KeptReap]) -> None:
        """Keep the evidence of these jobs. What cannot be written is lost: the log has it all the same."""
        if not jobs:
            return
        try:
            self._file.write(lambda connection: _add_reaps(connection, database, table, jobs[-MAX_REAPS:]))
        except ReaperError as error:
            self._file.report_once(error)

    def reaps_of(self, database: str, table: str, key: Key) -> Sequence[KeptReap]:
        """The kept reaps of one job, newest first; none where the file cannot be read."""
        of_job = (_REAP.c.database == database, _REAP.c.table_name == table, _REAP.c.job_key == json.dumps(key))
        query = select(_REAP.c.evidence, _REAP.c.reaped_at).where(*of_job).order_by(_REAP.c.id.desc()).limit(_MAX_SHOWN)

        def read(connection: Connection) -> list[KeptReap]:
            return [KeptReap(key, json.loads(evidence), at) for evidence, at in connection.execute(query)]

        try:
            return self._file.read(read, default=[])
        except ReaperError as error:
            self._file.report_once(error)
            return []


class ProcessReapedRows:
    """For a process beside the daemon: the file where a daemon has made one, else this process's own memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._shared = ReapedRowStore(StateFile(path, after_loss=save_unknown_halt))
        self._own = ReapedRowStore(StateFile(None))

    def remember(self, database: str, table: str, moments: Collection[str]) -> None:
        """Keep these moments."""
        self._store.remember(database, table, moments)

    def moments(self, database: str, table: str) -> Sequence[str]:
        """The moments that are kept of this table."""
        return self._store.moments(database, table)

    def remember_jobs(self, database: str, table: str, jobs: Sequence[KeptReap]) -> None:
        """Keep the evidence of these jobs."""
        self._store.remember_jobs(database, table, jobs)

    def reaps_of(self, database: str, table: str, key: Key) -> Sequence[KeptReap]:
        """The kept reaps of one job, newest first."""
        return self._store.reaps_of(database, table, key)

    @property
    def _store(self) -> ReapedRowStore:
        # A file of ours might belong to another user than the daemon's: it is not made here.
        return self._shared if self._path is not None and os.path.lexists(self._path) else self._own


def _add_reaps(connection: Connection, database: str, table: str, jobs: Sequence[KeptReap]) -> None:
    now = delete_expired(connection, _REAP, MAX_AGE_SECONDS)
    own = {"database": database, "table_name": table, "recorded_epoch": now}
    rows = [
        {**own, "job_key": json.dumps(job.key), "evidence": json.dumps(dict(job.evidence)), "reaped_at": job.reaped_at}
        for job in jobs
    ]
    connection.execute(insert(_REAP), rows)
    keep_newest(connection, _REAP, MAX_REAPS, _REAP.c.id)


def _add(connection: Connection, database: str, table: str, moments: Iterable[str]) -> None:
    now = delete_expired(connection, _MOMENT, MAX_AGE_SECONDS)
    own = {"database": database, "table_name": table, "recorded_epoch": now}
    connection.execute(insert(_MOMENT), [{**own, "moment": moment} for moment in moments])
    of_table = (_MOMENT.c.database == database, _MOMENT.c.table_name == table)
    keep_newest(connection, _MOMENT, MAX_MOMENTS, _MOMENT.c.id, *of_table)
    keep_newest(connection, _MOMENT, MAX_ROWS, _MOMENT.c.id)

"""States of jobs that were seen, and when each was first seen: kept by database, a place in it, and job.

One look of a sweep is one transaction: two processes that share the file agree on when a state was first seen. A state
that is lost counts as first seen when it is next looked at, which delays the end of its job.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from sqlalchemy import Column, ColumnElement, Connection, Float, Table, Text, delete, select
from sqlalchemy.dialects.sqlite import insert

from reaper.errors import ReaperError
from reaper.memory.halt import save_unknown_halt
from reaper.memory.retention import delete_expired, keep_newest
from reaper.memory.schema import METADATA
from reaper.memory.state_file import StateFile
from reaper.staleness.future_signs import SeenSign

_WRITE_SECONDS = 600.0

Seen = dict[str, SeenSign]


def seen_table(name: str, place: str) -> Table:
    """A table of the state file; `place` is the column beside the database."""
    return Table(
        name,
        METADATA,
        Column("database", Text, primary_key=True),
        Column(place, Text, primary_key=True),
        Column("job", Text, primary_key=True),
        Column("state", Text, nullable=False),
        Column("first_seen_epoch", Float, nullable=False),
        Column("recorded_epoch", Float, nullable=False),
    )


class SeenStateStore:
    """Keeps them in the state file. Thread-safe.

    While the file cannot be used, this process keeps them itself. A file that fails is reported once.
    """

    table: ClassVar[Table]
    forgets: ClassVar[bool]
    """A job that a complete look does not find is forgotten: when it is found again, it is another one."""
    max_jobs: ClassVar[int] = 1_000
    """Of a place; further ones count as first seen at each look. Those that are known stay: they must grow old."""
    max_rows: ClassVar[int] = 10_000
    """Of all places: the state file is bounded, and a halt must still fit into it."""
    max_age_seconds: ClassVar[float] = 86_400.0
    """Forgotten so long after it was last seen. Not sooner: another source of the same table may look at fewer jobs."""

    def __init__(self, state_file: StateFile) -> None:
        self._file = state_file
        self._lock = threading.Lock()
        self._unwritten: dict[tuple[str, str], Seen] = {}
        self._written: dict[tuple[str, str], float] = {}
        self._place = self.table.columns[1]

    @staticmethod
    def is_same(state: str, before: str) -> bool:
        """The state that was seen before still holds."""
        return state == before

    def known(self, database: str, place: str) -> Mapping[str, SeenSign]:
        """What is kept of this place, by the name of the job."""
        try:
            return self._file.read(lambda connection: self._kept(connection, database, place), default={})
        except ReaperError as error:
            self._file.report_once(error)
            with self._lock:
                return dict(self._unwritten.get((database, place), {}))

    def observe(
        self, database: str, place: str, states: Mapping[str, str], now: float, *, complete: bool = False
    ) -> Mapping[str, SeenSign]:
        """Keep these states: those that are new, as first seen now. `complete`: there are no others."""
        key, known = (database, place), self.known(database, place)
        seen, forgets = self._merged(known, states, now), self.forgets and complete
        with self._lock:
            written_lately = time.monotonic() - self._written.get(key, -_WRITE_SECONDS) < _WRITE_SECONDS
        unchanged = seen == known if forgets else seen.items() <= known.items()
        if unchanged and (written_lately or not seen):
            return known  # a write waits for the disk
        try:
            kept = self._file.write(
                lambda connection: self._observe(connection, database, place, states, now, forgets=forgets)
            )
        except ReaperError as error:
            self._file.report_once(error)
            with self._lock:
                kept = self._unwritten[key] = seen
            return kept
        with self._lock:
            self._written[key] = time.monotonic()
            self._unwritten.pop(key, None)
        return kept

    def _merged(self, known: Mapping[str, SeenSign], states: Mapping[str, str], now: float) -> Seen:
        """What is known after this look. What was first seen in the future, by a clock that was put back, is so now."""
        seen = Seen()
        for job, state in sorted(states.items(), key=lambda item: item[0] not in known):
            if len(seen) == self.max_jobs:
                break
            before = known.get(job)
            same = before is not None and self.is_same(state, before.state) and before.first_seen <= now
            seen[job] = SeenSign(state, before.first_seen if before is not None and same else now)
        return seen

    def _of_place(self, database: str, place: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        return self.table.c.database == database, self._place == place

    def _kept(self, connection: Connection, database: str, place: str) -> Seen:
        table = self.table
        rows = connection.execute(
            select(table.c.job, table.c.state, table.c.first_seen_epoch).where(*self._of_place(database, place))
        )
        return {job: SeenSign(state, first_seen) for job, state, first_seen in rows}

    def _observe(
        self, connection: Connection, database: str, place: str, states: Mapping[str, str], now: float, *, forgets: bool
    ) -> Seen:
        """What is kept of the place afterwards."""
        table, of_place = self.table, self._of_place(database, place)
        recorded = delete_expired(connection, table, self.max_age_seconds)
        seen = self._merged(self._kept(connection, database, place), states, now)
        if forgets:
            connection.execute(delete(table).where(*of_place))
        if seen:
            row = insert(table)
            changed = {name: row.excluded[name] for name in ("state", "first_seen_epoch", "recorded_epoch")}
            row = row.on_conflict_do_update(index_elements=["database", self._place.name, "job"], set_=changed)
            own = {"database": database, self._place.name: place, "recorded_epoch": recorded}
            rows = [
                {**own, "job": job, "state": one.state, "first_seen_epoch": one.first_seen} for job, one in seen.items()
            ]
            connection.execute(row, rows)
        keep_newest(connection, table, self.max_jobs, table.c.recorded_epoch, *of_place)
        keep_newest(connection, table, self.max_rows, table.c.recorded_epoch)
        return self._kept(connection, database, place)


class ProcessSeenStates:
    """For a process beside the daemon: the file where a daemon has made one, else this process's own memory."""

    def __init__(self, path: Path | None, store: type[SeenStateStore]) -> None:
        self._path = path
        self._shared = store(StateFile(path, after_loss=save_unknown_halt))
        self._own = store(StateFile(None))

    def known(self, database: str, place: str) -> Mapping[str, SeenSign]:
        """What is kept of this place."""
        return self._store.known(database, place)

    def observe(
        self, database: str, place: str, states: Mapping[str, str], now: float, *, complete: bool = False
    ) -> Mapping[str, SeenSign]:
        """Keep these states."""
        return self._store.observe(database, place, states, now, complete=complete)

    @property
    def _store(self) -> SeenStateStore:
        # A file of ours might belong to another user than the daemon's: it is not made here.
        return self._shared if self._path is not None and os.path.lexists(self._path) else self._own

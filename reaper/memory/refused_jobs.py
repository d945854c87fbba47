"""Jobs that the database refused to end, until they are tried again: how often each was refused, and when it is due.

A job that is lost from here is tried again at the next sweep.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import Column, Connection, Float, Integer, Table, Text, bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from reaper.errors import StateUnavailable
from reaper.memory.retention import delete_expired, keep_newest
from reaper.memory.schema import METADATA, NOW
from reaper.memory.state_file import StateFile
from reaper.model import Key

MAX_AGE_SECONDS = 7 * 86_400.0
MAX_JOBS = 50_000
"""Jobs that were refused longer ago are deleted; so are the oldest beyond this number."""

_JOB = Table(
    "refused_job",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("job_key", Text, primary_key=True),
    Column("error", Text, nullable=False),
    Column("refusals", Integer, nullable=False),
    Column("due_epoch", Float, nullable=False),
    Column("recorded_epoch", Float, nullable=False),
)


class RefusedJob(NamedTuple):
    """A job, the error of its last refusal, how often it was refused, and in how many seconds it is due again."""

    key: Key
    error: str
    refusals: int
    due_in_seconds: float


class RefusedJobStore:
    """Keeps the refused jobs of each source. Thread-safe. A file that fails is reported once, and stops nothing."""

    def __init__(self, state_file: StateFile) -> None:
        self._file = state_file

    def load(self, source: str) -> Sequence[RefusedJob]:
        """The refused jobs of a source, those that were refused longest ago first."""
        columns = _JOB.c.job_key, _JOB.c.error, _JOB.c.refusals, (_JOB.c.due_epoch - NOW).label("due_in")
        query = select(*columns).where(_JOB.c.source == source).order_by(_JOB.c.recorded_epoch)

        def read(connection: Connection) -> list[RefusedJob]:
            return [RefusedJob(tuple(json.loads(key)), *rest) for key, *rest in connection.execute(query)]

        try:
            return self._file.read(read, default=[])
        except StateUnavailable as error:
            self._file.report_once(error)
            return []

    def save(self, source: str, refused: Collection[RefusedJob], over: Collection[Key]) -> None:
        """Keep these jobs as they are now, and those of `over` no longer."""
        if not refused and not over:
            return
        try:
            self._file.write(lambda connection: _save(connection, source, refused, over))
        except StateUnavailable as error:
            self._file.report_once(error)


def _save(connection: Connection, source: str, refused: Collection[RefusedJob], over: Collection[Key]) -> None:
    now = delete_expired(connection, _JOB, MAX_AGE_SECONDS)
    if over:
        is_over = delete(_JOB).where(_JOB.c.source == source, _JOB.c.job_key == bindparam("over"))
        connection.execute(is_over, [{"over": json.dumps(key)} for key in over])
    if not refused:
        return
    new = insert(_JOB)
    changed = {column.name: new.excluded[column.name] for column in _JOB.c if not column.primary_key}
    rows = [
        {
            "source": source,
            "job_key": json.dumps(job.key),
            "error": job.error,
            "refusals": job.refusals,
            "due_epoch": now + job.due_in_seconds,
            "recorded_epoch": now,
        }
        for job in refused
    ]
    connection.execute(new.on_conflict_do_update(index_elements=["source", "job_key"], set_=changed), rows)
    keep_newest(connection, _JOB, MAX_JOBS, _JOB.c.recorded_epoch)

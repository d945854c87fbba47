"""Jobs that commands and Celery tasks have ended beside the daemon, until the daemon has taken them into its history.

Only the newest are kept, as in that history. `reap_counts` has the number of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Float, Integer, Row, Table, Text, select
from sqlalchemy.dialects.sqlite import insert

from reaper.memory.inbox import Taker
from reaper.memory.retention import delete_expired, keep_newest
from reaper.memory.schema import METADATA, NOW
from reaper.memory.state_file import StateFile
from reaper.model import ReapedJob

MAX_AGE_SECONDS = 7 * 86_400.0
MAX_JOBS = 200

_REAP = Table(
    "command_reap",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("sweep_id", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("recorded_epoch", Float, nullable=False),
)
_KEPT = ("key", "reason", "kind", "age_seconds", "silence_seconds", "witness", "reaped_at", "action")
"""The fields of a job that are kept."""


class CommandReap(NamedTuple):
    """One job, and who has ended it by which command, so many seconds ago."""

    source: str
    sweep_id: str
    by: str
    job: ReapedJob
    seconds_ago: float


class CommandReapStore:
    """Keeps the jobs until a daemon takes them. One thread may take; any may add."""

    def __init__(self, state_file: StateFile) -> None:
        self._file, self._taker = state_file, Taker(state_file, _REAP)

    def add(self, source: str, sweep_id: str, by: str, batch: Sequence[ReapedJob]) -> None:
        """Keep the last of these jobs. Raises StateUnavailable when nothing was written."""
        own = {"source": source, "sweep_id": sweep_id, "requested_by": by}
        rows = [{**own, "job": json.dumps({name: getattr(job, name) for name in _KEPT})} for job in batch[-MAX_JOBS:]]

        def write(connection: Connection) -> None:
            now = delete_expired(connection, _REAP, MAX_AGE_SECONDS)
            connection.execute(insert(_REAP), [{**row, "recorded_epoch": now} for row in rows])
            keep_newest(connection, _REAP, MAX_JOBS, _REAP.c.id)

        if rows:
            self._file.write(write)

    def take(self, sources: Collection[str]) -> list[CommandReap]:
        """The jobs of these sources, oldest first, which are not kept any longer. A file that fails is reported once.

        Costs next to nothing while no process has written to the file.
        """
        columns = _REAP.c.source, _REAP.c.sweep_id, _REAP.c.requested_by, _REAP.c.job
        query = select(*columns, (NOW - _REAP.c.recorded_epoch).label("ago")).order_by(_REAP.c.id)
        return self._taker.take(sources, query, _reap)


def _reap(row: Row[Any]) -> CommandReap:
    return CommandReap(row.source, row.sweep_id, row.requested_by, _job(row.job), max(0.0, row.ago))


def _job(text: str) -> ReapedJob:
    fields = json.loads(text)
    return ReapedJob(**{**fields, "key": tuple(fields["key"])})

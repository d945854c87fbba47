"""How many jobs commands and Celery tasks have ended beside the daemon, until the daemon has added them to its metrics.

Adding and taking are one transaction each. If a command is killed before it adds, its jobs are not counted; if the
daemon is killed after it has taken, they are lost as all of a daemon's counters are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import Column, Connection, Float, Integer, Table, Text, func, select
from sqlalchemy.dialects.sqlite import insert

from reaper.common.terminal import clipped, shown
from reaper.memory.inbox import Taker
from reaper.memory.retention import delete_expired
from reaper.memory.schema import METADATA
from reaper.memory.state_file import StateFile

MAX_AGE_SECONDS = 90 * 86_400.0
MAX_KINDS = 50
"""How many kinds of a source are counted apart, here and in the metrics. Further ones are counted as OTHER_KINDS."""
MAX_ROWS = 2_000
OTHER_KINDS = "other"
_MAX_LENGTH = 400

_COUNT = Table(
    "reap_count",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("action", Text, primary_key=True),
    Column("jobs", Integer, nullable=False),
    Column("recorded_epoch", Float, nullable=False),
)


def kind_label(kind: str) -> str:
    """A kind as it is counted, here and in the metrics: spelled out for terminals, and cut in length."""
    return clipped(shown(kind), _MAX_LENGTH)


class ReapCount(NamedTuple):
    """So many jobs of a kind, as `kind_label` writes it, were ended for a reason, by an action of their profile. Jobs
    without a kind have an empty one.
    """

    source: str
    kind: str
    reason: str
    action: str
    jobs: int


class ReapCountStore:
    """Keeps the counts until a daemon takes them. One thread may take; any may add."""

    def __init__(self, state_file: StateFile) -> None:
        self._file, self._taker = state_file, Taker(state_file, _COUNT)

    def add(self, source: str, counts: Mapping[tuple[str, str, str], int]) -> None:
        """Add the number of jobs by kind, reason and action. Raises StateUnavailable when nothing was written."""
        self._file.write(lambda connection: self._add(connection, source, counts))

    def take(self, sources: Collection[str]) -> list[ReapCount]:
        """The counts of these sources, which are not kept any longer. A file that fails is reported once.

        Costs next to nothing while no process has written to the file.
        """
        query = select(_COUNT.c.source, _COUNT.c.kind, _COUNT.c.reason, _COUNT.c.action, _COUNT.c.jobs)
        return self._taker.take(sources, query, lambda row: ReapCount(*row))

    def _add(self, connection: Connection, source: str, counts: Mapping[tuple[str, str, str], int]) -> None:
        now = delete_expired(connection, _COUNT, MAX_AGE_SECONDS)
        rows = connection.execute(select(func.count()).select_from(_COUNT)).scalar_one()
        kinds = set(connection.execute(select(_COUNT.c.kind).where(_COUNT.c.source == source)).scalars())
        for (kind, reason, action), jobs in counts.items():
            name = kind_label(kind)
            if name not in kinds and (len(kinds) >= MAX_KINDS or rows >= MAX_ROWS):
                name = OTHER_KINDS
            rows += name not in kinds
            kinds.add(name)
            own = {"source": source, "kind": name, "reason": reason, "action": action}
            row = insert(_COUNT).values(**own, jobs=jobs, recorded_epoch=now)
            more = {"jobs": _COUNT.c.jobs + row.excluded.jobs, "recorded_epoch": now}
            connection.execute(row.on_conflict_do_update(index_elements=[*own], set_=more))

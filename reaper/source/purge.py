"""Deleting finished jobs: found oldest first, locked, judged again, deleted with what goes with them.

One transaction deletes one batch:

1. lock the rows by key, skipping those that somebody holds;
2. in a new statement, whose snapshot sees everything committed before the lock, ask again which of them may go;
3. delete what goes with those, in the profile's order, and then the rows themselves;
4. commit.

A row goes when the profile's purge says that it has ended, and ended before the cutoff; when it does not run, whatever
the purge says; when nothing of `needed` is there; and when no parent or child of it runs. From step 1 on nobody can
change the row, and nobody can make it the parent of a new job where that has a foreign key. A child that begins to
run after step 2 begins as it would after the commit: its parent was gone, and did not keep it from that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Engine,
    FromClause,
    Select,
    and_,
    delete,
    func,
    literal,
    not_,
    or_,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from reaper.database.dialect import dialect_of
from reaper.database.errors import number, sqlstate
from reaper.database.lease import Lease
from reaper.errors import PartialTransition
from reaper.model import Key, TimestampFormat
from reaper.profile import Delete as Step
from reaper.profile import PurgeRules
from reaper.source.survey import Candidate
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables, key_parameters, reserved_alias

_DAY = 86400.0
# A row that has to be changed by a foreign key may be held: to wait for it would keep the batch's other rows locked.
_PATIENCE = {"postgresql": text("SELECT set_config('lock_timeout', '200', true)")}
_PATIENCE_IN_SECONDS = text("SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1")
_HELD, _HELD_NUMBER = "55P03", 1205


def cutoff(connection: Connection, days_to_keep: float) -> datetime:
    """The moment so many days ago, by the database's clock."""
    found: datetime = connection.execute(select(sql.later(sql.now(), -days_to_keep * _DAY))).scalar_one()
    return found


def is_lock_timeout(error: DBAPIError) -> bool:
    """Somebody holds a row that has to be changed."""
    return sqlstate(error) == _HELD or number(error) == _HELD_NUMBER


def purge_lease(engine: Engine, schema: ProfileTables, ttl_seconds: float) -> Lease:
    """The same for every replica, and not that of the sweeps: whoever sweeps need not be the one that purges."""
    own = schema.profile.model_copy(update={"name": f"{schema.profile.name} purge"})
    return Lease(engine, ProfileTables(own), ttl_seconds)


class PurgeStatements:
    """The statements that delete the jobs which had ended before one moment."""

    def __init__(self, schema: ProfileTables, before: datetime) -> None:
        """Raises ValueError for a profile without a purge, or whose jobs are a log."""
        purge = schema.profile.purge
        if purge is None or schema.profile.jobs.log is not None:
            raise ValueError(f"profile {schema.profile.name!r} does not purge")
        self._schema, self._purge, self._before = schema, purge, before
        self._time = schema.time(schema.profile.jobs.table)
        self.lock = self._lock()
        self.judge = self._chosen()
        self.steps = [self._step(step) for step in purge.also]
        self.delete = self._delete(purge)

    def count(self, connection: Connection) -> int:
        """How many may go, now."""
        counted = select(func.count()).select_from(self._schema.jobs).where(self._may_go(self._schema.jobs))
        return int(connection.execute(counted).scalar_one())

    def page(self, after: Candidate | None, limit: int) -> Select[Any]:
        """The next rows that may go, in the order of their ends and keys: each with its end as its claim."""
        jobs = self._schema.jobs
        ended, key = self._ended(jobs), self._schema.key(jobs)
        where = [self._may_go(jobs)]
        if after is not None:
            end = sql.untyped(after.claim[0])
            # The first half says no more than the second, but an index on the end answers it.
            where += [ended >= end, or_(ended > end, _beyond(key, after.key))]
        found = select(*self._schema.key_text(jobs), sql.text_of(ended)).where(*where)
        return found.order_by(ended, *key).limit(limit)

    def stream(self, connection: Connection, after: Candidate | None, limit: int) -> Iterator[Candidate]:
        """The rows of a page one after the other, never all in memory."""
        width = len(self._schema.profile.jobs.key)
        for row in dialect_of(connection).stream(connection, self.page(after, limit)):
            yield Candidate(tuple(row[:width]), tuple(row[width:]))

    def run(self, connection: Connection, keys: Sequence[Key]) -> int:
        """Delete those of the rows that may go, inside the caller's transaction. How many those were.

        Raises DBAPIError when the database refuses any of it, HalfDone when it leaves a row where it is without a word.
        """
        connection.execute(_PATIENCE.get(connection.dialect.name, _PATIENCE_IN_SECONDS))
        locked = [tuple(row) for row in connection.execute(self.lock, key_parameters(keys))] if keys else []
        doomed = [tuple(row) for row in connection.execute(self.judge, key_parameters(locked))] if locked else []
        if not doomed:
            return 0
        for step in self.steps:
            connection.execute(step, key_parameters(doomed))
        gone = connection.execute(self.delete, key_parameters(doomed)).rowcount
        if gone != len(doomed):
            table = self._schema.profile.jobs.table
            raise PartialTransition(
                f"{table}: {gone} of {len(doomed)} finished rows were deleted: a trigger or rule interferes"
            )
        return len(doomed)

    # --- which rows ------------------------------------------------------------------------------------------

    def _may_go(self, jobs: FromClause) -> ColumnElement[bool]:
        return and_(
            self._schema.holds(self._purge.where, jobs, self._schema.profile.jobs.table),
            self._over(jobs),
            not_(self._schema.running(jobs)),
            *(not_(self._schema.exists(needed, jobs)) for needed in self._purge.needed),
            *(not_(relative) for relative in self._running_relatives(jobs)),
        )

    def _over(self, jobs: FromClause) -> ColumnElement[bool]:
        """It ended before the cutoff. Asked of the column as it is stored too: an index on it answers that."""
        columns = [self._schema.instant(self._schema.profile.jobs.table, jobs.c[name]) for name in self._purge.at]
        context = func.coalesce(*columns, type_=sql.INSTANT) if len(columns) > 1 else columns[0]
        return and_(self._ended(jobs) < self._stored(), context < sql.instant(self._before))

    def _ended(self, jobs: FromClause) -> Element:
        """The end as it is stored."""
        columns = [jobs.c[name] for name in self._purge.at]
        return func.coalesce(*columns) if len(columns) > 1 else columns[0]

    def _stored(self) -> Element:
        """The cutoff as the columns store it; of an epoch whole units, which are compared by an index on integers."""
        if self._time in (TimestampFormat.EPOCH_S, TimestampFormat.EPOCH_MS):
            unit = 1 if self._time is TimestampFormat.EPOCH_S else 1000
            return literal(math.ceil(self._before.timestamp() * unit))
        return sql.from_instant(sql.instant(self._before), self._time)

    def _running_relatives(self, jobs: FromClause) -> list[ColumnElement[bool]]:
        """A child runs, or a parent: it may read this one's row, or count it."""
        found: list[ColumnElement[bool]] = []
        for alive in self._schema.profile.alive:
            if alive.children is None:
                continue
            child = self._schema.table(self._schema.profile.jobs.table).alias(reserved_alias("child"))
            parent = self._schema.table(self._schema.profile.jobs.table).alias(reserved_alias("parent"))
            mine = [child.c[name] for name in alive.children.parent]
            above = [jobs.c[name] for name in alive.children.parent]
            for relative, same in (
                (child, ProfileTables.keys_equal(mine, self._schema.key(jobs))),
                (parent, ProfileTables.keys_equal(self._schema.key(parent), above)),
            ):
                there = select(literal(1)).select_from(relative).where(same, self._schema.running(relative))
                found.append(there.correlate(jobs).exists())
        return found

    # --- statements ------------------------------------------------------------------------------------------

    def _chosen(self) -> Select[Any]:
        jobs = self._schema.jobs
        mine = self._schema.key_in_batch(self._schema.key(jobs))
        return select(*self._schema.key_text(jobs)).where(mine, self._may_go(jobs))

    def _lock(self) -> Select[Any]:
        return self._chosen().with_for_update(skip_locked=True)

    def _step(self, step: Step) -> Delete:
        """The rows that go with the jobs of a batch; one that is a job itself never while it runs."""
        theirs, jobs = self._schema.table(step.table), self._schema.jobs.alias(reserved_alias("job"))
        where = [self._schema.key_in_batch(self._schema.key(jobs)), self._schema.related(step, theirs, jobs)]
        if step.table == self._schema.profile.jobs.table:
            where.append(not_(self._schema.running(theirs)))
        return delete(theirs).where(*where)

    def _delete(self, purge: PurgeRules) -> Delete:
        jobs = self._schema.jobs
        mine = delete(jobs).where(self._schema.key_in_batch(self._schema.key(jobs)))
        running = self._schema.profile.jobs.running
        asked = {related.table for related in running.related} if running else set()
        # What has just gone with a job must not make it look like a running one.
        return mine if asked & {step.table for step in purge.also} else mine.where(not_(self._schema.running(jobs)))


def _beyond(columns: Sequence[Element], key: Key) -> ColumnElement[bool]:
    """These columns come after the key, in their own order."""
    (column, *rest), (value, *others) = columns, key
    further: ColumnElement[bool] = column > sql.untyped(value)
    if not rest:
        return further
    return or_(further, and_(column == sql.untyped(value), _beyond(rest, tuple(others))))

"""Deleting finished jobs: find the oldest, lock, judge again, delete them with the rows that belong to them.

One transaction deletes one batch:

1. Lock the rows by key, and skip those that another transaction holds.
2. In a new statement, whose snapshot sees everything that was committed before the lock, ask again which of them may be
   deleted.
3. Delete the rows that belong to those jobs, in the profile's order, and then the jobs' rows.
4. Commit.

A job may be deleted when the profile's purge says that it has ended, and it is known that this was before the cutoff;
when it does not run, whatever the purge says; when no row of `needed` exists; and when no parent or child of it runs.

What others can do between two of these statements:

- A worker or an operator that wants to change or requeue the row waits for our commit, since step 1 has locked it, and
  then finds it gone. Nor can the row become the parent of a new job where that has a foreign key.
- A child that starts to run after step 2 starts as it would after the commit: that its parent is gone does not stop it.
- A second reaper skips the rows that this one has locked.
- If this process is killed, or the server stops or fails over before the commit, the server rolls everything back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, select, text

from reaper.database.dialect import dialect_of
from reaper.database.lease import Lease
from reaper.database.postgresql.settings import set_for_transaction
from reaper.errors import PartialTransition
from reaper.model import Key
from reaper.source.purge_statements import (
    AFTER_END,
    AFTER_KEY,
    BEFORE,
    BEFORE_IN_EVERY_ZONE,
    BEFORE_MS,
    BEFORE_S,
    LIMIT,
    PurgeStatements,
    count_query,
    page_query,
    shared_by_deletable_query,
    shared_in_batch_query,
)
from reaper.source.statements import SourceStatements
from reaper.source.survey import Candidate
from reaper.source.unique_key import key_is_unique, require_unique_key
from reaper.sql import expressions as sql
from reaper.sql.expressions import OWN_PATH
from reaper.sql.keys import key_parameters
from reaper.sql.statement import CompiledStatement
from reaper.sql.tables import ProfileTables
from reaper.staleness.parameters import WESTERNMOST_SECONDS

_DAY_SECONDS = 86400.0
# A foreign key may change rows that another transaction holds: to wait for those would keep the whole batch locked.
_SHORT_LOCK_TIMEOUT = {"postgresql": "SELECT " + set_for_transaction({"lock_timeout": "'200'"})}
_SHORT_LOCK_TIMEOUT_MARIADB = "SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1"


def purge_cutoff(connection: Connection, days_to_keep: float) -> datetime:
    """The moment that many days ago, by the database's clock."""
    moment = sql.add_seconds(sql.now(), -days_to_keep * _DAY_SECONDS)
    cutoff: datetime = connection.execute(select(moment)).scalar_one()
    return cutoff


def purge_lease(engine: Engine, tables: Callable[[], ProfileTables], ttl_seconds: float) -> Lease:
    """The lease of purges, the same for every replica. Not that of sweeps: one replica can sweep and another purge."""

    def purge_tables() -> ProfileTables:
        swept = tables()
        profile = swept.profile.model_copy(update={"name": f"{swept.profile.name} purge"})
        return ProfileTables(profile, swept.schemas, swept.identities)

    return Lease(engine, purge_tables, ttl_seconds)


class JobPurge:
    """Deletes the jobs of one source that ended before one moment."""

    def __init__(self, statements: SourceStatements, before: datetime) -> None:
        """Raises ValueError for a profile without a purge, or whose jobs are a log."""
        self._statements, self._profile = statements, statements.profile
        if self._profile.purge is None or self._profile.jobs.log is not None:
            raise ValueError(f"profile {self._profile.name!r} does not purge")
        self._width = len(self._profile.jobs.key)
        seconds = before.timestamp()
        self._before = {
            BEFORE: before,
            BEFORE_IN_EVERY_ZONE: before - timedelta(seconds=WESTERNMOST_SECONDS),
            # In whole units, so that an index on integers can be used.
            BEFORE_S: math.ceil(seconds),
            BEFORE_MS: math.ceil(seconds * 1000),
        }

    def require_unique_key(self, connection: Connection) -> None:
        """Raises KeyNotUnique when several of the jobs that may be deleted now have one key. Inside a transaction."""
        if not key_is_unique(connection, self._statements.new_rule().tables):
            require_unique_key(self._statements, connection, self._before, shared_by_deletable_query)

    def count(self, connection: Connection) -> int:
        """How many jobs may be deleted now."""
        return int(self._statements.execute(connection, self._before, count_query).scalar_one())

    def stream(self, connection: Connection, after: Candidate | None, limit: int) -> Iterator[Candidate]:
        """The next rows that may be deleted, ordered by their ends and keys, one after the other.

        The end is the candidate's version. The rows are never all in memory.
        """
        values, width = self.page_values(after, limit), self._width
        for row in self._statements.stream(connection, values, page_query, after is not None):
            yield Candidate(tuple(row[:width]), tuple(row[width:]))

    def page_values(self, after: Candidate | None, limit: int) -> dict[str, Any]:
        """The values of the parameters of `page_query`."""
        values = {**self._before, LIMIT: limit}
        if after is None:
            return values
        key = {AFTER_KEY.format(n): part for n, part in enumerate(after.key)}
        return {**values, AFTER_END: after.version[0], **key}

    def run(self, connection: Connection, keys: Sequence[Key]) -> int:
        """Delete those of the jobs that may be deleted, inside the caller's transaction. Returns how many those were.

        Raises DBAPIError when the database refuses any of it, PartialTransition when a row stays without an error,
        KeyNotUnique when one of the jobs has the key of another one, whose rows would be deleted with it.
        """
        statements = self._statements.get(connection.dialect, PurgeStatements)
        short_wait = _SHORT_LOCK_TIMEOUT.get(connection.dialect.name, _SHORT_LOCK_TIMEOUT_MARIADB)
        connection.execute(text(short_wait))
        locked = self._keys(statements.lock, connection, keys) if keys else []
        to_delete = self._keys(statements.second_check, connection, locked) if locked else []
        if not to_delete:
            return 0
        if not key_is_unique(connection, self._statements.new_rule().tables):
            require_unique_key(self._statements, connection, key_parameters(to_delete), shared_in_batch_query)
        dialect = dialect_of(connection)
        values = {**key_parameters(to_delete), OWN_PATH: dialect.own_path(connection)}
        for statement in statements.delete_related:
            statement.execute(connection, values)
            dialect.pin_again(connection)
        deleted = statements.delete.execute(connection, values).rowcount
        if deleted != len(to_delete):
            raise PartialTransition(
                f"{self._profile.jobs.table}: {deleted} of {len(to_delete)} finished rows were deleted: "
                "a trigger or rule interferes"
            )
        return len(to_delete)

    def _keys(self, statement: CompiledStatement, connection: Connection, keys: Sequence[Key]) -> list[Key]:
        values = {**self._before, **key_parameters(keys), **self._statements.identity_values}
        return [tuple(row) for row in statement.execute(connection, values)]

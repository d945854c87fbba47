"""Rows whose job the reaper has ended: the moments that it wrote there, which are no sign of life for another job.

Such a moment is known by three things together: the row's key, the column, and the value as the database writes it. It
was read back in the transaction that wrote it. When a worker writes to the column afterwards, its value is another one,
and counts again. What is not remembered counts, too: the jobs that wait for the row are then spared for a stall window.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ColumnElement, FromClause, String, and_, case, func, literal, select

from reaper.model import Key
from reaper.profile import FromColumn, Insert, Profile
from reaper.profile.audit_events import audit_inserts, constant_values, evidence_path, moments_of
from reaper.sql import expressions as sql
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness import parameters

_SEPARATOR = "\x1f"
_ROUNDING_SECONDS = 1.0
_TRANSACTION_SECONDS = 60.0
"""By how much the moment in a row may be later, or earlier, than that of its audit event, of the same transaction."""


class KeptReap(NamedTuple):
    """One job that was ended, and the evidence for which it was, where nothing of that stays in the database.

    `reaped_at` is just after the transition.
    """

    key: Key
    evidence: Mapping[str, Any]
    reaped_at: str | None


class ReapedRows(Protocol):
    """Keeps what the reaper wrote, by database and table. Thread-safe, and never raises: what is lost is not known."""

    def remember(self, database: str, table: str, moments: Collection[str]) -> None: ...

    def moments(self, database: str, table: str) -> Sequence[str]:
        """The moments that were written to rows of this table, each as `moment_text` makes it."""

    def remember_jobs(self, database: str, table: str, jobs: Sequence[KeptReap]) -> None: ...

    def reaps_of(self, database: str, table: str, key: Key) -> Sequence[KeptReap]:
        """The reaps of this job that are kept, newest first."""


def moment_text(column: str, key: Key, value: str) -> str:
    """One moment that the reaper wrote: the column, the row's key, and the value as the database writes it."""
    return _SEPARATOR.join((column.casefold(), *key, value))


def bare_table(name: str) -> str:
    """The table's name as moments are kept by: profiles may name one table with its schema, or in another case."""
    return name.rpartition(".")[2].casefold()


def silent_tables(profile: Profile) -> Mapping[int, str]:
    """By the number of the witness: the table in whose rows the reaper's own moments are no signs of life."""
    return {
        n: bare_table(alive.rows.table if alive.rows else profile.jobs.table)
        for n, alive in enumerate(profile.alive)
        if alive.reaper_is_silent
    }


def watched_tables(profiles: Iterable[Profile]) -> frozenset[str]:
    """The tables of which these profiles want to know what the reaper wrote."""
    return frozenset(table for profile in profiles for table in silent_tables(profile).values())


def is_reapers(witness: int, rows: FromClause, key: Sequence[str], column: str) -> ColumnElement[bool]:
    """The moment in this column of a row was written by the reaper; `witness` is the number of the witness."""
    parts = [literal(column.casefold(), String), *(sql.text_of(rows.c[name]) for name in (*key, column))]
    separated = [part for n, text in enumerate(parts) for part in ((_SEPARATOR, text) if n else (text,))]
    known = sql.parameter(parameters.REAPERS.format(witness), sql.TEXTS)
    return func.coalesce(sql.text_in(sql.text_of(sql.concat(*separated)), known), False)


def was_audited(tables: ProfileTables, jobs: FromClause, column: str) -> list[ColumnElement[bool]]:
    """For each table of audit events: one of them, with evidence of the reaper, was written with this moment."""
    inserts = audit_inserts(tables.profile).values()
    return [_audited(tables, insert, jobs, column) for insert in inserts if _is_of_one_job(tables.profile, insert)]


def is_audit_event(tables: ProfileTables, table: str, rows: FromClause, jobs: FromClause) -> list[ColumnElement[bool]]:
    """The row is an audit event of the reaper for the job; empty where the table has none."""
    insert = audit_inserts(tables.profile).get(table)
    if insert is None:
        return []
    document, *path = evidence_path(insert)
    by_reaper = sql.json_member(rows.c[document], (*path, "sweep_id")).is_not(None)
    # Other rows may have no JSON there: it is read only of those that look like such an event.
    return [case((and_(*tables.inserted_for_job(insert, rows, jobs)), by_reaper), else_=False)]


def _is_of_one_job(profile: Profile, insert: Insert) -> bool:
    """The event says which job was ended, and when."""
    columns = {value.column for value in constant_values(insert).values() if isinstance(value, FromColumn)}
    return set(profile.jobs.key) <= columns and bool(moments_of(insert))


def _audited(tables: ProfileTables, insert: Insert, jobs: FromClause, column: str) -> ColumnElement[bool]:
    events = tables.table(insert.table).alias(reserved_alias("audit"))
    of_this_job = tables.inserted_for_job(insert, events, jobs)
    document, *path = evidence_path(insert)
    at = tables.instant(tables.profile.jobs.table, jobs, column)
    written = [tables.instant(insert.table, events, name) for name in moments_of(insert)]
    together = [
        at.between(sql.add_seconds(moment, -_TRANSACTION_SECONDS), sql.add_seconds(moment, _ROUNDING_SECONDS))
        for moment in written
    ]
    by_reaper = sql.json_member(events.c[document], (*path, "sweep_id")).is_not(None)
    return select(literal(1)).where(*of_this_job, *together, by_reaper).correlate(jobs).exists()

"""The examination behind `reaper check`: a profile against the real database, everything wrong at once.

Limitation: what only writing would show (a trigger that raises, a policy that refuses a row) is not found; nothing
is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from reaper.model import DatabaseAway
from reaper.preflight.catalog import Catalog, Hidden, Unanswered
from reaper.preflight.evidence import check_evidence
from reaper.preflight.examination import OVERRIDE, Examination
from reaper.preflight.fence import check_fence
from reaper.preflight.finding import Finding, Level
from reaper.preflight.indexes import check_indexes
from reaper.preflight.mariadb import LONGEST_SECONDS, MariaDB
from reaper.preflight.mariadb_checks import check_mariadb, unsupported
from reaper.preflight.moments import check_moments
from reaper.preflight.names import check_names
from reaper.preflight.override import override
from reaper.preflight.postgresql import PostgreSQL
from reaper.preflight.privileges import check_privileges
from reaper.preflight.rows import check_rows
from reaper.preflight.running import check_running
from reaper.preflight.server import check_server, too_old
from reaper.preflight.values import check_values
from reaper.preflight.workers import check_workers
from reaper.preflight.writes import check_writes
from reaper.profile import Profile
from reaper.schema import Schema
from reaper.source import Patience
from reaper.source.session import transaction
from reaper.source.trouble import Trouble, in_one_line, trouble

__all__ = ["Finding", "Level", "check_workers", "examine"]


def examine(
    connection: Connection,
    profile: Profile,
    stall_seconds: float,
    *,
    host_clock: Callable[[], float] | None = None,
    patience_seconds: float = 5.0,
    more: Sequence[Finding] = (),
) -> list[Finding]:
    """Everything that is wrong, what matters most first; nothing is left changed.

    Works for a role that may read none of the tables. Each question about rows is cut off after
    `patience_seconds`, which is then said. `host_clock` gives seconds since 1970, only to be compared. `more` is what
    has been found elsewhere. Raises DatabaseAway, and nothing else, when the database cannot be asked.
    """
    try:
        if connection.dialect.name != "postgresql":
            found = _on_mariadb(connection, profile, stall_seconds, patience_seconds, host_clock)
        else:
            found = _on_postgresql(connection, profile, stall_seconds, patience_seconds, host_clock)
    except DBAPIError as failed:
        if trouble(failed) is Trouble.AWAY:
            raise DatabaseAway(in_one_line(failed)) from None
        raise
    levels = list(Level)
    return sorted([*found, *more], key=lambda finding: levels.index(finding.level))


def _on_postgresql(
    connection: Connection, profile: Profile, stall: float, patience: float, host_clock: Callable[[], float] | None
) -> list[Finding]:
    if (old := too_old(connection.dialect.server_version_info)) is not None:
        return [old]
    with _nothing_kept(connection):
        return _findings(_examination(PostgreSQL(connection, patience), profile, stall), host_clock)


@contextmanager
def _nothing_kept(connection: Connection) -> Iterator[None]:
    begin = connection.begin_nested if connection.in_transaction() else connection.begin
    with begin() as begun:
        connection.execute(text("SET LOCAL transaction_read_only = on"))
        yield
        begun.rollback()


def _on_mariadb(
    connection: Connection, profile: Profile, stall: float, patience: float, host_clock: Callable[[], float] | None
) -> list[Finding]:
    """On a session of its own, outside a transaction."""
    if (why := unsupported(connection, profile)) is not None:
        return [why]
    with transaction(connection, Patience(LONGEST_SECONDS, patience), read_only=True):
        catalog = MariaDB(connection, patience)
        exam = _examination(catalog, profile, stall)
        return _findings(exam, host_clock, check_mariadb(exam, catalog))


def _examination(catalog: Catalog, profile: Profile, stall: float) -> Examination:
    exam = Examination(profile, catalog, Schema(profile), stall)
    for name in sorted(profile.tables):
        try:
            table = catalog.find(name)
        except Unanswered as why:
            exam.closed[name] = str(why)
            continue
        except Hidden as hidden:
            exam.hidden[name] = hidden
            continue
        if table is not None:
            exam.tables[name] = table
    return exam


def _findings(exam: Examination, host_clock: Callable[[], float] | None, more: Iterable[Finding] = ()) -> list[Finding]:
    found = [
        *more,
        *check_server(exam, host_clock),
        *check_names(exam),
        *check_moments(exam),
        *check_values(exam),
        *check_writes(exam),
        *check_evidence(exam),
        *check_privileges(exam),
        *check_running(exam),
        *check_indexes(exam),
        *check_fence(exam),
        *check_rows(exam),
    ]
    fix = override(exam.profile, exam.corrections) if exam.corrections else None
    return list(dict.fromkeys(replace(f, fix=fix) if f.fix == OVERRIDE else f for f in found))

"""The examination behind `reaper check`: a profile against the real database, everything wrong at once.

Limitation: what only writing would show (a trigger that raises, a policy that refuses a row) is not found; nothing
is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from reaper.preflight.catalog import Catalog, Hidden, Unanswered
from reaper.preflight.evidence import check_evidence
from reaper.preflight.examination import OVERRIDE, Examination
from reaper.preflight.fence import check_fence
from reaper.preflight.finding import Finding, Level
from reaper.preflight.indexes import check_indexes
from reaper.preflight.mariadb import MariaDB
from reaper.preflight.mariadb_checks import check_mariadb
from reaper.preflight.moments import check_moments
from reaper.preflight.names import check_names
from reaper.preflight.needs import EVERY_ACTION, Duties
from reaper.preflight.opening import Unsuitable, opened
from reaper.preflight.override import override
from reaper.preflight.privileges import check_privileges
from reaper.preflight.rows import check_rows
from reaper.preflight.running import check_running
from reaper.preflight.server import check_server
from reaper.preflight.values import check_values
from reaper.preflight.workers import check_workers
from reaper.preflight.writes import check_writes
from reaper.profile import Profile
from reaper.schema import Schema

__all__ = ["Duties", "Finding", "Level", "check_workers", "examine"]


def examine(
    connection: Connection,
    profile: Profile,
    stall_seconds: float,
    *,
    host_clock: Callable[[], float] | None = None,
    patience_seconds: float = 5.0,
    more: Sequence[Finding] = (),
    duties: Duties = EVERY_ACTION,
) -> list[Finding]:
    """Everything that is wrong, what matters most first; nothing is left changed.

    Works for a role that may read none of the tables. Each question about rows is cut off after
    `patience_seconds`, which is then said. `host_clock` gives seconds since 1970, only to be compared. `more` is what
    has been found elsewhere. A privilege that `duties` do not ask for is only noted. Raises DatabaseAway, and nothing
    else, when the database cannot be asked.
    """
    try:
        with opened(connection, profile, patience_seconds) as catalog:
            exam = _examination(catalog, profile, stall_seconds, duties)
            own = check_mariadb(exam, catalog) if isinstance(catalog, MariaDB) else ()
            found = _findings(exam, host_clock, own)
    except Unsuitable as unsuitable:
        found = [unsuitable.finding]
    levels = list(Level)
    return sorted([*found, *more], key=lambda finding: levels.index(finding.level))


def _examination(catalog: Catalog, profile: Profile, stall: float, duties: Duties) -> Examination:
    exam = Examination(profile, catalog, Schema(profile), stall, duties)
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

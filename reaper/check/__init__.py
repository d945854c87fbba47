"""The examination behind `reaper check`: a profile against the real database, everything wrong at once.

Limitation: what only writing would show (a trigger that raises, a policy that refuses a row) is not found; nothing
is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from reaper.catalog import Catalog, NotVisible, QueryFailed
from reaper.catalog.mariadb import MariaDB
from reaper.catalog.session import Unsuitable, opened
from reaper.check.checks.data import check_rows
from reaper.check.checks.events import check_fence
from reaper.check.checks.indexes import check_indexes, check_running
from reaper.check.checks.mariadb import check_mariadb
from reaper.check.checks.names import check_names
from reaper.check.checks.privileges import check_privileges
from reaper.check.checks.server import check_server
from reaper.check.checks.timestamps import check_moments
from reaper.check.checks.values import check_values
from reaper.check.checks.workers import check_workers
from reaper.check.checks.writes import check_evidence, check_writes
from reaper.check.context import OVERRIDE, CheckContext
from reaper.check.finding import Finding, Level, error
from reaper.check.profile_toml import override
from reaper.grants.needs import EVERY_ACTION, Workload
from reaper.profile import Profile
from reaper.sql.tables import ProfileTables

__all__ = ["Finding", "Level", "Workload", "check_workers", "examine"]


def examine(
    connection: Connection,
    profile: Profile,
    stall_seconds: float,
    *,
    host_clock: Callable[[], float] | None = None,
    patience_seconds: float = 5.0,
    more: Sequence[Finding] = (),
    duties: Workload = EVERY_ACTION,
) -> list[Finding]:
    """Everything that is wrong, what matters most first; nothing is left changed.

    Works for a role that may read none of the tables. Each question about rows is cut off after
    `patience_seconds`, which is then said. `host_clock` gives seconds since 1970, only to be compared. `more` is what
    has been found elsewhere. A privilege that `duties` do not ask for is only noted. Raises DatabaseAway, and nothing
    else, when the database cannot be asked.
    """
    try:
        with opened(connection, profile, patience_seconds) as catalog:
            ctx = _examination(catalog, profile, stall_seconds, duties)
            own = check_mariadb(ctx, catalog) if isinstance(catalog, MariaDB) else ()
            found = _findings(ctx, host_clock, own)
    except Unsuitable as unsuitable:
        found = [error(unsuitable.subject, str(unsuitable))]
    levels = list(Level)
    return sorted([*found, *more], key=lambda finding: levels.index(finding.level))


def _examination(catalog: Catalog, profile: Profile, stall: float, duties: Workload) -> CheckContext:
    ctx = CheckContext(profile, catalog, ProfileTables(profile), stall, duties)
    for name in sorted(profile.tables):
        try:
            table = catalog.find(name)
        except QueryFailed as why:
            ctx.unreadable[name] = str(why)
            continue
        except NotVisible as hidden:
            ctx.hidden[name] = hidden
            continue
        if table is not None:
            ctx.tables[name] = table
    return ctx


def _findings(ctx: CheckContext, host_clock: Callable[[], float] | None, more: Iterable[Finding] = ()) -> list[Finding]:
    found = [
        *more,
        *check_server(ctx, host_clock),
        *check_names(ctx),
        *check_moments(ctx),
        *check_values(ctx),
        *check_writes(ctx),
        *check_evidence(ctx),
        *check_privileges(ctx),
        *check_running(ctx),
        *check_indexes(ctx),
        *check_fence(ctx),
        *check_rows(ctx),
    ]
    fix = override(ctx.profile, ctx.corrections) if ctx.corrections else None
    return list(dict.fromkeys(replace(f, fix=fix) if f.fix == OVERRIDE else f for f in found))

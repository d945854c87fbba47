"""`reaper check`: compares a profile with the real database and reports everything that is wrong at once.

Limitation: nothing is written, so a problem that only a written row would show is not found, such as a trigger FOR EACH
ROW that raises an error, or a policy that refuses a row. `--try` runs the statements on no row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from reaper.catalog import QUERY_SECONDS, Catalog, NotVisible, QueryFailed
from reaper.catalog.mariadb import MariaDBCatalog
from reaper.catalog.session import Unsuitable, open_catalog
from reaper.check.checks.beside import check_beside
from reaper.check.checks.data import check_rows
from reaper.check.checks.foreign_keys import check_foreign_keys
from reaper.check.checks.indexes import check_indexes, check_running_index
from reaper.check.checks.mariadb import check_mariadb
from reaper.check.checks.match_columns import check_matches
from reaper.check.checks.name_spelling import check_spelling
from reaper.check.checks.names import check_names
from reaper.check.checks.privileges import check_privileges
from reaper.check.checks.search_path import check_search_path
from reaper.check.checks.sentinel_moments import check_sentinel_moments
from reaper.check.checks.server import check_server
from reaper.check.checks.sizes import check_sizes
from reaper.check.checks.statements import check_statements
from reaper.check.checks.timestamps import check_timestamps
from reaper.check.checks.trial import OPTION, run_on_no_row, try_statements
from reaper.check.checks.values import check_values
from reaper.check.checks.witnesses import check_witnesses
from reaper.check.checks.workers import check_workers
from reaper.check.checks.writes import check_audit, check_ends, check_writes
from reaper.check.checks.zones import check_zones
from reaper.check.context import OVERRIDE, CheckContext, listed
from reaper.check.finding import Finding, Level, error, note
from reaper.database.dialect import dialect_of
from reaper.grants.needs import EVERY_ACTION, Workload
from reaper.profile import Profile
from reaper.profile.profile_toml import override

_NOT_TRIED = note(OPTION, "nothing was run, as what is checked without it has errors")

__all__ = ["Finding", "Level", "Workload", "check_statements", "check_workers", "examine", "try_statements"]


def examine(
    connection: Connection,
    profile: Profile,
    stall_seconds: float,
    *,
    host_clock: Callable[[], float] | None = None,
    query_seconds: float = QUERY_SECONDS,
    other_findings: Sequence[Finding] = (),
    workload: Workload = EVERY_ACTION,
    plan: Callable[[bool], Iterable[Finding]] = lambda _sound: (),
    trial: Callable[[Sequence[str]], Iterable[Finding]] | None = None,
) -> list[Finding]:
    """All findings, errors first, together with `other_findings`. Changes nothing.

    Works for a role that may read none of the tables. A query that reads rows is cut off after `query_seconds`, and a
    note says so. `plan` has statements of the source planned; it is called where that calls no function of the tables'
    owners, and gets whether nothing else is an error. `trial` runs them on no row; it is called where nothing is an
    error, and gets what they run of others then. `host_clock` gives seconds since 1970; it is only
    compared with the database's clock. A missing privilege that `workload` does not need is only a note.

    Raises:
        DatabaseUnavailable: the database does not answer. Nothing else is raised.
    """
    try:
        with open_catalog(connection, profile, query_seconds) as catalog:
            spelled, left_out, spelling_findings = check_spelling(dialect_of(connection), catalog, profile)
            context = _context(catalog, spelled, stall_seconds, workload)
            mariadb_findings = check_mariadb(context, catalog) if isinstance(catalog, MariaDBCatalog) else ()
            findings = _findings(context, connection, host_clock, [*spelling_findings, *mariadb_findings])
            findings = [_as_note(finding, left_out) for finding in findings]
            runs = run_on_no_row(context)
        findings += _not_planned(context) or plan(_sound(findings))
        if trial is not None:
            findings += trial(runs) if _sound(findings) else [_NOT_TRIED]
    except Unsuitable as unsuitable:
        findings = [error(unsuitable.subject, str(unsuitable))]
    levels = list(Level)
    return sorted([*findings, *other_findings], key=lambda finding: levels.index(finding.level))


def _sound(findings: Iterable[Finding]) -> bool:
    return all(finding.level is not Level.ERROR for finding in findings)


def _not_planned(context: CheckContext) -> list[Finding]:
    """Why no statement of the source is planned; empty where they can be."""
    calling = sorted(name for name, table in context.tables.items() if table.reading_calls_others)
    if not calling:
        return []
    why = f"would call functions which are not the server's own: those of {listed(calling)}"
    what = "the statements of a sweep were not planned, and the fence was not looked at"
    return [note(context.profile.jobs.table, f"{what}, as the planner {why}")]


def _as_note(finding: Finding, left_out: Collection[str]) -> Finding:
    """A note, where the finding is about a table whose optional insert is left out: sweeps work without it."""
    about_one = any(finding.subject == table or finding.subject.startswith(f"{table}.") for table in left_out)
    return replace(finding, level=Level.NOTE) if about_one else finding


def _context(catalog: Catalog, profile: Profile, stall_seconds: float, workload: Workload) -> CheckContext:
    context = CheckContext(profile, catalog, stall_seconds, workload)
    for name in sorted(profile.tables):
        try:
            table = catalog.find_table(name)
        except QueryFailed as failed:
            context.unreadable[name] = str(failed)
            continue
        except NotVisible as hidden:
            context.hidden[name] = hidden
            continue
        if table is not None:
            context.tables[name] = table
    return context


def _findings(
    context: CheckContext,
    connection: Connection,
    host_clock: Callable[[], float] | None,
    first_findings: Iterable[Finding],
) -> list[Finding]:
    findings = [
        *first_findings,
        *check_server(context, host_clock),
        *check_names(context),
        *check_timestamps(context),
        *check_values(context),
        *check_matches(context),
        *check_beside(context),
        *check_witnesses(context),
        *check_writes(context),
        *check_ends(context),
        *check_sizes(context),
        *check_audit(context),
        *check_privileges(context),
        *check_search_path(context),
        *check_running_index(context),
        *check_indexes(context),
        *check_foreign_keys(context),
        *check_rows(context),
        *check_sentinel_moments(context),
        *check_zones(context, connection),
    ]
    fix = override(context.profile, context.corrections) if context.corrections else None
    findings = [replace(f, fix=fix) if f.fix == OVERRIDE else _without_change_of_view(context, f) for f in findings]
    return list(dict.fromkeys(findings))


def _without_change_of_view(context: CheckContext, finding: Finding) -> Finding:
    """Columns of a view are not altered: those behind it are."""
    of_view = any(
        table.kind.endswith("view") and (finding.subject == name or finding.subject.startswith(f"{name}."))
        for name, table in context.tables.items()
    )
    alters = finding.fix is not None and finding.fix.startswith("ALTER TABLE")
    return replace(finding, fix=None) if of_view and alters else finding

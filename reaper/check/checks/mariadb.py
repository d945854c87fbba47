"""Checks that only MariaDB needs: hidden tables, byte keys, collations, fractions of seconds, PROCESS."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import text

from reaper.catalog import QueryFailed
from reaper.catalog import mariadb_queries as queries
from reaper.catalog.mariadb import MariaDBCatalog
from reaper.catalog.tables import NO_PRIVILEGES_MARIADB, table_from_profile
from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, error, note, warning
from reaper.common.suggestions import did_you_mean
from reaper.grants.missing import missing_privileges
from reaper.grants.needs import EVERY_ACTION, Workload, required_privileges
from reaper.profile import Profile
from reaper.profile.column_usage import timestamp_columns
from reaper.profile.related_tables import related_rows

_BLOBS = ("tinyblob", "blob", "mediumblob", "longblob")


def check_mariadb(context: CheckContext, catalog: MariaDBCatalog) -> Iterator[Finding]:
    if catalog.read_only:
        fix = catalog.fixes.set_globally("read_only", "OFF")
        yield error("server", "is read-only, or a replica: nothing can be written there", fix)
    yield from _check_hidden(context, catalog)
    yield from _check_keys(context)
    yield from _check_collations(context, catalog)
    yield from _check_fractions(context, catalog)
    yield from _check_ignored_case(context)
    yield from _check_process(context, catalog)


def _check_hidden(context: CheckContext, catalog: MariaDBCatalog) -> Iterator[Finding]:
    required_at_most = required_privileges(context.profile, Workload(EVERY_ACTION.action, purge=True))
    user = f"the user {catalog.server.role!r}"
    for name, hidden in sorted(context.hidden.items()):
        table = table_from_profile(context.profile, name, NO_PRIVILEGES_MARIADB, (hidden.schema, hidden.table))
        need = context.required.get(name, required_at_most[name])
        fix = catalog.fixes.grant(table, missing_privileges(need, table))
        if name not in context.required:
            yield note(name, f"is not shown to {user}: `reaper purge`, or another action, cannot use it", fix)
        elif hidden.partly:
            yield warning(name, f"could not be checked: {user} may see no more than single columns of it", fix)
        else:
            suggestion = did_you_mean(name, catalog.table_names(name))
            yield error(name, f"does not exist, or {user} may not see it{suggestion}", fix)


def _check_keys(context: CheckContext) -> Iterator[Finding]:
    table = context.profile.jobs.table
    for column in context.columns(table, context.profile.jobs.key):
        if column.type.partition("(")[0] in _BLOBS:
            message = (
                f"is {column.type}, and part of jobs.key: the reaper reads keys of bytes only as BINARY or VARBINARY"
            )
            yield error(f"{table}.{column.name}", message)


def _check_collations(context: CheckContext, catalog: MariaDBCatalog) -> Iterator[Finding]:
    """The server refuses to compare texts of two collations, unless one of them is binary."""
    checked = set[tuple[str, str]]()
    for name, column, job_column in _compared_columns(context.profile):
        table = context.table_with_rows(name)
        of_job, real = context.profile.real_column(context.profile.jobs.table, job_column)
        jobs = context.table_with_rows(of_job)
        if jobs is None or table is None or (name, column) in checked:
            continue
        if not (context.has_columns(name, [column]) and context.has_columns(context.profile.jobs.table, [job_column])):
            continue
        checked.add((name, column))
        if (reason := catalog.comparison_error((table, column), (jobs, real))) is not None:
            collation = catalog.definitions[jobs.identity, real].collation
            fix = catalog.fixes.collate(table, column, collation) if collation else None
            message = f"cannot be compared with {of_job}.{real}: {reason}"
            yield error(f"{name}.{column}", message, fix)


def _compared_columns(profile: Profile) -> Iterator[tuple[str, str, str]]:
    """A table, and a column of it that is compared with a column of the jobs table, which is third."""
    key = profile.jobs.key
    for alive in profile.alive:
        if alive.rows:
            yield from ((alive.rows.table, *pair) for pair in alive.rows.matching(key).items())
        if alive.children:
            yield from ((profile.jobs.table, *pair) for pair in zip(alive.children.parent, key, strict=True))
    for _, related in related_rows(profile):
        yield from ((related.table, *pair) for pair in related.match.items())


def _check_fractions(context: CheckContext, catalog: MariaDBCatalog) -> Iterator[Finding]:
    for instant in timestamp_columns(context.profile):
        column, table = context.column(instant.table, instant.column), context.table_with_rows(instant.table)
        if column and table and column.family == "datetime" and not column.type.endswith("(6)"):
            yield note(
                f"{instant.table}.{column.name}",
                f"is {column.type}, which cuts off fractions of a second: a timestamp looks up to a second earlier "
                "than it is; the statement rewrites the table",
                catalog.fixes.with_fractions(table, column.name),
            )


def _check_ignored_case(context: CheckContext) -> Iterator[Finding]:
    profile = context.profile
    conditions = profile.jobs.running.conditions if profile.jobs.running else ()
    job_columns = [*profile.jobs.key, *(condition.column for condition in conditions if condition.column)]
    compared = [*((profile.jobs.table, name) for name in job_columns)]
    compared += [(table, name) for table, name, _ in _compared_columns(profile)]
    names = dict.fromkeys(
        f"{table}.{name}" for table, name in compared if (c := context.column(table, name)) and c.ignores_case
    )
    if names:
        message = "compared by collations that ignore case, so that texts which differ only in case are equal: "
        yield note(profile.jobs.table, f"{message}{listed(names)}")


def _check_process(context: CheckContext, catalog: MariaDBCatalog) -> Iterator[Finding]:
    try:
        catalog.query(text(queries.SESSIONS))
    except QueryFailed:
        yield note(
            "server",
            f"the user {context.catalog.server.role!r} does not have the privilege PROCESS: the reaper cannot name the "
            "session that holds the row of a locked job",
            catalog.fixes.grant_sessions(),
        )

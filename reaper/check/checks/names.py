"""Checks that the tables and columns that a profile names exist, and that its key is unique."""

from __future__ import annotations

from collections.abc import Iterator

from reaper.catalog.tables import Table
from reaper.check.checks.column_roles import role_of
from reaper.check.context import OVERRIDE, CheckContext, listed
from reaper.check.finding import Finding, error, note, warning
from reaper.common.suggestions import did_you_mean, nearest
from reaper.errors import not_unique
from reaper.grants.needs import locked_tables
from reaper.profile.column_usage import row_writes
from reaper.sql.tables import split_name


def check_names(context: CheckContext) -> Iterator[Finding]:
    profile = context.profile
    locked = {profile.jobs.table, *locked_tables(profile), *(w.table for w in row_writes(profile))}
    witnesses = {alive.rows.table for alive in profile.alive if alive.rows}
    for name, columns in sorted(profile.columns().items()):
        if name in context.hidden:
            continue  # reported by `check_mariadb`
        table = context.tables.get(name)
        if name in context.unreadable:
            reason = context.unreadable[name]
            yield warning(name, f"could not be checked ({reason}): another session seems to lock it exclusively")
        elif table is None:
            yield _missing_table(context, name)
        else:
            if not table.has_lockable_rows and name in locked:
                yield _without_own_rows(context, name, table)
            elif table.kind == "materialized view" and name in witnesses:
                message = "is a materialized view: what has been written since it was refreshed is no sign of life"
                yield error(name, f"{message}, so living jobs would be ended; {_reads_from(context, table)}")
            elif table.kind == "view" and name in locked:
                message = "is a view, through which rows are locked and changed"
                yield note(name, f"{message}: indexes and constraints behind it are not checked")
            yield from _check_ambiguous(context, name, table)
            for column in sorted(columns - set(table.columns)):
                yield _missing_column(context, name, table, column)
    yield from _check_key(context)


def _missing_table(context: CheckContext, name: str) -> Finding:
    elsewhere = context.catalog.same_name_elsewhere(name)
    if elsewhere:
        place = "that schema" if split_name(name)[0] else "the search path"
        message = f"no such table in {place}; there is {listed(elsewhere)}"
        path = context.catalog.search_path(context.catalog.server.role)
        if path is not None and _schema_outside_path(context, name):
            schemas = {schema for other in context.profile.tables if (schema := _schema_outside_path(context, other))}
            return error(name, message, context.catalog.fixes.extend_search_path(sorted(schemas), path))
        context.corrections.tables[name] = elsewhere[0]
        return error(name, message, OVERRIDE)
    names = context.catalog.table_names(name)
    if (suggestion := nearest(name, names)) is not None:
        context.corrections.tables[name] = suggestion
        return error(name, f"no such table; did you mean {suggestion!r}?", OVERRIDE)
    return error(name, f"no such table{did_you_mean(name, names)}")


def _check_ambiguous(context: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    """A bare name that several schemas of the path have means the first, until the path or the schemas change."""
    path = context.catalog.search_path(context.catalog.server.role)
    if path is None or split_name(name)[0] is not None:
        return
    meant = f"{table.schema}.{table.name}"
    others = [other for other in context.catalog.same_name_elsewhere(name) if other != meant]
    others = [other for other in others if other.removesuffix(f".{table.name}") in path]
    if others:
        context.corrections.tables[name] = meant
        yield warning(
            name,
            f"the name is in several schemas of the search path ({listed(path)}): {meant} is meant, not "
            f"{listed(others)}; name the schema in the profile",
            OVERRIDE,
        )


def _schema_outside_path(context: CheckContext, name: str) -> str | None:
    """The only schema that has the table, where its unqualified name does not lead there."""
    if split_name(name)[0] is not None or name in context.tables:
        return None
    elsewhere = context.catalog.same_name_elsewhere(name)
    return split_name(elsewhere[0])[0] if len(elsewhere) == 1 else None


def _without_own_rows(context: CheckContext, name: str, table: Table) -> Finding:
    kind = f"{table.kind} that cannot be updated" if table.kind == "view" else table.kind
    message = f"is a {kind}: its rows cannot be locked, so a job cannot be judged again before it is ended"
    behind = context.catalog.tables_behind(table) if table.kind.endswith("view") else []
    if len(behind) == 1:
        context.corrections.tables[name] = behind[0]
        return error(name, f"{message}; it reads from {behind[0]}", OVERRIDE)
    fix = context.catalog.fixes.lockable(table)
    return error(name, f"{message}; {_reads_from(context, table)}" if behind else message, fix)


def _reads_from(context: CheckContext, view: Table) -> str:
    return f"it reads from {listed(context.catalog.tables_behind(view))}"


def _missing_column(context: CheckContext, name: str, table: Table, column: str) -> Finding:
    # A column that the profile already names cannot be the one that was meant.
    unused = set(table.columns) - context.profile.columns()[name]
    role = role_of(context, name, column)
    fitting = {other for other in unused if role is not None and role.fits(table, table.columns[other])}
    if (suggestion := nearest(column, fitting or unused)) is not None:
        context.corrections.columns[name, column] = suggestion
        return error(f"{name}.{column}", f"no such column; did you mean {suggestion!r}?", OVERRIDE)
    if role is not None and fitting:
        return error(f"{name}.{column}", f"no such column; {role.what} are: {listed(sorted(fitting))}")
    return error(f"{name}.{column}", f"no such column{did_you_mean(column, table.columns)}")


def _check_key(context: CheckContext) -> Iterator[Finding]:
    jobs, name, key = context.jobs, context.profile.jobs.table, context.profile.jobs.key
    if jobs is None or not context.has_columns(name, key):
        return
    unique = [set(i.columns) for i in jobs.indexes if i.unique and i.valid and i.predicate is None]
    if (log := context.profile.jobs.log) is not None:
        if context.column(name, log.order) and not any(columns <= {*key, log.order} for columns in unique):
            yield warning(
                f"{name}.{log.order}",
                "jobs.log.order is not unique within a job: the reaper cannot know which of two entries came first",
                context.catalog.fixes.add_unique(jobs, (*key, log.order)),
            )
        return
    if not any(columns <= set(key) for columns in unique):
        yield _without_unique_key(context, jobs, unique)
    for column in context.columns(name, key):
        if column.nullable:
            yield warning(
                f"{name}.{column.name}",
                "is part of jobs.key and may be NULL: a job without it can never be claimed",
                context.catalog.fixes.not_null(jobs, column.name),
            )


def _without_unique_key(context: CheckContext, jobs: Table, unique: list[set[str | None]]) -> Finding:
    """What mends it. In a table with partitions, a unique key has to include the columns that tell them apart."""
    profile, key = context.profile, context.profile.jobs.key
    name, missing = profile.jobs.table, sorted(jobs.partitioned_by - set(key))
    if not missing:
        return error(name, not_unique(listed(key)), context.catalog.fixes.add_unique(jobs, key))
    message = (
        f"{not_unique(listed(key))}. The table is partitioned by {listed(missing)}, which a unique key has to include"
    )
    changed = {column for action in profile.actions.values() for column in action.assign or {}}
    if changed & set(missing):
        # A sweep looks for itself whether running jobs share a key, and ends none that do.
        return warning(
            name, f"{message}, and an action changes: no statement mends that, so keep the keys apart yourself"
        )
    whole = (*key, *missing)
    columns = ", ".join(f'"{column}"' for column in whole)
    fix = None if any(each <= set(whole) for each in unique) else context.catalog.fixes.add_unique(jobs, whole)
    return error(name, f"{message}: name them too, jobs.key = [{columns}]", fix)

"""Do the tables, columns and keys exist that a profile names?"""

from __future__ import annotations

from collections.abc import Iterator

from reaper.nearest import did_you_mean, nearest
from reaper.preflight.examination import OVERRIDE, Examination, listed
from reaper.preflight.finding import Finding, error, warning
from reaper.preflight.needs import locked
from reaper.preflight.tables import Table
from reaper.preflight.uses import writings
from reaper.schema import split_name


def check_names(exam: Examination) -> Iterator[Finding]:
    must_be_real = {exam.profile.jobs.table, *locked(exam.profile), *(w.table for w in writings(exam.profile))}
    must_be_real.update(alive.events.table for alive in exam.profile.alive if alive.events)
    for name, columns in sorted(exam.profile.columns().items()):
        if name in exam.hidden:
            continue  # told of elsewhere
        table = exam.tables.get(name)
        if name in exam.closed:
            message = f"could not be examined ({exam.closed[name]}): somebody seems to keep it locked exclusively"
            yield warning(name, message)
        elif table is None:
            yield _missing_table(exam, name)
        else:
            if not table.real and name in must_be_real:
                yield _not_a_table(exam, name, table)
            for column in sorted(columns - set(table.columns)):
                yield _missing_column(exam, name, table, column)
    yield from _check_key(exam)


def _missing_table(exam: Examination, name: str) -> Finding:
    elsewhere = exam.catalog.elsewhere(name)
    if elsewhere:
        where = "that schema" if split_name(name)[0] else "the search path"
        message = f"no such table in {where}; there is {listed(elsewhere)}"
        if (path := exam.catalog.search_path(exam.catalog.server.role)) is not None and _astray(exam, name):
            schemas = sorted({schema for other in exam.profile.tables if (schema := _astray(exam, other))})
            return error(name, message, exam.catalog.remedies.look_in(schemas, path))
        exam.corrections.tables[name] = elsewhere[0]
        return error(name, message, OVERRIDE)
    names = exam.catalog.names(name)
    if (near := nearest(name, names)) is not None:
        exam.corrections.tables[name] = near
        return error(name, f"no such table; did you mean {near!r}?", OVERRIDE)
    return error(name, f"no such table{did_you_mean(name, names)}")


def _astray(exam: Examination, name: str) -> str | None:
    """The only schema that has the table, when a bare name does not lead there."""
    if split_name(name)[0] is not None or name in exam.tables:
        return None
    elsewhere = exam.catalog.elsewhere(name)
    return split_name(elsewhere[0])[0] if len(elsewhere) == 1 else None


def _not_a_table(exam: Examination, name: str, table: Table) -> Finding:
    message = f"is a {table.kind}: its rows cannot be locked, so nothing can be judged again before it is ended"
    behind = exam.catalog.viewed(table) if table.kind.endswith("view") else []
    if len(behind) == 1:
        exam.corrections.tables[name] = behind[0]
        return error(name, f"{message}; it reads from {behind[0]}", OVERRIDE)
    fix = exam.catalog.remedies.lockable(table)
    return error(name, f"{message}; it reads from {listed(behind)}" if behind else message, fix)


def _missing_column(exam: Examination, name: str, table: Table, column: str) -> Finding:
    # A column that the profile names already is not the one that was meant.
    free = set(table.columns) - exam.profile.columns()[name]
    if (near := nearest(column, free)) is not None:
        exam.corrections.columns[name, column] = near
        return error(f"{name}.{column}", f"no such column; did you mean {near!r}?", OVERRIDE)
    return error(f"{name}.{column}", f"no such column{did_you_mean(column, table.columns)}")


def _check_key(exam: Examination) -> Iterator[Finding]:
    jobs, name, key = exam.jobs, exam.profile.jobs.table, exam.profile.jobs.key
    if jobs is None or not exam.complete(name, key):
        return
    unique = [set(i.columns) for i in jobs.indexes if i.unique and i.valid and i.predicate is None]
    if (log := exam.profile.jobs.log) is not None:
        if exam.column(name, log.order) and not any(columns <= {*key, log.order} for columns in unique):
            yield warning(
                f"{name}.{log.order}",
                "jobs.log.order is not unique within a job: which of two entries came first cannot be told",
                exam.catalog.remedies.add_unique(jobs, (*key, log.order)),
            )
        return
    if set(key) not in unique:
        yield error(
            name,
            f"jobs.key ({listed(key)}) is not unique: no primary key or unique constraint on exactly these "
            "columns, so one job's end could be another's",
            exam.catalog.remedies.add_unique(jobs, key),
        )
    for column in exam.columns(name, key):
        if column.nullable:
            yield warning(
                f"{name}.{column.name}",
                "is part of jobs.key and may be NULL: such a job can never be claimed",
                exam.catalog.remedies.not_null(jobs, column.name),
            )

"""Checks that columns can hold what a profile writes into them, and that nothing keeps it from being written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reaper.catalog.tables import Column
from reaper.check.checks.values import check_constraints, check_literal
from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, error, warning
from reaper.grants.needs import required_privileges
from reaper.model import Reason
from reaper.profile import FromColumn, Json, Next, Scalar, Value, Variable
from reaper.profile.column_usage import RowWrite, possible_values, row_writes
from reaper.profile.contradictions import ends_by_related_rows, running_columns_left_to_the_database

_NUMBERS = ("integer", "number", "other")


def check_writes(context: CheckContext) -> Iterator[Finding]:
    for writing in row_writes(context.profile):
        for column in context.columns(writing.table, writing.values):
            if column.generated:
                yield _generated(writing, column)
                continue
            for value in possible_values(writing.values[column.name]):
                yield from _check_value(context, writing, column, value)
        yield from check_constraints(context, writing.table, writing.values, writing.place)
        if writing.inserts:
            yield from _check_omitted(context, writing)
    yield from _check_rules(context)


def _generated(writing: RowWrite, column: Column) -> Finding:
    message = f"{writing.place} gives a value to a generated column, which takes none"
    if column.generated_from:
        message += f": it is generated from {listed(sorted(column.generated_from))}; set that instead"
    return error(f"{writing.table}.{column.name}", message)


def check_ends(context: CheckContext) -> Iterator[Finding]:
    """Whether a job has ended after an action that sets no column by which it says that it runs.

    The server may generate such a column from those that are set, or a trigger of the user's may set it.
    """
    profile, table = context.profile, context.jobs
    for name, action in profile.actions.items():
        asked = running_columns_left_to_the_database(profile, action)
        columns = list(context.columns(profile.jobs.table, sorted(asked)))
        if table is None or not columns or ends_by_related_rows(profile, action):
            continue
        if any(column.generated_from & set(action.assign or {}) for column in columns):
            continue
        subject, shown = profile.jobs.table, listed(column.name for column in columns)
        if any(trigger.event == "UPDATE" for trigger in table.triggers):
            message = f"only a trigger can change {shown}: where none does, no job is ended"
            yield warning(subject, f"actions.{name}.set changes no column that jobs.running asks about: {message}")
            continue
        generated = [
            f"{c.name} is generated from {listed(sorted(c.generated_from))}" for c in columns if c.generated_from
        ]
        message = f"changes nothing that jobs.running asks about ({shown}), so no job would ever be ended"
        yield error(subject, "; ".join((f"actions.{name}.set {message}", *generated)))


def _check_rules(context: CheckContext) -> Iterator[Finding]:
    # A purge deletes outside of WITH, so rules do not disturb it.
    required = required_privileges(context.profile, replace(context.workload, purge=False))
    for name, need in sorted(required.items()):
        table = context.tables.get(name)
        for rule in table.rules if table else ():
            if table and need.writes(rule.event) and not rule.allowed_in_with:
                yield error(
                    name,
                    f"the rule {rule.name!r} rewrites each {rule.event}, which PostgreSQL refuses within WITH, where "
                    "the reaper writes; a trigger can do what the rule does",
                    context.catalog.fixes.drop_rule(table, rule.name),
                )


def _check_value(context: CheckContext, writing: RowWrite, column: Column, value: Value) -> Iterator[Finding]:
    subject = f"{writing.table}.{column.name}"
    if isinstance(value, Variable):
        yield from _check_variable(context, writing, column, value)
    elif isinstance(value, FromColumn):
        yield from _check_copy(context, writing, column, value)
    elif isinstance(value, Json) and column.family not in (*context.catalog.json_families, "text"):
        yield error(subject, f"{writing.place} writes a JSON object into {column.type}")
    elif isinstance(value, Next):
        newest = context.column(value.series.table, value.series.column)
        if newest and not _assignable(newest, column):
            source = f"the value after {value.series.table}.{newest.name} ({newest.type})"
            yield error(subject, f"{writing.place} writes {source} into {column.type}, which does not fit")
    elif isinstance(value, Scalar):
        yield from check_literal(context, writing.table, column, value, writing.place)


def _check_copy(context: CheckContext, writing: RowWrite, column: Column, value: FromColumn) -> Iterator[Finding]:
    subject, jobs = f"{writing.table}.{column.name}", context.profile.jobs.table
    source = context.column(jobs, value.column)
    if source is None:
        return
    shown = f"{jobs}.{source.name} ({source.type})"
    if value.plus is not None and source.family not in _NUMBERS:
        yield error(subject, f"{writing.place} adds to {shown}, which is no number")
    elif value.append is not None and source.family not in context.catalog.json_families:
        yield error(subject, f"{writing.place} appends to {shown}; expected {context.catalog.json_type}")
    elif not _assignable(source, column):
        yield error(subject, f"{writing.place} copies {shown} into {column.type}, which does not fit")


def _assignable(source: Column, target: Column) -> bool:
    if source.family == target.family or "other" in (source.family, target.family):
        return True
    convertible = ({"integer", "number"}, {"timestamptz", "timestamp"})
    return target.family == "text" or any({source.family, target.family} <= families for families in convertible)


def _check_variable(context: CheckContext, writing: RowWrite, column: Column, value: Variable) -> Iterator[Finding]:
    subject, place, variable = f"{writing.table}.{column.name}", writing.place, value.name
    if value.grows is not None:
        jobs = context.profile.jobs.table
        counted = context.column(jobs, value.grows.column)
        if counted is not None and counted.family not in _NUMBERS:
            shown = f"{jobs}.{counted.name} ({counted.type})"
            yield error(subject, f"{place} grows with {shown}, which is no number")
    if variable == "null":
        if not column.nullable and writing.values[column.name] is value:
            yield error(subject, f"{place} sets NULL, and the column is NOT NULL")
    elif variable == "reason":
        for reason in Reason:
            yield from check_literal(context, writing.table, column, reason.value, place)
    elif variable in ("message", "source", "sweep_id", "host"):
        yield from _check_text(writing, column, variable)
    elif variable in ("age", "silence") and column.family not in (*_NUMBERS, "text"):
        yield error(subject, f"{place} writes the {variable}, a number of seconds, into {column.type}")
    elif variable == "evidence":
        yield from _check_evidence(context, writing, column)


def _check_evidence(context: CheckContext, writing: RowWrite, column: Column) -> Iterator[Finding]:
    subject, expected = f"{writing.table}.{column.name}", context.catalog.json_type
    message = f"{writing.place} writes the evidence"
    if column.family not in ("json", "text") or column.length is not None:
        yield error(subject, f"{message}, a JSON object, into {column.type}; expected {expected}")
    elif column.family not in context.catalog.json_families:
        yield warning(subject, f"{message} into {column.type}; as {expected} it could be searched")


def _check_text(writing: RowWrite, column: Column, variable: str) -> Iterator[Finding]:
    subject, place = f"{writing.table}.{column.name}", writing.place
    if column.family not in ("text", "other"):
        yield error(subject, f"{place} writes the {variable}, a text, into {column.type}")


def _check_omitted(context: CheckContext, writing: RowWrite) -> Iterator[Finding]:
    table = context.table_with_rows(writing.table)
    # A misspelled column counts under its right name: once that is corrected, the column gets its value.
    inserted = {context.corrections.column(writing.table, name) for name in writing.values}
    for column in table.columns.values() if table else ():
        if column.name not in inserted and not column.nullable and not column.has_default:
            yield error(
                f"{writing.table}.{column.name}",
                f"{writing.place} inserts no value, and the column is NOT NULL without a default; "
                f"give it one in the profile",
            )


def check_audit(context: CheckContext) -> Iterator[Finding]:
    """Warns where an action writes no evidence, so that only the log says why a job was ended."""
    without = [f"actions.{name}" for name, action in context.profile.actions.items() if not action.writes_evidence]
    if "actions.fail" in without:
        yield warning(
            context.profile.jobs.table,
            f'{listed(without)}: no {{ is = "evidence" }} is written, into an inserted row or a column of the job: '
            "only the reaper's log says why a job was ended",
        )

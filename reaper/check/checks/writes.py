"""Can the columns hold what a profile writes into them, and does it get there?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reaper.catalog.tables import Column
from reaper.check.checks.values import check_constraints, check_literal
from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, error, warning
from reaper.grants.needs import needs
from reaper.model import Reason
from reaper.profile import FromColumn, Json, Next, Scalar, Value, Variable
from reaper.profile.usage import RowWrite, possible_values, row_writes

_LONG_ENOUGH = 512
"""Characters that hold any message but an operator's longest."""

_NUMBERS = ("integer", "number", "other")


def check_writes(ctx: CheckContext) -> Iterator[Finding]:
    for writing in row_writes(ctx.profile):
        for column in ctx.columns(writing.table, writing.values):
            if column.computed:
                subject = f"{writing.table}.{column.name}"
                yield error(subject, f"{writing.place} gives a value to a generated column, which takes none")
                continue
            for value in possible_values(writing.values[column.name]):
                yield from _check_value(ctx, writing, column, value)
        yield from check_constraints(ctx, writing.table, writing.values, writing.place)
        if writing.inserts:
            yield from _check_left_out(ctx, writing)
    yield from _check_rules(ctx)


def _check_rules(ctx: CheckContext) -> Iterator[Finding]:
    # A purge deletes in statements of their own, and counts what is gone.
    ending = needs(ctx.profile, replace(ctx.duties, purge=False))
    for name, need in sorted(ending.items()):
        table = ctx.tables.get(name)
        for rule in table.rules if table else ():
            if table and need.writes(rule.event) and not rule.taken:
                yield error(
                    name,
                    f"the rule {rule.name!r} rewrites each {rule.event}, and PostgreSQL refuses that within WITH, "
                    "where rows are written here: a trigger can do the same, without the rule",
                    ctx.catalog.fixes.drop_rule(table, rule.name),
                )


def _check_value(ctx: CheckContext, writing: RowWrite, column: Column, value: Value) -> Iterator[Finding]:
    subject = f"{writing.table}.{column.name}"
    if isinstance(value, Variable):
        yield from _check_known(ctx, writing, column, value)
    elif isinstance(value, FromColumn):
        yield from _check_copy(ctx, writing, column, value)
    elif isinstance(value, Json) and column.family not in (*ctx.catalog.documents, "text"):
        yield error(subject, f"{writing.place} writes a JSON object into {column.words}")
    elif isinstance(value, Next):
        newest = ctx.column(value.series.table, value.series.column)
        if newest and not _assignable(newest, column):
            what = f"what comes after {value.series.table}.{newest.name} ({newest.words})"
            yield error(subject, f"{writing.place} writes {what} into {column.words}, which does not fit")
    elif isinstance(value, Scalar):
        yield from check_literal(ctx, writing.table, column, value, writing.place)


def _check_copy(ctx: CheckContext, writing: RowWrite, column: Column, value: FromColumn) -> Iterator[Finding]:
    subject, jobs = f"{writing.table}.{column.name}", ctx.profile.jobs.table
    source = ctx.column(jobs, value.column)
    if source is None:
        return
    what = f"{jobs}.{source.name} ({source.words})"
    if value.plus is not None and source.family not in _NUMBERS:
        yield error(subject, f"{writing.place} adds to {what}, which is no number")
    elif value.append is not None and source.family not in ctx.catalog.documents:
        yield error(subject, f"{writing.place} appends to {what}; expected {ctx.catalog.document}")
    elif not _assignable(source, column):
        yield error(subject, f"{writing.place} copies {what} into {column.words}, which does not fit")


def _assignable(source: Column, target: Column) -> bool:
    if source.family == target.family or "other" in (source.family, target.family):
        return True
    same = ({"integer", "number"}, {"timestamptz", "timestamp"})
    return target.family == "text" or any({source.family, target.family} <= kinds for kinds in same)


def _check_known(ctx: CheckContext, writing: RowWrite, column: Column, value: Variable) -> Iterator[Finding]:
    subject, place, known = f"{writing.table}.{column.name}", writing.place, value.name
    if known == "null":
        if not column.nullable and writing.values[column.name] is value:
            yield error(subject, f"{place} sets NULL, and the column is NOT NULL")
    elif known == "reason":
        for reason in Reason:
            yield from check_literal(ctx, writing.table, column, reason.value, place)
    elif known in ("message", "source", "sweep_id", "host"):
        yield from _check_text(ctx, writing, column, known)
    elif known in ("age", "silence") and column.family not in (*_NUMBERS, "text"):
        yield error(subject, f"{place} writes the {known}, a number of seconds, into {column.words}")
    elif known == "evidence":
        yield from _check_evidence(ctx, writing, column)


def _check_evidence(ctx: CheckContext, writing: RowWrite, column: Column) -> Iterator[Finding]:
    subject, better = f"{writing.table}.{column.name}", ctx.catalog.document
    what = f"{writing.place} writes the evidence"
    if column.family not in ("json", "text") or column.length is not None:
        yield error(subject, f"{what}, a JSON object, into {column.words}; expected {better}")
    elif column.family not in ctx.catalog.documents:
        yield warning(subject, f"{what} into {column.words}; as {better} it could be searched")


def _check_text(ctx: CheckContext, writing: RowWrite, column: Column, known: str) -> Iterator[Finding]:
    subject, place = f"{writing.table}.{column.name}", writing.place
    if column.family not in ("text", "other"):
        yield error(subject, f"{place} writes the {known}, a text, into {column.words}")
    elif known == "message" and column.length is not None and column.length < _LONG_ENOUGH:
        yield warning(
            subject,
            f"{place} writes the message into {column.words}; a longer one makes the transition fail",
            ctx.catalog.fixes.retype(ctx.tables[writing.table], column.name, "text"),
        )


def _check_left_out(ctx: CheckContext, writing: RowWrite) -> Iterator[Finding]:
    table = ctx.real(writing.table)
    # A column that was meant by a wrong name is given its value once that is corrected.
    given = {ctx.corrections.column(writing.table, name) for name in writing.values}
    for column in table.columns.values() if table else ():
        if column.name not in given and not column.nullable and not column.filled:
            yield error(
                f"{writing.table}.{column.name}",
                f"{writing.place} inserts no value, and the column is NOT NULL without a default; "
                f"give it one in the profile",
            )


def check_evidence(ctx: CheckContext) -> Iterator[Finding]:
    silent = [f"actions.{name}" for name, action in ctx.profile.actions.items() if not action.writes_evidence]
    if "actions.fail" in silent:
        yield warning(
            ctx.profile.jobs.table,
            f'{listed(silent)}: no {{ is = "evidence" }} is written anywhere, in an inserted row or a column of the '
            "job: why a job was ended stands in the reaper's log alone",
        )

"""Can the columns hold what a profile writes into them, and does it get there?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reaper.model import Reason
from reaper.preflight.examination import Examination
from reaper.preflight.finding import Finding, error, warning
from reaper.preflight.needs import needs
from reaper.preflight.tables import Column
from reaper.preflight.uses import Writing, writings, written_as
from reaper.preflight.values import check_constraints, check_literal
from reaper.profile import FromColumn, Json, Known, Next, Scalar, Value

_LONG_ENOUGH = 512
"""Characters that hold any message but an operator's longest."""

_NUMBERS = ("integer", "number", "other")


def check_writes(exam: Examination) -> Iterator[Finding]:
    for writing in writings(exam.profile):
        for column in exam.columns(writing.table, writing.values):
            if column.computed:
                subject = f"{writing.table}.{column.name}"
                yield error(subject, f"{writing.place} gives a value to a generated column, which takes none")
                continue
            for value in written_as(writing.values[column.name]):
                yield from _check_value(exam, writing, column, value)
        yield from check_constraints(exam, writing.table, writing.values, writing.place)
        if writing.inserts:
            yield from _check_left_out(exam, writing)
    yield from _check_rules(exam)


def _check_rules(exam: Examination) -> Iterator[Finding]:
    # A purge deletes in statements of their own, and counts what is gone.
    ending = needs(exam.profile, replace(exam.duties, purge=False))
    for name, need in sorted(ending.items()):
        table = exam.tables.get(name)
        for rule in table.rules if table else ():
            if table and need.writes(rule.event) and not rule.taken:
                yield error(
                    name,
                    f"the rule {rule.name!r} rewrites each {rule.event}, and PostgreSQL refuses that within WITH, "
                    "where rows are written here: a trigger can do the same, without the rule",
                    exam.catalog.remedies.drop_rule(table, rule.name),
                )


def _check_value(exam: Examination, writing: Writing, column: Column, value: Value) -> Iterator[Finding]:
    subject = f"{writing.table}.{column.name}"
    if isinstance(value, Known):
        yield from _check_known(exam, writing, column, value)
    elif isinstance(value, FromColumn):
        yield from _check_copy(exam, writing, column, value)
    elif isinstance(value, Json) and column.family not in (*exam.catalog.documents, "text"):
        yield error(subject, f"{writing.place} writes a JSON object into {column.words}")
    elif isinstance(value, Next):
        newest = exam.column(value.beyond.table, value.beyond.column)
        if newest and not _assignable(newest, column):
            what = f"what comes after {value.beyond.table}.{newest.name} ({newest.words})"
            yield error(subject, f"{writing.place} writes {what} into {column.words}, which does not fit")
    elif isinstance(value, Scalar):
        yield from check_literal(exam, writing.table, column, value, writing.place)


def _check_copy(exam: Examination, writing: Writing, column: Column, value: FromColumn) -> Iterator[Finding]:
    subject, jobs = f"{writing.table}.{column.name}", exam.profile.jobs.table
    source = exam.column(jobs, value.column)
    if source is None:
        return
    what = f"{jobs}.{source.name} ({source.words})"
    if value.plus is not None and source.family not in _NUMBERS:
        yield error(subject, f"{writing.place} adds to {what}, which is no number")
    elif value.append is not None and source.family not in exam.catalog.documents:
        yield error(subject, f"{writing.place} appends to {what}; expected {exam.catalog.document}")
    elif not _assignable(source, column):
        yield error(subject, f"{writing.place} copies {what} into {column.words}, which does not fit")


def _assignable(source: Column, target: Column) -> bool:
    if source.family == target.family or "other" in (source.family, target.family):
        return True
    same = ({"integer", "number"}, {"timestamptz", "timestamp"})
    return target.family == "text" or any({source.family, target.family} <= kinds for kinds in same)


def _check_known(exam: Examination, writing: Writing, column: Column, value: Known) -> Iterator[Finding]:
    subject, place, known = f"{writing.table}.{column.name}", writing.place, value.known
    if known == "null":
        if not column.nullable and writing.values[column.name] is value:
            yield error(subject, f"{place} sets NULL, and the column is NOT NULL")
    elif known == "reason":
        for reason in Reason:
            yield from check_literal(exam, writing.table, column, reason.value, place)
    elif known in ("message", "source", "sweep_id", "host"):
        yield from _check_text(exam, writing, column, known)
    elif known in ("age", "silence") and column.family not in (*_NUMBERS, "text"):
        yield error(subject, f"{place} writes the {known}, a number of seconds, into {column.words}")
    elif known == "evidence":
        yield from _check_evidence(exam, writing, column)


def _check_evidence(exam: Examination, writing: Writing, column: Column) -> Iterator[Finding]:
    subject, better = f"{writing.table}.{column.name}", exam.catalog.document
    what = f"{writing.place} writes the evidence"
    if column.family not in ("json", "text") or column.length is not None:
        yield error(subject, f"{what}, a JSON object, into {column.words}; expected {better}")
    elif column.family not in exam.catalog.documents:
        yield warning(subject, f"{what} into {column.words}; as {better} it could be searched")


def _check_text(exam: Examination, writing: Writing, column: Column, known: str) -> Iterator[Finding]:
    subject, place = f"{writing.table}.{column.name}", writing.place
    if column.family not in ("text", "other"):
        yield error(subject, f"{place} writes the {known}, a text, into {column.words}")
    elif known == "message" and column.length is not None and column.length < _LONG_ENOUGH:
        yield warning(
            subject,
            f"{place} writes the message into {column.words}; a longer one makes the transition fail",
            exam.catalog.remedies.retype(exam.tables[writing.table], column.name, "text"),
        )


def _check_left_out(exam: Examination, writing: Writing) -> Iterator[Finding]:
    table = exam.real(writing.table)
    # A column that was meant by a wrong name is given its value once that is corrected.
    given = {exam.corrections.column(writing.table, name) for name in writing.values}
    for column in table.columns.values() if table else ():
        if column.name not in given and not column.nullable and not column.filled:
            yield error(
                f"{writing.table}.{column.name}",
                f"{writing.place} inserts no value, and the column is NOT NULL without a default; "
                f"give it one in the profile",
            )

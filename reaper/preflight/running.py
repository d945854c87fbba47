"""Can a sweep find the running jobs without reading the whole table?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from reaper.preflight.examination import Examination
from reaper.preflight.finding import Finding, warning
from reaper.preflight.indexes import rows
from reaper.preflight.tables import Column, Index, Table
from reaper.profile import Condition

_SAMPLES = {
    **dict.fromkeys(("timestamptz", "timestamp"), "2000-01-01"),
    **dict.fromkeys(("integer", "number"), "1"),
    "uuid": "00000000-0000-0000-0000-000000000000",
    "boolean": "true",
    "json": "{}",
    "text": "x",
}


def check_running(exam: Examination) -> Iterator[Finding]:
    """Of a log, and of jobs that only other rows say of that they run, nothing is said here."""
    jobs, name, running = exam.jobs, exam.profile.jobs.table, exam.profile.jobs.running
    asked = {c.column: c for c in (running.conditions if running else ()) if c.column and exam.column(name, c.column)}
    if jobs is None or not asked or any(_finds(exam, asked, index) for index in jobs.indexes):
        return
    column, condition = next(iter(asked.items()))
    yield warning(
        f"{name}.{column}",
        f"no index finds the running jobs: every sweep reads all of {name} ({rows(jobs)})",
        _remedy(exam, jobs, {column: condition} if condition.null is None else asked),
    )


def _finds(exam: Examination, asked: Mapping[str, Condition], index: Index) -> bool:
    # One whose predicate picks the running jobs finds them whatever its columns are.
    if not (index.ordered and index.valid and (index.columns[0] in asked or index.predicate)):
        return False
    return index.predicate is None or _covers(exam, asked, index.predicate)


def _covers(exam: Examination, asked: Mapping[str, Condition], predicate: str) -> bool:
    """Every running row is in the index, as far as its predicate speaks of nothing but these columns."""
    name = exam.profile.jobs.table
    columns = [column for column in exam.columns(name, asked) if _samples(column, asked[column.name])]
    for values in product(*(_samples(column, asked[column.name]) for column in columns)):
        given = {column.name: (column.words, value) for column, value in zip(columns, values, strict=True)}
        if not given or not exam.catalog.holds(predicate, given):
            return False
    return bool(columns)


def _samples(column: Column, condition: Condition) -> list[str | None]:
    """Values that a running row may have there, as far as they can be named."""
    if condition.values is not None:
        return [str(value) for value in condition.values]
    if condition.null == "null":
        return [None]
    sample = column.labels[0] if column.labels else _SAMPLES.get(column.family)
    return [sample] if condition.null == "not null" and sample is not None else []


def _remedy(exam: Examination, jobs: Table, asked: Mapping[str, Condition]) -> str:
    started = exam.profile.jobs.started[-1:]
    null = {name: condition.null == "null" for name, condition in asked.items() if condition.null}
    if null:
        return exam.catalog.remedies.create_index(jobs, started, null)
    return exam.catalog.remedies.create_index(jobs, dict.fromkeys((*asked, *started)))

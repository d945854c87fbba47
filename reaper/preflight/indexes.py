"""Can a sweep find its rows without reading whole tables, and is a late sign of life kept out?"""

from __future__ import annotations

from collections.abc import Iterator

from reaper.preflight.examination import Examination, listed
from reaper.preflight.finding import Finding, note, warning
from reaper.preflight.tables import Column, Index, Table
from reaper.profile import Events


def check_indexes(exam: Examination) -> Iterator[Finding]:
    for name in sorted(exam.tables):
        if table := exam.real(name):
            yield from _check_valid(exam, name, table)
    yield from _check_running(exam)
    for alive in exam.profile.alive:
        if alive.events:
            yield from _check_events(exam, alive.events)
        if alive.children:
            yield from _check_parent(exam, alive.children.parent)


def _check_valid(exam: Examination, name: str, table: Table) -> Iterator[Finding]:
    for index in table.indexes:
        if not index.valid:
            message = f"the index {index.name} is invalid: it is kept up to date and never used"
            yield warning(name, message, exam.catalog.remedies.rebuild(table, index))


def _check_running(exam: Examination) -> Iterator[Finding]:
    jobs, name, running = exam.jobs, exam.profile.jobs.table, exam.profile.jobs.running
    column = exam.column(name, running.column)
    if jobs is None or column is None:
        return
    for index in jobs.indexes:
        # One whose predicate picks the running jobs finds them whatever its columns are.
        finds = index.leads_with([column.name]) or (index.ordered and index.valid and index.predicate)
        if finds and _covers_running(exam, column, index):
            return
    yield warning(
        f"{name}.{column.name}",
        f"no index finds the running jobs: every sweep reads all of {name} ({_rows(jobs)})",
        exam.catalog.remedies.create_index(jobs, [column.name, *exam.profile.jobs.started[-1:]]),
    )


def _covers_running(exam: Examination, column: Column, index: Index) -> bool:
    """Every running row is in the index, as far as its predicate speaks of nothing but the running column."""
    if index.predicate is None:
        return True
    return all(
        exam.catalog.holds(index.predicate, {column.name: (column.words, str(value))})
        for value in exam.profile.jobs.running.values
    )


def _complete(index: Index, exam: Examination) -> bool:
    """Has a row for each that is not NULL in its columns."""
    quote = exam.catalog.remedies.name
    return index.predicate in {None, *(f"({quote(name)} IS NOT NULL)" for name in index.columns if name)}


def _check_events(exam: Examination, events: Events) -> Iterator[Finding]:
    table = exam.real(events.table)
    if table is None or not exam.complete(events.table, (*events.job, events.at)):
        return
    wanted = (*events.job, events.at)
    by_job = [i for i in table.indexes if i.leads_with(events.job) and _complete(i, exam)]
    if not any(i.leads_with(wanted) and i.columns[len(events.job)] == events.at for i in by_job):
        fix = exam.catalog.remedies.create_index(table, wanted)
        if by_job:
            message = f"an index finds a job's events, not its newest ones: ({listed(wanted)}) would"
            yield note(events.table, message, fix)
        else:
            message = f"no index on ({listed(wanted)}): the events of each old job are searched in {_rows(table)}"
            yield warning(events.table, message, fix)
    yield from _check_fence(exam, events, table)


def _check_fence(exam: Examination, events: Events, table: Table) -> Iterator[Finding]:
    jobs, key = exam.jobs, exam.profile.jobs.key
    if jobs is None or not exam.complete(exam.profile.jobs.table, key):
        return
    if not any(k.columns == set(events.job) and k.refers_to == jobs.identity for k in table.foreign_keys):
        yield warning(
            events.table,
            f"no foreign key from ({listed(events.job)}) to {exam.profile.jobs.table}: a sign of life can slip in "
            "between the second judgement and the commit, as nothing makes it wait for the job's lock",
            exam.catalog.remedies.add_foreign_key(table, events.job, jobs, key),
        )


def _check_parent(exam: Examination, parent: tuple[str, ...]) -> Iterator[Finding]:
    jobs, name = exam.jobs, exam.profile.jobs.table
    if jobs is None or not exam.complete(name, parent):
        return
    if not any(index.leads_with(parent) and _complete(index, exam) for index in jobs.indexes):
        yield warning(
            name,
            f"no index on ({listed(parent)}): the children of each old job are searched in {_rows(jobs)}",
            exam.catalog.remedies.create_index(jobs, parent),
        )


def _rows(table: Table) -> str:
    return f"about {table.rows:,} rows"

"""Can the rows that belong to a job be found without reading whole tables?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reaper.preflight.examination import Examination, listed
from reaper.preflight.finding import Finding, Level, note, warning
from reaper.preflight.tables import Index, Table
from reaper.profile import Next
from reaper.profile.places import belonging


@dataclass(frozen=True, slots=True)
class Need:
    """A look-up by `columns`, which are compared for equality, and then by `newest`."""

    table: str
    columns: tuple[str, ...]
    newest: str | None
    what: str
    level: Level = Level.WARNING

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.columns, *([self.newest] if self.newest else []))


def check_indexes(exam: Examination) -> Iterator[Finding]:
    for name in sorted(exam.tables):
        if table := exam.real(name):
            yield from _check_valid(exam, name, table)
    told: set[tuple[str, frozenset[str]]] = set()
    for need in needs(exam):
        if (same := (need.table, frozenset(need.columns))) not in told:
            told.add(same)
            yield from _check_need(exam, need)


def needs(exam: Examination) -> Iterator[Need]:
    """What sweeps look up, and how; the running jobs are looked for elsewhere."""
    profile, mine = exam.profile, exam.profile.jobs.table
    for alive in profile.alive:
        if alive.events:
            by = tuple(alive.events.matching(profile.jobs.key))
            newest = alive.events.at[0] if len(alive.events.at) == 1 else None
            yield Need(alive.events.table, by, newest, "the events of each old job are searched")
        if alive.children:
            yield Need(mine, alive.children.parent, None, "the children of each old job are searched")
    if (log := profile.jobs.log) is not None:
        yield Need(mine, (*profile.jobs.key, log.type), None, "the end of each old job is searched")
        yield Need(mine, (log.type,), profile.jobs.started[0], "the jobs themselves are searched")
    for _, one in belonging(profile):
        yield Need(one.table, tuple(one.match), None, "the rows that belong to each old job are searched")
    for action in profile.actions.values():
        for value in action.values():
            if isinstance(value, Next):
                by = tuple(value.beyond.match)
                yield Need(value.beyond.table, by, value.beyond.column, "the newest value for each old job is searched")
    if profile.purge and len(profile.purge.at) == 1:
        yield Need(mine, profile.purge.at, None, "the rows that are old enough to purge are searched", Level.NOTE)


def _check_valid(exam: Examination, name: str, table: Table) -> Iterator[Finding]:
    for index in table.indexes:
        if not index.valid:
            message = f"the index {index.name} is invalid: it is kept up to date and never used"
            yield warning(name, message, exam.catalog.remedies.rebuild(table, index))


def _check_need(exam: Examination, need: Need) -> Iterator[Finding]:
    table = exam.real(need.table)
    if table is None or not exam.complete(need.table, need.all):
        return
    fix = exam.catalog.remedies.create_index(table, need.all)
    found = [index for index in table.indexes if _finds(exam, index, need)]
    if not found:
        message = f"no index on ({listed(need.all)}): {need.what} in {rows(table)}"
        yield Finding(need.level, need.table, message, fix)
    elif need.newest and not any(_sorts(index, need) for index in found):
        message = f"an index on all of ({listed(need.all)}) would be faster: {need.what} in {rows(table)}"
        yield note(need.table, message, fix)


def _finds(exam: Examination, index: Index, need: Need) -> bool:
    """Its first column is one of those that are compared, which leaves few rows, or all of them come first."""
    return index.ordered and index.valid and index.columns[0] in need.columns and _complete(index, exam)


def _sorts(index: Index, need: Need) -> bool:
    first = index.columns[: len(need.all)]
    return set(first) == set(need.all) and first[-1] == need.newest


def _complete(index: Index, exam: Examination) -> bool:
    """Has a row for each that is not NULL in its columns."""
    quote = exam.catalog.remedies.name
    return index.predicate in {None, *(f"({quote(name)} IS NOT NULL)" for name in index.columns if name)}


def rows(table: Table) -> str:
    return f"about {table.rows:,} rows"

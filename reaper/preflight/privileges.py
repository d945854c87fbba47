"""May the connected role do what a sweep does?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sqlalchemy import select

from reaper.preflight.catalog import Unanswered
from reaper.preflight.examination import Examination, listed
from reaper.preflight.finding import Finding, error, note, warning
from reaper.preflight.needs import (
    BORROWED,
    Duties,
    Missing,
    actions_of,
    beyond,
    borrowing,
    firing,
    hides,
    lacks_close,
    lacks_functions,
    lacks_holder,
    lacks_sequences,
    missing,
    needs,
    seen_through,
    undone,
)
from reaper.preflight.tables import Table

_DENIED = {"42501", "1142", "1143", "1356", "1370"}


def check_privileges(exam: Examination) -> Iterator[Finding]:
    told: set[str] = set()
    for name, table in sorted(exam.tables.items()):
        if name in exam.needs and not table.rights.usage and table.schema not in told:
            told.add(table.schema)
            yield error(
                name,
                f"the role {exam.catalog.server.role!r} may not use the schema {table.schema!r}",
                exam.catalog.remedies.grant_schema(table.schema),
            )
        if name in exam.needs:
            yield from _check_table(exam, name, table)
        yield from _check_further(exam, name, table)
    if not exam.catalog.server.sees_sessions:
        yield note(
            "server",
            f"the role {exam.catalog.server.role!r} does not see the state of other sessions in pg_stat_activity: "
            "who holds a locked job's row is told without it",
            exam.catalog.remedies.grant_role("pg_read_all_stats"),
        )


def _check_table(exam: Examination, name: str, table: Table) -> Iterator[Finding]:
    need, role = exam.needs[name], exam.catalog.server.role
    lacking = missing(need, table)
    if lacking:
        yield error(name, f"the role {role!r} may not {_words(lacking)}", exam.catalog.remedies.grant(table, lacking))
    if lacks_close(need, table, lacking):
        yield error(
            name,
            f"the role {role!r} may not LOCK the table, which keeps late entries out while a job is ended",
            exam.catalog.remedies.grant_close(table),
        )
    if lacks_holder(need, table):
        yield note(
            name,
            f"the role {role!r} may not SELECT xmax: who holds a locked job's row is not told",
            exam.catalog.remedies.grant_holder(table),
        )
    if table.kind == "view" and table.readable(need.select & set(table.columns)):
        yield from _check_view(exam, name, table)
    yield from _check_called(exam, name, table)
    yield from _check_policies(exam, name, table)
    yield from _check_triggers(exam, name, table)


def _check_view(exam: Examination, name: str, table: Table) -> Iterator[Finding]:
    """Only to be read through it shows whether the role may do that; no row is asked for."""
    need, view = exam.needs[name], exam.schema.table(name)
    columns = [view.c[column] for column in sorted(need.select & set(table.columns))]
    try:
        exam.catalog.ask(select(*columns).limit(0))
    except Unanswered as why:
        if why.state in _DENIED:
            more = seen_through(need, table) or "what it takes is not told"
            who = f"the role {exam.catalog.server.role!r}"
            yield error(name, f"{who} may not read what is behind the view ({why}): {more}")


def _check_policies(exam: Examination, name: str, table: Table) -> Iterator[Finding]:
    """A hidden row that decides makes a living job look dead, or unneeded; any other is merely left alone."""
    commands: dict[str, list[str]] = {}
    for hiding in hides(exam.needs[name], table):
        commands.setdefault(exam.catalog.remedies.see_all(hiding), []).append(hiding.command)
    who = f"the role {exam.catalog.server.role!r}"
    for fix, kept in commands.items():
        if "SELECT" not in kept:
            yield warning(name, f"row-level security may not let {who} {listed(kept)}: such jobs are not ended", fix)
        elif lost := undone(name, exam.profile, exam.duties):
            yield error(name, f"row-level security may hide rows from {who}, {lost}", fix)
        else:
            yield warning(name, f"row-level security may hide rows from {who}: these are neither seen nor ended", fix)


def _check_triggers(exam: Examination, name: str, table: Table) -> Iterator[Finding]:
    need = exam.needs[name]
    if names := dict.fromkeys(str(each) for each in firing(need, table)):
        yield note(name, f"triggers fire when a job is ended, in the same transaction: {listed(names)}")
    if calls := borrowing(need, table):
        yield note(name, f"{listed(calls)} {BORROWED}")


def _check_called(exam: Examination, name: str, table: Table) -> Iterator[Finding]:
    """What the server calls for the role while a row is written."""
    need, role = exam.needs[name], exam.catalog.server.role
    for column, sequence in lacks_sequences(need, table):
        yield error(
            f"{name}.{column}",
            f"the role {role!r} may not take the next value of the sequence {sequence[1]!r}, the column's default",
            exam.catalog.remedies.grant_sequence(*sequence),
        )
    for function in lacks_functions(need, table):
        yield error(
            name,
            f"the role {role!r} may not EXECUTE the function {function}, which is called when a row is written",
            exam.catalog.remedies.grant_function(function),
        )


# --- what people may want to do beside -----------------------------------------------------------------------------


def _check_further(exam: Examination, name: str, table: Table) -> Iterator[Finding]:
    """What the source's own action and settings do not ask for, and a person may."""
    role, grant = exam.catalog.server.role, exam.catalog.remedies.grant
    if lacking := _lacking(exam, name, table, [replace(exam.duties, purge=True)]):
        message = f"the role {role!r} may not {_words(lacking)}: `reaper purge` cannot delete what has finished"
        yield note(name, message, grant(table, lacking))
    others = sorted(set(exam.profile.actions) - set(actions_of(exam.profile, exam.duties.action)))
    if lacking := _lacking(exam, name, table, [Duties(other, exam.duties.purge) for other in others]):
        doing = [o for o in others if _lacking(exam, name, table, [Duties(o, exam.duties.purge)])]
        message = f"the role {role!r} may not {_words(lacking)}: `reaper fail --action` cannot {listed(doing)}"
        yield note(name, message, grant(table, lacking))


def _lacking(exam: Examination, name: str, table: Table, more: Iterable[Duties]) -> Missing:
    """What else these duties would ask for."""
    base = missing(exam.needs[name], table) if name in exam.needs else {}
    found: dict[str, set[str]] = {}
    for duties in more:
        if (need := needs(exam.profile, duties).get(name)) is not None:
            for privilege, columns in beyond(missing(need, table), base).items():
                found.setdefault(privilege, set()).update(columns)
    return {privilege: sorted(columns) for privilege, columns in found.items()}


def _words(lacking: Missing) -> str:
    return "; ".join(f"{privilege} {listed(columns)}".rstrip() for privilege, columns in lacking.items())

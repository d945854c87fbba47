"""May the connected role do what a sweep does?"""

from __future__ import annotations

from collections.abc import Iterator

from reaper.preflight.examination import Examination, listed
from reaper.preflight.finding import Finding, error, note, warning
from reaper.preflight.tables import Table
from reaper.preflight.uses import closes, deletes, inserts, locks, purges, reads, updates


def check_privileges(exam: Examination) -> Iterator[Finding]:
    told: set[str] = set()
    for name, table in sorted(exam.tables.items()):
        if not table.rights.usage and table.schema not in told:
            told.add(table.schema)
            yield error(
                name,
                f"the role {exam.catalog.server.role!r} may not use the schema {table.schema!r}",
                exam.catalog.remedies.grant_schema(table.schema),
            )
        yield from _check_table(exam, name, table)
    if not exam.catalog.server.sees_sessions:
        yield note(
            "server",
            f"the role {exam.catalog.server.role!r} does not see the state of other sessions in pg_stat_activity: "
            "who holds a locked job's row is told without it",
            exam.catalog.remedies.grant_role("pg_read_all_stats"),
        )


def _check_table(exam: Examination, name: str, table: Table) -> Iterator[Finding]:
    missing = _missing(exam, name, table)
    if missing:
        words = "; ".join(f"{privilege} {listed(columns)}".rstrip() for privilege, columns in missing.items())
        message = f"the role {exam.catalog.server.role!r} may not {words}"
        yield error(name, message, exam.catalog.remedies.grant(table, missing))
    if name in purges(exam.profile) and not (table.rights.delete or "DELETE" in missing):
        yield note(
            name,
            f"the role {exam.catalog.server.role!r} may not DELETE: `reaper purge` cannot delete what has finished",
            exam.catalog.remedies.grant(table, {"DELETE": []}),
        )
    if closes(exam.profile) == name and not (table.rights.close or "DELETE" in missing):
        yield error(
            name,
            f"the role {exam.catalog.server.role!r} may not LOCK the table, which keeps late entries out while a job "
            "is ended",
            exam.catalog.remedies.grant_close(table),
        )
    yield from _check_sequences(exam, name, table)
    if table.rights.row_security:
        yield warning(
            name,
            f"row-level security is active for the role {exam.catalog.server.role!r}: rows that a policy hides are "
            "neither seen nor ended",
            exam.catalog.remedies.pass_row_security(),
        )


def _missing(exam: Examination, name: str, table: Table) -> dict[str, list[str]]:
    """Columns by privilege; without columns, it is one on the table as a whole."""
    profile, rights = exam.profile, table.rights
    wanted = {
        "SELECT": (reads(profile).get(name, set()), rights.select),
        "UPDATE": (updates(profile).get(name, set()), rights.update),
        "INSERT": (inserts(profile).get(name, set()), rights.insert),
    }
    missing = {
        privilege: sorted((columns & set(table.columns)) - granted)
        for privilege, (columns, granted) in wanted.items()
        if (columns & set(table.columns)) - granted
    }
    # FOR UPDATE asks for UPDATE on any one column: those that an action sets will do.
    locked = locks(profile).get(name)
    if locked is not None and locked in table.columns and not rights.lock and "UPDATE" not in missing:
        missing["UPDATE"] = [locked]
    if name in deletes(profile) and not rights.delete:
        missing["DELETE"] = []
    return missing


def _check_sequences(exam: Examination, name: str, table: Table) -> Iterator[Finding]:
    inserted = inserts(exam.profile).get(name)
    for column, sequence in sorted(table.rights.sequences.items()):
        if inserted is not None and column not in inserted:
            yield error(
                f"{name}.{column}",
                f"the role {exam.catalog.server.role!r} may not take the next value of the sequence {sequence[1]!r}, "
                "the column's default",
                exam.catalog.remedies.grant_sequence(*sequence),
            )

"""Whether the names of a profile still lead to the tables that they led to at the first contact. PostgreSQL only.

The statements of a source name each table with its schema, and the one that locks jobs compares the identity of every
table: until the next contact, a table that is put in the place of another one makes it lock nothing. Between the
reading here and the first lock, others can do this:

- A migration that replaces a table, or a role that creates one earlier on the path, is noticed at the next contact. A
  batch in between locks none of its jobs, and leaves them alone as if another transaction held them.
- A second reaper that has met the new table first ends jobs there; this one ends none.
- After a failover to a copy of the server, the numbers of the tables are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, not_, select

from reaper.database.postgresql.named_tables import NamedTable, name_of_table, named_tables
from reaper.profile.real_tables import TableIdentity
from reaper.sql.tables import ProfileTables, reserved_alias, table_of


@dataclass(frozen=True, slots=True)
class TableChanges:
    """`replaced` are the tables that have another one in their place, by name. `diverted` says, in words, which bare
    names mean another table to the role now: the reaper goes on with the one before.
    """

    replaced: Mapping[str, NamedTable] = field(default_factory=dict)
    diverted: tuple[str, ...] = ()


def read_table_changes(connection: Connection, tables: ProfileTables) -> TableChanges:
    """What has changed since the tables were looked up. In a transaction of ours."""
    clauses = {name: tables.table(name) for name in tables.identities}
    if not clauses:
        return TableChanges()
    schemas = {clause.schema for clause in clauses.values() if clause.schema}
    found = named_tables(connection, {clause.name for clause in clauses.values()}, schemas)
    replaced, diverted = dict[str, NamedTable](), list[str]()
    for name, clause in sorted(clauses.items()):
        now = next((table for table in found if (table.schema, table.name) == (clause.schema, clause.name)), None)
        if now is not None and now.identity != tables.identities[name]:
            replaced[name] = now
        first = next((table for table in found if table.name == clause.name and table.place is not None), None)
        if name in tables.schemas and first is not None and first.schema != clause.schema:
            diverted.append(
                f"{name} leads to {first.schema}.{first.name} now, and {clause.schema}.{clause.name} was meant at the "
                "first contact: name the schema in the profile, or remove the other table"
            )
    return TableChanges(replaced, tuple(diverted))


def reasons_not_to_follow(
    connection: Connection, tables: ProfileTables, replaced: Mapping[str, NamedTable]
) -> Iterator[str]:
    """Why the tables now in place are not known to be those before, in words. In a transaction of ours.

    They are where a migration has copied a table and put the copy in its place: the owner is the same, and every
    running job of the old table, which still exists under another name, is in the new one.
    """
    for name, now in replaced.items():
        before, shown = tables.identities[name], f"{now.schema}.{now.name}"
        if before.database != now.identity.database or before.number == now.identity.number:
            continue
        if before.owner != now.identity.owner:
            yield f"{shown} is another table, of {now.identity.owner!r}; the one before was {before.owner!r}'s"
        elif name == tables.profile.jobs.table and (reason := _missing_jobs(connection, tables, before, shown)):
            yield reason


def _missing_jobs(connection: Connection, tables: ProfileTables, before: TableIdentity, shown: str) -> str | None:
    place = name_of_table(connection, before.number)
    if place is None:
        return f"{shown} is another table, and the one before is gone, so whether its jobs are there cannot be seen"
    jobs = tables.jobs
    old = table_of(place[1], [column.name for column in jobs.c], place[0]).alias(reserved_alias("old"))
    same_job = ProfileTables.keys_equal(tables.key(jobs), tables.key(old))
    copied = select(1).select_from(jobs).where(same_job).correlate(old).exists()
    missing = select(1).select_from(old).where(tables.running(old), not_(copied)).limit(1)
    if connection.execute(missing).first() is None:
        return None
    return f"{shown} is another table, and does not have every running job of {place[0]}.{place[1]}, the one before"

"""What `reaper grants` has to know of a database: looked up there, or taken from the profile alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from reaper.catalog import Catalog, NotVisible, QueryFailed
from reaper.catalog.mariadb import NOBODY
from reaper.catalog.mariadb_fixes import MariaDBFixes
from reaper.catalog.postgresql_fixes import Fixes
from reaper.catalog.session import opened
from reaper.catalog.tables import NOTHING, Table, assumed
from reaper.profile import Profile
from reaper.sql.tables import split_name

_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class GrantFacts:
    """The tables as somebody meets them who has been granted nothing, and the statements for a role.

    `there`: the role exists already; None when that was not asked. `path` are the schemas in which a bare name is
    looked up for it, where there is such a thing, and `astray` those of tables that it would not find so. `notes`
    tell what could not be looked up, and `wrong` what the profile names and the database does not have.
    """

    tables: Mapping[str, Table]
    fixes: Fixes
    there: bool | None
    notes: Sequence[str] = ()
    wrong: Sequence[str] = ()
    path: Sequence[str] | None = None
    outside_search_path: Sequence[str] = ()


def from_database(connection: Connection, profile: Profile, role: str) -> GrantFacts:
    """Nothing is left changed. Raises Unsuitable, and DatabaseAway when the database cannot be asked."""
    with opened(connection, profile, _PATIENCE_SECONDS) as catalog:
        tables, notes, wrong = dict[str, Table](), list[str](), list[str]()
        for name, columns in sorted(profile.columns().items()):
            table, why = _found(catalog, profile, name)
            if why is not None:
                notes.append(f"{name}: {why}; its columns are taken from the profile")
            if table is None:
                wrong.append(f"{name}: no such table")
                continue
            wrong += [f"{name}.{column}: no such column" for column in sorted(columns - set(table.columns))]
            tables[name] = replace(table, rights=table.nobody, hiding=catalog.hiding(table, role))
        path, there = catalog.search_path(role), catalog.has_role(role)
        bare = {table.schema: None for name, table in tables.items() if split_name(name)[0] is None and table.schema}
        astray = [schema for schema in bare if path is not None and schema not in path]
        return GrantFacts(tables, replace(catalog.fixes, role=role), there, notes, wrong, path, astray)


def _found(catalog: Catalog, profile: Profile, name: str) -> tuple[Table | None, str | None]:
    """The table, and why it is only what the profile says of it, if it is."""
    try:
        return catalog.find(name), None
    except QueryFailed as why:
        return assumed(profile, name, NOTHING, _place(name)), f"could not be looked at ({why})"
    except NotVisible as hidden:
        table = assumed(profile, name, NOBODY, (hidden.schema, hidden.table))
        return table, f"is not shown to the user {catalog.server.role!r}"


def from_profile(profile: Profile, dialect: str, database: str, role: str) -> GrantFacts:
    """What the profile alone tells. Every name is quoted: which words a server keeps to itself is not known."""
    own = dialect == "postgresql"
    tables = {
        name: assumed(profile, name, NOTHING if own else NOBODY, _place(name) if own else _in(database, name))
        for name in sorted(profile.tables)
    }
    notes = ["no database was asked: the names are the profile's"]
    if own:
        notes.append(
            "not looked up: sequences behind defaults, functions that PUBLIC may not execute, row-level security"
        )
        if (log := profile.jobs.log) is not None and log.lock == "table":
            notes.append("from PostgreSQL 17 on, MAINTAIN instead of UPDATE is enough to lock the log")
        bare = sorted({table.name for table in tables.values() if not table.schema})
        if bare:
            notes.append(
                f"not looked up: the schema of {', '.join(bare)}, which the role needs USAGE on, and in its search_path"
            )
    made = (Fixes if own else MariaDBFixes)(role, database, None, 0)
    return GrantFacts(tables, made, None, notes)


def _place(name: str) -> tuple[str, str]:
    schema, bare = split_name(name)
    return schema or "", bare


def _in(database: str, name: str) -> tuple[str, str]:
    schema, bare = split_name(name)
    return schema or database, bare

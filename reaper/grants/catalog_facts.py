"""The facts that `reaper grants` needs about a database: read from its catalogs, or taken from the profile alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from reaper.catalog import QUERY_SECONDS, Catalog, NotVisible, QueryFailed
from reaper.catalog.mariadb_fix_statements import MariaDBFixes
from reaper.catalog.postgresql_fix_statements import Fixes
from reaper.catalog.session import open_catalog
from reaper.catalog.tables import NO_PRIVILEGES, NO_PRIVILEGES_MARIADB, Table, table_from_profile
from reaper.database.dialect import dialect_of
from reaper.profile import Profile
from reaper.profile.name_spelling import without_optional_inserts
from reaper.source.name_spelling_decision import read_spelling
from reaper.sql.tables import split_name


@dataclass(frozen=True, slots=True)
class GrantFacts:
    """The tables as a role without any grants sees them, and the statements for the role.

    `profile` is spelled as the database spells it, with the optional inserts that its tables allow.
    `role_exists` is None when that was not looked up. `search_path` are the schemas in which the role's unqualified
    names are looked up, None where the server has no such path; `outside_search_path` are schemas of tables that the
    role would not find there. `notes` say what could not be looked up. `missing_names` are tables and columns that the
    profile names and the database does not have.
    """

    profile: Profile
    tables: Mapping[str, Table]
    fixes: Fixes
    role_exists: bool | None
    notes: Sequence[str] = ()
    missing_names: Sequence[str] = ()
    search_path: Sequence[str] | None = None
    outside_search_path: Sequence[str] = ()


def facts_from_database(connection: Connection, profile: Profile, role: str) -> GrantFacts:
    """Changes nothing.

    Raises:
        Unsuitable: the profile cannot be used on this server.
        DatabaseUnavailable: the database does not answer.
        SpellingUnclear: names or values differ only by case, and which are meant is unclear.
    """
    with open_catalog(connection, profile, QUERY_SECONDS) as catalog:
        catalog.resolve_as(role)
        profile, unspelled = _spelled(connection, catalog, profile)
        tables, notes, missing_names = dict[str, Table](), [*unspelled], list[str]()
        for name, columns in sorted(profile.columns().items()):
            table, reason = _find_table(catalog, profile, name)
            if reason is not None:
                notes.append(f"{name}: {reason}; its columns are taken from the profile")
            if table is None:
                missing_names.append(f"{name}: no such table")
                continue
            missing_names += [f"{name}.{column}: no such column" for column in sorted(columns - set(table.columns))]
            restrictions = catalog.row_restrictions(table, role)
            tables[name] = replace(table, privileges=table.privileges_of_new_role, row_restrictions=restrictions)
        path = catalog.search_path(role)
        schemas = {table.schema: None for name, table in tables.items() if split_name(name)[0] is None and table.schema}
        return GrantFacts(
            profile,
            tables,
            replace(catalog.fixes, role=role),
            catalog.has_role(role),
            notes,
            missing_names,
            path,
            outside_search_path=[schema for schema in schemas if path is not None and schema not in path],
        )


def _spelled(connection: Connection, catalog: Catalog, profile: Profile) -> tuple[Profile, list[str]]:
    """The profile as the database spells it, and why that could not be read, if so."""
    try:
        path = catalog.resolution_path
        spelling = read_spelling(dialect_of(connection), catalog.query, profile, path, catalog.may_sample)
    except QueryFailed as failed:
        return profile, [f"whether names differ only by case could not be read ({failed})"]
    return spelling.with_every_privilege().applied_to(profile), []


def _find_table(catalog: Catalog, profile: Profile, name: str) -> tuple[Table | None, str | None]:
    """The table, and the reason why only the profile's idea of it is known, if that is so."""
    try:
        return catalog.find_table(name), None
    except QueryFailed as failed:
        table = table_from_profile(profile, name, NO_PRIVILEGES, _schema_and_name(name))
        return table, f"could not be read ({failed})"
    except NotVisible as hidden:
        table = table_from_profile(profile, name, NO_PRIVILEGES_MARIADB, (hidden.schema, hidden.table))
        return table, f"is not shown to the user {catalog.server.role!r}"


def facts_from_profile(profile: Profile, dialect: str, database: str, role: str) -> GrantFacts:
    """The facts that the profile alone gives. Every name is quoted, as the server's keywords are not known."""
    spelling = without_optional_inserts(profile)
    profile = spelling.applied_to(profile)
    offline = [_OFFLINE, *(_OPTIONAL.format(table) for table in spelling.left_out)]
    if dialect != "postgresql":
        tables = {
            name: table_from_profile(profile, name, NO_PRIVILEGES_MARIADB, _schema_and_name(name, database))
            for name in sorted(profile.tables)
        }
        return GrantFacts(profile, tables, MariaDBFixes(role, database, None, 0), None, offline)
    tables = {
        name: table_from_profile(profile, name, NO_PRIVILEGES, _schema_and_name(name))
        for name in sorted(profile.tables)
    }
    notes = [*offline, *_unknown_offline(profile, tables)]
    return GrantFacts(profile, tables, Fixes(role, database, None, 0), None, notes)


_OFFLINE = "no database was asked: all names are taken from the profile"
_OPTIONAL = "not looked up: whether there is a table {}; where there is one, the role may INSERT into it too"


def _unknown_offline(profile: Profile, tables: Mapping[str, Table]) -> list[str]:
    notes = ["not looked up: sequences behind defaults, functions that PUBLIC may not execute, row-level security"]
    if (log := profile.jobs.log) is not None and log.lock == "table":
        notes.append("from PostgreSQL 17 on, MAINTAIN instead of UPDATE is enough to lock the log")
    unqualified = sorted({table.name for table in tables.values() if not table.schema})
    if unqualified:
        notes.append(
            f"not looked up: the schema of {', '.join(unqualified)}; the role needs USAGE on it, and needs it in its "
            "search_path"
        )
    return notes


def _schema_and_name(name: str, default_schema: str = "") -> tuple[str, str]:
    schema, bare = split_name(name)
    return schema or default_schema, bare

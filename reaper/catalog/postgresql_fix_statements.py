"""The statements that fix findings, and the grants, on PostgreSQL. Each can be executed as printed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reaper.catalog.tables import Index, Table
from reaper.database.postgresql.lock_holder import XMAX
from reaper.database.postgresql.row_security import RowRestriction, fix

_MAINTAIN_SINCE = 17


@dataclass(frozen=True, slots=True)
class Fixes:
    """Statements for a role. Names are quoted where the server's keywords require it; all of them where those are
    unknown (`keywords` is None).

    `version` is the server's major version. `reaper.catalog.mariadb_fix_statements` overrides what MariaDB spells
    otherwise; the other statements are never needed there.
    """

    role: str
    database: str
    keywords: frozenset[str] | None
    version: int

    def grant(self, table: Table, privileges: Mapping[str, Sequence[str]]) -> str:
        """`privileges` maps each privilege to its columns; without columns it is granted on the whole table."""
        parts = [f"{p} ({self._list(columns)})" if columns else p for p, columns in privileges.items()]
        return f"GRANT {', '.join(parts)} ON TABLE {self.name(table.schema, table.name)} TO {self._to};"

    def grant_read_row_holder(self, table: Table) -> str:
        return self.grant(table, {"SELECT": [XMAX]})

    def grant_lock_table(self, table: Table) -> str:
        """The smallest privilege that lets the role lock the whole table."""
        return self.grant(table, {"MAINTAIN" if self.version >= _MAINTAIN_SINCE else "UPDATE": ()})

    def lock_table_purpose(self, table: Table) -> str:
        """What the grant is for, and its form without MAINTAIN: the statements may be run on an older server."""
        purpose = "lock the table while a job is ended"
        if self.version < _MAINTAIN_SINCE:
            return purpose
        return f"{purpose}; before PostgreSQL {_MAINTAIN_SINCE} use: {self.grant(table, {'UPDATE': ()})}"

    def create_role(self) -> str:
        """A role without a password: no client can log in as it until it gets one, or a line in pg_hba.conf."""
        return f"CREATE ROLE {self._to} LOGIN;"

    @property
    def login_instructions(self) -> str:
        """What the administrator has to do before the role can log in."""
        return "the role; it cannot log in until you give it a password, or a line in pg_hba.conf"

    def grant_connect(self) -> Sequence[str]:
        return [f"GRANT CONNECT ON DATABASE {self.name(self.database)} TO {self._to};"] if self.database else []

    def grant_create(self, schema: str) -> str:
        return f"GRANT CREATE ON SCHEMA {self.name(schema)} TO {self._to};"

    def revoke_create(self, schema: str, roles: Iterable[str]) -> str:
        """Takes from these roles the privilege to create something in the schema. PUBLIC stands for all roles."""
        return f"REVOKE CREATE ON SCHEMA {self.name(schema)} FROM {self._roles(roles)};"

    def revoke_create_schemas(self, roles: Iterable[str]) -> str:
        """Takes from these roles the privilege to create schemas in the database. PUBLIC stands for all roles."""
        return f"REVOKE CREATE ON DATABASE {self.name(self.database)} FROM {self._roles(roles)};"

    def set_path_of_function(self, signature: str, path: str) -> str:
        return f"ALTER FUNCTION {signature} SET search_path = {path};"

    def grant_sessions(self) -> str:
        """Lets the role see the state of other roles' sessions."""
        return self.grant_role("pg_read_all_stats")

    def show_all_rows(self, restriction: RowRestriction) -> str:
        """Keeps row-level security from hiding rows."""
        return fix(restriction, self._quote)

    def extend_search_path(self, schemas: Iterable[str], path: Iterable[str]) -> str:
        """Adds these schemas in front of the role's search path, so that unqualified names find their tables."""
        return self.set_for_role("search_path", self._list(dict.fromkeys([*schemas, *path])))

    def grant_schema(self, schema: str) -> str:
        return f"GRANT USAGE ON SCHEMA {self.name(schema)} TO {self._to};"

    def grant_sequence(self, schema: str, name: str) -> str:
        return f"GRANT USAGE ON SEQUENCE {self.name(schema, name)} TO {self._to};"

    def grant_function(self, signature: str) -> str:
        return f"GRANT EXECUTE ON FUNCTION {signature} TO {self._to};"

    def grant_role(self, role: str) -> str:
        return f"GRANT {self.name(role)} TO {self._to};"

    def set_for_role(self, setting: str, value: str) -> str:
        return f"ALTER ROLE {self._to} IN DATABASE {self.name(self.database)} SET {setting} = {value};"

    def create_index(self, table: Table, columns: Iterable[str], null: Mapping[str, bool] | None = None) -> str:
        """`null`: a partial index of the rows in which these columns are NULL (True) or NOT NULL (False)."""
        # PostgreSQL cannot build an index of a partitioned table CONCURRENTLY.
        concurrently = "" if table.kind == "partitioned table" else " CONCURRENTLY"
        only = " AND ".join(f"{self.name(c)} IS {'' if is_null else 'NOT '}NULL" for c, is_null in (null or {}).items())
        where = f" WHERE {only}" if only else ""
        return f"CREATE INDEX{concurrently} ON {self.name(table.schema, table.name)} ({self._list(columns)}){where};"

    def rebuild(self, table: Table, index: Index) -> str:
        if table.kind == "partitioned table":
            return f"REINDEX INDEX {self.name(index.schema, index.name)};"
        return f"REINDEX INDEX CONCURRENTLY {self.name(index.schema, index.name)};"

    def add_unique(self, table: Table, columns: Iterable[str]) -> str:
        return f"ALTER TABLE {self.name(table.schema, table.name)} ADD UNIQUE ({self._list(columns)});"

    def add_foreign_key(self, table: Table, columns: Iterable[str], to: Table, key: Iterable[str]) -> str | None:
        # NOT VALID: checking the old rows would take long and block writers.
        not_valid = " NOT VALID" if table.kind == "table" else ""
        return (
            f"ALTER TABLE {self.name(table.schema, table.name)} ADD FOREIGN KEY ({self._list(columns)})"
            f" REFERENCES {self.name(to.schema, to.name)} ({self._list(key)}){not_valid};"
        )

    def lockable(self, table: Table) -> str | None:  # noqa: ARG002
        """The statement after which the rows of the table can be locked; None where there is none."""
        return None

    def drop_rule(self, table: Table, rule: str) -> str:
        return f"DROP RULE {self.name(rule)} ON {self.name(table.schema, table.name)};"

    def not_null(self, table: Table, column: str) -> str:
        return self._alter(table, column, "SET NOT NULL")

    def as_instant(self, table: Table, column: str) -> str:
        return self._alter(table, column, f"TYPE timestamptz USING {self.name(column)} AT TIME ZONE 'UTC'")

    def retype(self, table: Table, column: str, type_: str) -> str:
        return self._alter(table, column, f"TYPE {type_}")

    def name(self, *parts: str) -> str:
        """A name of one or more parts, quoted where needed."""
        return ".".join(self._quote(part) for part in parts if part)

    @property
    def _to(self) -> str:
        return self.name(self.role)

    def _alter(self, table: Table, column: str, change: str) -> str:
        return f"ALTER TABLE {self.name(table.schema, table.name)} ALTER COLUMN {self.name(column)} {change};"

    def _roles(self, roles: Iterable[str]) -> str:
        return ", ".join(role if role == "PUBLIC" else self._quote(role) for role in roles)

    def _list(self, columns: Iterable[str]) -> str:
        return ", ".join(map(self._quote, columns))

    def _quote(self, name: str) -> str:
        if self.keywords is not None and re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in self.keywords:
            return name
        if not name.isprintable():
            return 'U&"' + "".join(map(_escaped, name)) + '"'
        return '"' + name.replace('"', '""') + '"'


def _escaped(character: str) -> str:
    if character in ('"', "\\"):
        return character * 2
    return character if character.isprintable() else f"\\+{ord(character):06X}"

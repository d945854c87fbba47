"""The statements that mend things in PostgreSQL, executable as printed."""

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
    """Statements for a role. Names are quoted where the server's own keywords ask for it; all, where nobody
    knows those.
    """

    role: str
    database: str
    keywords: frozenset[str] | None
    version: int

    def grant(self, table: Table, privileges: Mapping[str, Sequence[str]]) -> str:
        """`privileges` are columns by privilege; without columns, it is one on the table as a whole."""
        parts = [f"{p} ({self._list(columns)})" if columns else p for p, columns in privileges.items()]
        return f"GRANT {', '.join(parts)} ON TABLE {self.name(table.schema, table.name)} TO {self._to};"

    def grant_holder(self, table: Table) -> str:
        return self.grant(table, {"SELECT": [XMAX]})

    def grant_close(self, table: Table) -> str:
        """Whatever is least that lets the role lock the whole table."""
        return self.grant(table, {"MAINTAIN" if self.version >= _MAINTAIN_SINCE else "UPDATE": ()})

    def why_close(self, table: Table) -> str:
        """What it is for, and what there was before MAINTAIN: statements are handed on to other servers."""
        why = "lock it while a job is ended"
        if self.version < _MAINTAIN_SINCE:
            return why
        return f"{why}; before PostgreSQL {_MAINTAIN_SINCE} instead: {self.grant(table, {'UPDATE': ()})}"

    def create_role(self) -> str:
        """One that nobody comes in as before there is a password or a rule for it."""
        return f"CREATE ROLE {self._to} LOGIN;"

    @property
    def way_in(self) -> str:
        """What is left to be done about it."""
        return "the role: a password, or a line of pg_hba.conf that lets it in without one, is for you to add"

    def grant_connect(self) -> Sequence[str]:
        return [f"GRANT CONNECT ON DATABASE {self.name(self.database)} TO {self._to};"] if self.database else []

    def grant_create(self, schema: str) -> str:
        return f"GRANT CREATE ON SCHEMA {self.name(schema)} TO {self._to};"

    def grant_sessions(self) -> str:
        """Lets the role see what others' sessions do."""
        return self.grant_role("pg_read_all_stats")

    def see_all(self, hiding: RowRestriction) -> str:
        """Keeps row-level security from hiding rows."""
        return fix(hiding, self._quote)

    def look_in(self, schemas: Iterable[str], path: Iterable[str]) -> str:
        """Lets the role find tables of these schemas by their bare names, and what it finds along its path so far."""
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
        """`null`: only rows in which these columns are NULL, or are not."""
        # An index of a partitioned table cannot be built beside its writers.
        how = "" if table.kind == "partitioned table" else " CONCURRENTLY"
        only = " AND ".join(f"{self.name(c)} IS {'' if yes else 'NOT '}NULL" for c, yes in (null or {}).items())
        where = f" WHERE {only}" if only else ""
        return f"CREATE INDEX{how} ON {self.name(table.schema, table.name)} ({self._list(columns)}){where};"

    def rebuild(self, table: Table, index: Index) -> str:
        if table.kind == "partitioned table":
            return f"REINDEX INDEX {self.name(index.schema, index.name)};"
        return f"REINDEX INDEX CONCURRENTLY {self.name(index.schema, index.name)};"

    def add_unique(self, table: Table, columns: Iterable[str]) -> str:
        return f"ALTER TABLE {self.name(table.schema, table.name)} ADD UNIQUE ({self._list(columns)});"

    def add_foreign_key(self, table: Table, columns: Iterable[str], to: Table, key: Iterable[str]) -> str | None:
        # Without a look at the old rows, which would take long and hold up writers.
        later = " NOT VALID" if table.kind == "table" else ""
        return (
            f"ALTER TABLE {self.name(table.schema, table.name)} ADD FOREIGN KEY ({self._list(columns)})"
            f" REFERENCES {self.name(to.schema, to.name)} ({self._list(key)}){later};"
        )

    def lockable(self, table: Table) -> str | None:  # noqa: ARG002
        """The table with rows that can be locked, where a statement makes it one."""
        return None

    def drop_rule(self, table: Table, rule: str) -> str:
        return f"DROP RULE {self.name(rule)} ON {self.name(table.schema, table.name)};"

    def not_null(self, table: Table, column: str) -> str:
        return self._alter(table, column, "SET NOT NULL")

    def as_instant(self, table: Table, column: str) -> str:
        return self._alter(table, column, f"TYPE timestamptz USING {self.name(column)} AT TIME ZONE 'UTC'")

    def retype(self, table: Table, column: str, words: str) -> str:
        return self._alter(table, column, f"TYPE {words}")

    def name(self, *parts: str) -> str:
        """A name of one or more parts, quoted where it must be."""
        return ".".join(self._quote(part) for part in parts if part)

    @property
    def _to(self) -> str:
        return self.name(self.role)

    def _alter(self, table: Table, column: str, what: str) -> str:
        return f"ALTER TABLE {self.name(table.schema, table.name)} ALTER COLUMN {self.name(column)} {what};"

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

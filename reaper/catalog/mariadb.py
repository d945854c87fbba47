"""MariaDB's catalogs. They say nothing about a table that the user has no privilege for, not even that it exists.

Foreign keys and constraints are read from SHOW CREATE TABLE, which works for users to whom the catalogs do not show
them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, Row, literal_column, select, text
from sqlalchemy.exc import DBAPIError

from reaper.catalog import Catalog, NotVisible, QueryFailed, Server
from reaper.catalog import mariadb_queries as queries
from reaper.catalog.mariadb_ddl import (
    check_constraints_in,
    column_of,
    columns_in,
    definition_of,
    family_of,
    foreign_keys_in,
    index_of,
    kind_of,
    names_in,
    sample_value,
    sequences_in,
    tables_read_by,
)
from reaper.catalog.mariadb_fix_statements import ColumnDefinition, MariaDBFixes
from reaper.catalog.tables import NO_PRIVILEGES_MARIADB, ForeignKey, Privileges, Table, Trigger
from reaper.database.errors import ErrorKind, classify, error_number, short_message
from reaper.database.postgresql.row_security import RowRestriction
from reaper.model import TimestampFormat
from reaper.profile.user_sql import LookedUpName
from reaper.sql.tables import split_name, table_of

# The server's error numbers.
_DENIED = frozenset({1142, 1143, 1044, 1045, 1370})
_READ_ONLY, _TIMED_OUT = (1792, 1290), 1969  # read-only are: the transaction; the server
_COLLATIONS = ("1267", "1270", "1271")

_NUMBERS = {"integer": r"\s*[+-]?\d+", "number": r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"}
_CASTS = {
    "datetime": "CAST(:v AS DATETIME) IS NOT NULL",
    "json": "JSON_VALID(:v)",
    "uuid": "CAST(:v AS UUID) IS NOT NULL",
}

CATALOG_QUERY_SECONDS = 60.0
"""How long a query of the catalogs themselves may take."""


class MariaDBCatalog(Catalog):
    """MariaDB's. The session's time zone is UTC, and each of its statements is limited in time."""

    json_type = "JSON"
    json_families: tuple[str, ...] = ("json", "text", "other")
    timestamp_types: Mapping[TimestampFormat, str] = dict.fromkeys(
        (TimestampFormat.TIMESTAMPTZ, TimestampFormat.NAIVE), "a DATETIME or TIMESTAMP in UTC"
    )

    fixes: MariaDBFixes

    def __init__(self, connection: Connection, query_seconds: float) -> None:
        self._connection, self._query_seconds = connection, query_seconds
        row = connection.execute(text(queries.SERVER)).one()
        self.read_only = bool(row.forced_read_only) or row.read_only not in (0, "OFF")
        self.server = Server(
            role=row.role,
            database=row.database,
            standby=False,
            read_only=False,
            now=row.now.replace(tzinfo=UTC),
            started=row.started.replace(tzinfo=UTC),
            sees_sessions=True,
            timeouts={},
        )
        self.definitions: dict[tuple[int, str], ColumnDefinition] = {}
        self.fixes = MariaDBFixes(row.role, row.database, frozenset(), 0, self.definitions)
        self._identities: dict[tuple[str, str], int] = {}

    def find_table(self, spelled: str) -> Table | None:
        schema, bare = split_name(spelled)
        if rows := self._rows(text(queries.TABLE).bindparams(schema=schema, name=bare)):
            return self._load(rows[0])
        try:
            self._query_about("SELECT 1 FROM {} LIMIT 0", schema or self.server.database, bare)
        except QueryFailed as failed:
            if _is_denied(failed):
                raise NotVisible(schema or self.server.database, bare, partly=False) from None
        return None

    def can_compare(self, one: str, other: str) -> bool:  # noqa: ARG002 - it compares values of all types
        return True

    def has_role(self, name: str) -> bool | None:  # noqa: ARG002
        """None: only an administrator may see the other users."""
        return None

    def same_name_elsewhere(self, spelled: str) -> list[str]:
        schema, bare = split_name(spelled)
        rows = self._connection.execute(text(queries.ELSEWHERE), {"schema": schema, "name": bare})
        return [row.name if row.schema == self.server.database else f"{row.schema}.{row.name}" for row in rows]

    def table_names(self, spelled: str) -> list[str]:
        schema, _ = split_name(spelled)
        prefix = f"{schema}." if schema else ""
        return [f"{prefix}{row[0]}" for row in self._connection.execute(text(queries.NAMES), {"schema": schema})]

    def every_table(self) -> Mapping[tuple[str, str], Sequence[str]]:
        tables = dict[tuple[str, str], list[str]]()
        for row in self._rows(text(queries.EVERY_TABLE)):
            tables.setdefault((row.schema, row.name), []).append(row.column)
        return tables

    def referring(self, table: Table) -> Sequence[tuple[str, str]]:
        place = {"schema": table.schema, "name": table.name}
        return [(row.schema, row.name) for row in self._rows(text(queries.REFERRING).bindparams(**place))]

    def tables_behind(self, view: Table) -> list[str]:
        place = {"schema": view.schema, "name": view.name}
        definition = self._connection.execute(text(queries.VIEW), place).scalar_one_or_none() or ""
        tables = sorted(tables_read_by(definition))
        return [table if schema == self.server.database else f"{schema}.{table}" for schema, table in tables]

    def row_restrictions(self, table: Table, role: str) -> Sequence[RowRestriction]:  # noqa: ARG002
        """None: MariaDB has no row-level security."""
        return ()

    def search_path(self, role: str) -> None:
        """None: unqualified names are looked up in the database of the connection."""

    def creators(self, schemas: Collection[str], tables: Collection[int]) -> Mapping[str, Sequence[str]]:  # noqa: ARG002
        """None: nothing is looked up along a path."""
        return {}

    def schema_creators(self, tables: Collection[int]) -> Sequence[str]:  # noqa: ARG002
        return ()

    def absent_schemas(self, before: Collection[str]) -> Sequence[str]:  # noqa: ARG002
        return ()

    def schemas_of(self, names: Collection[LookedUpName]) -> Mapping[LookedUpName, Sequence[str]]:  # noqa: ARG002
        return {}

    def resolve_as(self, role: str) -> None:
        """Bare names are looked up in the database of the connection, for every user."""

    def query(self, statement: Executable, *, of_profile: bool = True) -> Sequence[Row[Any]]:  # noqa: ARG002
        self._connection.execute(text(queries.LIMIT), {"limit": self._query_seconds})
        try:
            return self._rows(statement)
        finally:
            if not self._connection.invalidated:
                self._connection.execute(text(queries.LIMIT), {"limit": CATALOG_QUERY_SECONDS})

    def _rows(self, statement: Executable) -> Sequence[Row[Any]]:
        try:
            return self._connection.execute(statement).all()
        except DBAPIError as error:
            code = error_number(error)
            unavailable = classify(error) is ErrorKind.UNAVAILABLE and code not in (*_DENIED, *_READ_ONLY)
            if error.connection_invalidated or unavailable:
                raise
            timed_out = f"cut off after {self._query_seconds:g} s"
            raise QueryFailed(timed_out if code == _TIMED_OUT else short_message(error), str(code or "")) from None

    def sample(self, type_: str, value: str | None) -> ColumnElement[Any]:
        return sample_value(type_, value)

    def accepts(self, type_: str, value: str) -> bool:
        family = family_of(type_)
        if family in _NUMBERS:
            return re.fullmatch(_NUMBERS[family], value) is not None
        if family not in _CASTS:
            return True
        return bool(self.query(text(f"SELECT {_CASTS[family]}").bindparams(v=value))[0][0])

    def comparison_error(self, left: tuple[Table, str], right: tuple[Table, str]) -> str | None:
        """Why the server refuses to compare two columns (their collations); None when it compares them."""
        (left_table, left_name), (right_table, right_name) = left, right
        one = table_of(f"{left_table.schema}.{left_table.name}", [left_name]).alias("a")
        other = table_of(f"{right_table.schema}.{right_table.name}", [right_name]).alias("b")
        joined = one.join(other, one.c[left_name] == other.c[right_name])
        try:
            self.query(select(literal_column("1")).select_from(joined).limit(0))
        except QueryFailed as failed:
            return str(failed) if failed.code in _COLLATIONS else None
        return None

    # --- a table -----------------------------------------------------------------------------------------------------

    def _load(self, row: Row[Any]) -> Table:
        place: dict[str, Any] = {"schema": row.schema, "name": row.name}
        identity, ddl = self._identity(row.schema, row.name), self._show_create_table(row)
        columns = self._rows(text(queries.COLUMNS).bindparams(**place))
        if ddl and {column.name for column in columns} != columns_in(ddl):
            raise NotVisible(row.schema, row.name, partly=True)
        checks = list(check_constraints_in(ddl))
        # MariaDB has no JSON type: a column declared as JSON is a text with this CHECK.
        json_columns = {
            name
            for check in checks
            for name in check.columns
            if check.expression.casefold() == f"json_valid({self.fixes.name(name)})"
        }
        for column in columns:
            self.definitions[identity, column.name] = definition_of(column)
        return Table(
            identity=identity,
            schema=row.schema,
            name=row.name,
            kind=kind_of(row),
            updatable_view=bool(row.updatable),
            partitioned_by=frozenset(names_in(row.partitioned_by or "")),
            estimated_rows=row.rows,
            columns={column.name: column_of(column, is_json=column.name in json_columns) for column in columns},
            indexes=[index_of(row.schema, name, list(parts)) for name, parts in self._indexes(place)],
            checks=[check for check in checks if not check.columns & json_columns],
            foreign_keys=[
                ForeignKey(names, self._identity(schema or row.schema, table))
                for names, schema, table in foreign_keys_in(ddl)
            ],
            triggers=[
                Trigger(t.name, frozenset(), t.event) for t in self._rows(text(queries.TRIGGERS).bindparams(**place))
            ],
            privileges=self._privileges(row, columns),
            privileges_of_new_role=replace(NO_PRIVILEGES_MARIADB, denied_sequences=_sequences(columns)),
            view_requirements=self._view_requirements(row),
        )

    def _view_requirements(self, row: Row[Any]) -> Sequence[str]:
        """A view is read with the privileges of the user who defined it, unless it has SQL SECURITY INVOKER."""
        place = {"schema": row.schema, "name": row.name}
        invoker = row.type == "VIEW" and self._connection.execute(text(queries.INVOKER), place).scalar_one_or_none()
        return ["SELECT on what it reads from"] if invoker else ()

    def _query_about(self, statement: str, schema: str, table: str) -> Sequence[Row[Any]]:
        """Runs a statement with the table's name for {}. A colon in the name is escaped, as it marks a parameter."""
        return self._rows(text(statement.format(self.fixes.name(schema, table)).replace(":", "\\:")))

    def _identity(self, schema: str, name: str) -> int:
        return self._identities.setdefault((schema, name), len(self._identities))

    def _indexes(self, place: Mapping[str, Any]) -> Iterator[tuple[str, Iterator[Row[Any]]]]:
        return groupby(self._rows(text(queries.INDEXES).bindparams(**place)), key=lambda part: str(part.name))

    def _show_create_table(self, row: Row[Any]) -> str:
        if row.type == "VIEW":
            return ""
        try:
            [shown] = self._query_about("SHOW CREATE TABLE {}", row.schema, row.name)
        except QueryFailed as failed:
            if _is_denied(failed):
                raise NotVisible(row.schema, row.name, partly=True) from None
            raise
        return str(shown._mapping["Create Table"])

    def _privileges(self, row: Row[Any], columns: Sequence[Row[Any]]) -> Privileges:
        granted = {column.name: set(column.privileges.split(",")) for column in columns}

        def columns_with(privilege: str) -> frozenset[str]:
            return frozenset(name for name, privileges in granted.items() if privilege in privileges)

        return Privileges(
            use_schema=True,
            select=columns_with("select"),
            update=columns_with("update"),
            insert=columns_with("insert"),
            delete=self._may_delete(row),
            lock_table=False,
            denied_sequences={
                column: denied
                for column, sequences in _sequences(columns).items()
                if (denied := [sequence for sequence in sequences if not self._may_use_sequence(*sequence)])
            },
            lock_rows=True,
            sequences_always_needed=True,
        )

    def _may_use_sequence(self, schema: str, name: str) -> bool:
        """Whether the user may take the next value of a sequence."""
        rows = self._rows(text(queries.SEQUENCE).bindparams(schema=schema, name=name))
        return {"select", "insert"} <= {privilege for row in rows for privilege in row.privileges.split(",")}

    def _may_delete(self, row: Row[Any]) -> bool:
        """The server checks the privilege first: with it, a read-only transaction fails only as read-only.

        A read-only server does not say, which counts as yes: another finding says that nothing can be written there.
        """
        try:
            self._query_about("EXPLAIN DELETE FROM {} WHERE FALSE", row.schema, row.name)
        except QueryFailed as failed:
            return failed.code in map(str, _READ_ONLY)
        return True


def _is_denied(failed: QueryFailed) -> bool:
    return failed.code != "" and int(failed.code) in _DENIED


def _sequences(columns: Sequence[Row[Any]]) -> dict[str, list[tuple[str, str]]]:
    """The sequences that defaults take a value from, by column."""
    return {column.name: names for column in columns if (names := sequences_in(column.value or ""))}

"""What MariaDB's catalogs say. Of a table that a user has no privilege for they say nothing, not even that it is there.

Foreign keys and constraints are read from SHOW CREATE TABLE: the catalogs show them to fewer users.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Executable, Row, literal_column, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import quoted_name

from reaper.catalog import NotVisible, QueryFailed, Server
from reaper.catalog import mariadb_queries as queries
from reaper.catalog.mariadb_ddl import (
    checks_in,
    column_of,
    columns_in,
    definition_of,
    family_of,
    foreign_keys_in,
    index_of,
    kind_of,
    read_by,
    sample,
    sequences_in,
)
from reaper.catalog.mariadb_fixes import Definition, MariaDBFixes
from reaper.catalog.tables import NOTHING, ForeignKey, Privileges, Table, Trigger
from reaper.database.errors import ErrorKind, classify, error_number, short_message
from reaper.database.postgresql.row_security import RowRestriction
from reaper.model import TimestampFormat
from reaper.sql.tables import split_name, table_of

_DENIED = frozenset({1142, 1143, 1044, 1045, 1370})
_READ_ONLY, _CUT_OFF = 1792, 1969
_COLLATIONS = ("1267", "1270", "1271")
_NUMBERS = {"integer": r"\s*[+-]?\d+", "number": r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"}
_READ = {
    "datetime": "CAST(:v AS DATETIME) IS NOT NULL",
    "json": "JSON_VALID(:v)",
    "uuid": "CAST(:v AS UUID) IS NOT NULL",
}

NOBODY = replace(NOTHING, usage=True, lock=True, holder=True, shape=False, eager=True)
"""To lock rows, no more is asked for than to read them; the keys of a table are not shown to everybody."""

LONGEST_SECONDS = 60.0
"""What a question to the catalogs may take."""


class MariaDB:
    """A `Catalog`. The session is in UTC, and each of its statements is limited in time."""

    document = "JSON"
    documents: tuple[str, ...] = ("json", "text", "other")
    clocks: Mapping[TimestampFormat, str] = dict.fromkeys(
        (TimestampFormat.TIMESTAMPTZ, TimestampFormat.NAIVE), "a DATETIME or TIMESTAMP in UTC"
    )

    def __init__(self, connection: Connection, patience_seconds: float) -> None:
        self._connection, self._timeouts = connection, patience_seconds
        row = connection.execute(queries.SERVER).one()
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
        self.definitions: dict[tuple[int, str], Definition] = {}
        self.fixes = MariaDBFixes(row.role, row.database, frozenset(), 0, self.definitions)
        self._known: dict[tuple[str, str], int] = {}

    def find(self, spelled: str) -> Table | None:
        """Raises Hidden where the user may not see whether there is such a table, or what it is like."""
        schema, bare = split_name(spelled)
        if found := self._rows(queries.TABLE.bindparams(schema=schema, name=bare)):
            return self._load(found[0])
        try:
            self._about("SELECT 1 FROM {} LIMIT 0", schema or self.server.database, bare)
        except QueryFailed as refused:
            if refused.state and int(refused.state) in _DENIED:
                raise NotVisible(schema or self.server.database, bare, partly=False) from None
        return None

    def has_role(self, name: str) -> bool | None:  # noqa: ARG002
        """Who else there is only its administrator sees."""
        return None

    def elsewhere(self, spelled: str) -> list[str]:
        """The same name in other databases of the server, as a profile spells it."""
        schema, bare = split_name(spelled)
        rows = self._connection.execute(queries.ELSEWHERE, {"schema": schema, "name": bare})
        return [row.name if row.schema == self.server.database else f"{row.schema}.{row.name}" for row in rows]

    def names(self, spelled: str) -> list[str]:
        """Tables that might have been meant."""
        schema, _ = split_name(spelled)
        prefix = f"{schema}." if schema else ""
        return [f"{prefix}{row[0]}" for row in self._connection.execute(queries.NAMES, {"schema": schema})]

    def viewed(self, view: Table) -> list[str]:
        """The tables that a view reads from, as far as its definition is shown."""
        place = {"schema": view.schema, "name": view.name}
        definition = self._connection.execute(queries.VIEW, place).scalar_one_or_none() or ""
        tables = sorted(read_by(definition))
        return [table if schema == self.server.database else f"{schema}.{table}" for schema, table in tables]

    def hiding(self, table: Table, role: str) -> Sequence[RowRestriction]:  # noqa: ARG002
        """None: there are no policies."""
        return ()

    def search_path(self, role: str) -> None:
        """Bare names are those of the database of the connection."""

    def ask(self, statement: Executable) -> Sequence[Row[Any]]:
        """Rows; raises Unanswered, with the server's number, and the transaction goes on."""
        self._connection.execute(queries.LIMIT, {"limit": self._timeouts})
        try:
            return self._rows(statement)
        finally:
            if not self._connection.invalidated:
                self._connection.execute(queries.LIMIT, {"limit": LONGEST_SECONDS})

    def _rows(self, statement: Executable) -> Sequence[Row[Any]]:
        try:
            return self._connection.execute(statement).all()
        except DBAPIError as refused:
            kind, known = classify(refused), error_number(refused)
            if refused.connection_invalidated or (
                kind is ErrorKind.UNAVAILABLE and known not in (*_DENIED, _READ_ONLY)
            ):
                raise
            cut = f"cut off after {self._timeouts:g} s" if known == _CUT_OFF else short_message(refused)
            raise QueryFailed(cut, str(known or "")) from None

    def holds(self, expression: str, values: Mapping[str, tuple[str, str | None]]) -> bool | None:
        """What an expression of a CHECK says of these columns; None: nobody can tell."""
        columns = [sample(*given).label(quoted_name(name, quote=True)) for name, given in values.items()]
        try:
            said = self.ask(select(literal_column(f"({expression})")).select_from(select(*columns).subquery("row")))
        except QueryFailed:
            return None
        return bool(said[0][0]) if said[0][0] is not None else None

    def takes(self, words: str, value: str) -> bool:
        """A text can be read as a value of this type."""
        family = family_of(words)
        if family in _NUMBERS:
            return re.fullmatch(_NUMBERS[family], value) is not None
        if family not in _READ:
            return True
        return bool(self.ask(text(f"SELECT {_READ[family]}").bindparams(v=value))[0][0])

    def compare(self, one: tuple[Table, str], other: tuple[Table, str]) -> str | None:
        """Why the server refuses to compare two columns; None when it does not."""
        (mine, name), (theirs, others) = one, other
        left = table_of(f"{mine.schema}.{mine.name}", [name]).alias("a")
        right = table_of(f"{theirs.schema}.{theirs.name}", [others]).alias("b")
        try:
            self.ask(
                select(literal_column("1")).select_from(left).join(right, left.c[name] == right.c[others]).limit(0)
            )
        except QueryFailed as refused:
            return str(refused) if refused.state in _COLLATIONS else None
        return None

    # --- a table -------------------------------------------------------------------------------------------------

    def _load(self, row: Row[Any]) -> Table:
        place: dict[str, Any] = {"schema": row.schema, "name": row.name}
        identity, shown = self._identity(row.schema, row.name), self._shown(row)
        found = self._rows(queries.COLUMNS.bindparams(**place))
        if shown and {column.name for column in found} != columns_in(shown):
            raise NotVisible(row.schema, row.name, partly=True)
        checks = list(checks_in(shown))
        documents = {
            n for c in checks for n in c.columns if c.expression.casefold() == f"json_valid({self.fixes.name(n)})"
        }
        for column in found:
            self.definitions[identity, column.name] = definition_of(column)
        return Table(
            identity=identity,
            schema=row.schema,
            name=row.name,
            kind=kind_of(row),
            rows=row.rows,
            columns={column.name: column_of(column, document=column.name in documents) for column in found},
            indexes=[index_of(row.schema, name, list(parts)) for name, parts in self._indexes(place)],
            checks=[check for check in checks if not check.columns & documents],
            foreign_keys=[
                ForeignKey(columns, self._identity(schema or row.schema, table))
                for columns, schema, table in foreign_keys_in(shown)
            ],
            triggers=[Trigger(t.name, frozenset(), t.event) for t in self._rows(queries.TRIGGERS.bindparams(**place))],
            rights=self._rights(row, found),
            nobody=replace(NOBODY, sequences=_sequences(found)),
            behind=self._behind(row),
        )

    def _behind(self, row: Row[Any]) -> Sequence[str]:
        """A view is read with the rights of whoever defined it, unless it says otherwise."""
        place = {"schema": row.schema, "name": row.name}
        own = row.type == "VIEW" and self._connection.execute(queries.INVOKER, place).scalar_one_or_none()
        return ["SELECT on what it reads from"] if own else ()

    def _about(self, statement: str, schema: str, table: str) -> Sequence[Row[Any]]:
        """Asks a statement with the table's name in its place; names may hold colons, which stand for parameters."""
        return self._rows(text(statement.format(self.fixes.name(schema, table)).replace(":", "\\:")))

    def _identity(self, schema: str, name: str) -> int:
        return self._known.setdefault((schema, name), len(self._known))

    def _indexes(self, place: Mapping[str, Any]) -> Iterator[tuple[str, Iterator[Row[Any]]]]:
        return groupby(self._rows(queries.INDEXES.bindparams(**place)), key=lambda part: str(part.name))

    def _shown(self, row: Row[Any]) -> str:
        if row.type == "VIEW":
            return ""
        try:
            [found] = self._about("SHOW CREATE TABLE {}", row.schema, row.name)
        except QueryFailed as refused:
            if refused.state and int(refused.state) in _DENIED:
                raise NotVisible(row.schema, row.name, partly=True) from None
            raise
        return str(found._mapping["Create Table"])

    def _rights(self, row: Row[Any], columns: Sequence[Row[Any]]) -> Privileges:
        granted = {c.name: set(c.privileges.split(",")) for c in columns}
        return Privileges(
            usage=True,
            select=frozenset(name for name, own in granted.items() if "select" in own),
            update=frozenset(name for name, own in granted.items() if "update" in own),
            insert=frozenset(name for name, own in granted.items() if "insert" in own),
            delete=self._may_delete(row),
            close=False,
            sequences={
                column: lacking
                for column, sequences in _sequences(columns).items()
                if (lacking := [place for place in sequences if not self._may_draw(*place)])
            },
            lock=True,
            eager=True,
        )

    def _may_draw(self, schema: str, name: str) -> bool:
        """It may take the next value of a sequence."""
        found = self._rows(queries.SEQUENCE.bindparams(schema=schema, name=name))
        return {"select", "insert"} <= {privilege for row in found for privilege in row.privileges.split(",")}

    def _may_delete(self, row: Row[Any]) -> bool:
        """Privileges come before everything else: in a transaction that reads only, nothing else can be asked."""
        try:
            self._about("EXPLAIN DELETE FROM {} WHERE FALSE", row.schema, row.name)
        except QueryFailed as refused:
            return refused.state == str(_READ_ONLY)
        return True


def _sequences(columns: Sequence[Row[Any]]) -> dict[str, list[tuple[str, str]]]:
    """Those that defaults take a value from."""
    return {column.name: found for column in columns if (found := sequences_in(column.value or ""))}

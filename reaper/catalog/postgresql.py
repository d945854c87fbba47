"""What PostgreSQL's catalogs say. Every role may read them, whatever it may do with the tables themselves."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Executable, Label, Row, literal_column, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import quoted_name

from reaper.catalog import QueryFailed, Server, postgresql_queries
from reaper.catalog.postgresql_fixes import Fixes
from reaper.catalog.tables import NOTHING, Call, Check, Column, ForeignKey, Index, Privileges, Rule, Table, Trigger
from reaper.database.errors import short_message, sqlstate
from reaper.database.postgresql.row_security import RowRestriction
from reaper.model import TimestampFormat
from reaper.sql.tables import split_name

OLDEST = 12
"""The first version whose catalogs have what is asked here."""

_CANCELED = "57014"
_NO_SUCH_VALUE = ("22", "23")
_KINDS = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}
_FAMILIES = {
    **dict.fromkeys(("text", "varchar", "bpchar", "citext", "name"), "text"),
    **dict.fromkeys(("int2", "int4", "int8"), "integer"),
    **dict.fromkeys(("numeric", "float4", "float8"), "number"),
    **dict.fromkeys(("json", "jsonb"), "json"),
    **{name: name for name in ("timestamptz", "timestamp", "uuid")},
    "bool": "boolean",
}
_OURS_NEVER = {"pg_catalog", "information_schema", "pg_toast"}


class PostgreSQL:
    """A `Catalog`."""

    document = "jsonb"
    documents: tuple[str, ...] = ("json", "other")
    clocks: Mapping[TimestampFormat, str] = {
        TimestampFormat.TIMESTAMPTZ: "a timestamp with time zone",
        TimestampFormat.NAIVE: "a timestamp without time zone",
    }

    def __init__(self, connection: Connection, patience_seconds: float) -> None:
        self._connection = connection
        self._timeouts = patience_seconds
        row = connection.execute(postgresql_queries.SERVER).one()
        self.server = Server(
            timeouts={name: float(seconds) for name, seconds in connection.execute(postgresql_queries.TIMEOUTS)},
            **{name: row._mapping[name] for name in Server.__slots__ if name != "timeouts"},
        )
        self._path = _path(row.search_path, row.role)
        self.fixes = Fixes(row.role, row.database, frozenset(row.keywords), row.version)

    def find(self, spelled: str) -> Table | None:
        """The table that a statement naming it so would reach, if the role were let into its schema.

        Raises Unanswered when somebody keeps it locked exclusively: the server takes a look at it then, too.
        """
        schema, bare = split_name(spelled)
        found = self._rows(postgresql_queries.RELATIONS, name=bare)
        if schema is not None:
            wanted = [row for row in found if row.schema == schema]
        else:
            # The search path passes over schemas that the role may not use; then the table is not "visible".
            hidden = [row for row in found if not row.usage and row.schema in self._path]
            hidden.sort(key=lambda row: self._path.index(row.schema))
            wanted = [row for row in found if row.visible] or hidden
        if not wanted:
            return None
        with self._patiently(refusable=False):
            return self._load(wanted[0])

    def search_path(self, role: str) -> Sequence[str]:
        """The schemas in which a name without one is looked up for a role, as far as they are there."""
        own = role == self.server.role
        path = self._path if own else _path(self._rows(postgresql_queries.SEARCH_PATH, role=role)[0][0], role)
        there = {row[0] for row in self._rows(postgresql_queries.SCHEMAS)}
        return [schema for schema in path if schema in there]

    def hiding(self, table: Table, role: str) -> Sequence[RowRestriction]:
        """The row-level security that may keep rows from a role; one that is not there is one like any other."""
        return self._hiding(table.identity, role)

    def _hiding(self, oid: int, role: str) -> list[RowRestriction]:
        found = (RowRestriction(**row._mapping) for row in self._rows(postgresql_queries.HIDING, oid=oid, role=role))
        return [one if one.reader else replace(one, reader=role) for one in found]

    def has_role(self, name: str) -> bool | None:
        return bool(self._rows(postgresql_queries.ROLE, name=name))

    def elsewhere(self, spelled: str) -> list[str]:
        """The same name in schemas where a statement would not look, as a profile spells it."""
        rows = self._rows(postgresql_queries.RELATIONS, name=split_name(spelled)[1])
        return [f"{row.schema}.{row.name}" for row in rows if row.schema not in _OURS_NEVER]

    def names(self, spelled: str) -> list[str]:
        """Tables that might have been meant."""
        schema, _ = split_name(spelled)
        prefix = f"{schema}." if schema else ""
        return [f"{prefix}{row[0]}" for row in self._rows(postgresql_queries.NAMES, schema=schema)]

    def viewed(self, view: Table) -> list[str]:
        """The tables that a view reads from."""
        return [f"{row.schema}.{row.name}" for row in self._rows(postgresql_queries.VIEWED, oid=view.identity)]

    def ask(self, statement: Executable) -> Sequence[Row[Any]]:
        """Rows, of a question that may be long or refused; raises Unanswered, and the transaction goes on."""
        with self._patiently(refusable=True):
            return self._connection.execute(statement).all()

    @contextmanager
    def _patiently(self, *, refusable: bool) -> Iterator[None]:
        """Each statement has its time, waiting for locks included. What may be refused is unanswered then."""
        try:
            with self._connection.begin_nested() as savepoint:
                limit = {"limit": str(max(1, round(self._timeouts * 1000)))}
                self._connection.execute(postgresql_queries.LIMIT, limit)
                yield
                savepoint.rollback()
        except DBAPIError as refused:
            state = sqlstate(refused)
            if refused.connection_invalidated or not (refusable or state == _CANCELED):
                raise
            why = f"cut off after {self._timeouts:g} s" if state == _CANCELED else short_message(refused)
            raise QueryFailed(why, state) from None

    def holds(self, expression: str, values: Mapping[str, tuple[str, str | None]]) -> bool | None:
        """What an expression from the catalogs says of these columns (type and value); None: nobody can tell."""
        columns: list[Label[Any]] = [
            literal_column(f"CAST({_quoted(value)} AS {words})").label(quoted_name(name, quote=True))
            for name, (words, value) in values.items()
        ]
        row = select(*columns).subquery("row")
        try:
            said = self.ask(select(literal_column(f"({expression})")).select_from(row))[0][0]
        except QueryFailed:
            return None
        return bool(said) if said is not None else None

    def takes(self, words: str, value: str) -> bool:
        """A text can be read as a value of this type, as far as the role may ask."""
        try:
            self.ask(select(literal_column(f"CAST({_quoted(value)} AS {words})")))
        except QueryFailed as refused:
            return not refused.state.startswith(_NO_SUCH_VALUE)
        return True

    def _rows(self, statement: Executable, **parameters: object) -> Sequence[Row[Any]]:
        return self._connection.execute(statement, parameters).all()

    def _load(self, row: Row[Any]) -> Table:
        oid = row.oid
        columns = self._rows(postgresql_queries.COLUMNS, oid=oid)
        constraints = self._rows(postgresql_queries.CONSTRAINTS, oid=oid)
        sequences = self._rows(postgresql_queries.SEQUENCES, oid=oid)
        functions = self._rows(postgresql_queries.FUNCTIONS, oid=oid)
        closed = [function for function in functions if not function.public]
        return Table(
            identity=oid,
            schema=row.schema,
            name=row.name,
            kind=_KINDS[row.kind],
            rows=row.rows,
            columns={column.name: _column(column) for column in columns},
            indexes=[
                Index(**{**index._mapping, "columns": tuple(index.columns)})
                for index in self._rows(postgresql_queries.INDEXES, oid=oid)
            ],
            checks=[Check(c.name, frozenset(c.columns), c.expression) for c in constraints if c.type == "c"],
            foreign_keys=[ForeignKey(frozenset(c.columns), c.refers_to) for c in constraints if c.type == "f"],
            triggers=[
                Trigger(t.name, frozenset(t.columns), t.event, t.calls, t.on)
                for t in self._rows(postgresql_queries.TRIGGERS, oid=oid)
            ],
            rights=Privileges(
                usage=row.usage,
                select=frozenset(column.name for column in columns if column.select),
                update=frozenset(column.name for column in columns if column.update),
                insert=frozenset(column.name for column in columns if column.insert),
                delete=row.delete,
                close=row.close,
                sequences=_by_column(s for s in sequences if not s.granted),
                lock=any(column.update for column in columns),
                holder=row.holder,
                functions=_calls(f for f in closed if not f.granted),
            ),
            nobody=replace(
                NOTHING,
                sequences=_by_column(sequences),
                functions=_calls(closed),
            ),
            hiding=self._hiding(oid, self.server.role),
            makers={f.columns[0]: f.signature for f in functions if f.left_out and f.borrows},
            rules=[Rule(r.name, r.event, r.taken) for r in self._rows(postgresql_queries.RULES, oid=oid)],
            behind=[each.needed for each in self._rows(postgresql_queries.BEHIND, oid=oid)] if row.kind == "v" else (),
        )


def _column(row: Row[Any]) -> Column:
    return Column(
        name=row.name,
        words=row.words,
        family="enum" if row.labels else _FAMILIES.get(row.base, "other"),
        labels=tuple(row.labels),
        length=row.length,
        nullable=row.nullable,
        filled=row.filled,
        computed=row.computed,
    )


def _by_column(rows: Iterable[Row[Any]]) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        found.setdefault(row.column, []).append((row.schema, row.name))
    return found


def _calls(rows: Iterable[Row[Any]]) -> dict[str, list[Call]]:
    found: dict[str, list[Call]] = {}
    for row in rows:
        found.setdefault(row.signature, []).append(Call(row.event, frozenset(row.columns), row.left_out))
    return found


def _path(setting: str, role: str) -> list[str]:
    """The schemas in a search path."""
    names = [name.strip() for row in csv.reader([setting], skipinitialspace=True) for name in row]
    return [role if name == "$user" else name for name in names]


def _quoted(value: str | None) -> str:
    """A text as a literal, whatever is in it: expressions of the catalogs leave no place for a bound one."""
    if value is None:
        return "NULL"
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"

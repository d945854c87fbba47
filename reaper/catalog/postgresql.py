"""PostgreSQL's catalogs, which every role may read, whatever its privileges on the tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, Row, literal_column, select, text
from sqlalchemy.exc import DBAPIError

from reaper.catalog import Catalog, QueryFailed, Server
from reaper.catalog import postgresql_queries as queries
from reaper.catalog import postgresql_write_queries as write_queries
from reaper.catalog.number_ranges import range_of
from reaper.catalog.postgresql_calls import expression_calls_others, reading_calls_others
from reaper.catalog.postgresql_fix_statements import Fixes
from reaper.catalog.tables import (
    NO_PRIVILEGES,
    CheckConstraint,
    Column,
    ForeignKey,
    FunctionCall,
    Index,
    Privileges,
    RewriteRule,
    Table,
    Trigger,
)
from reaper.database.errors import short_message, sqlstate
from reaper.database.postgresql.row_security import RowRestriction
from reaper.database.postgresql.search_path import names_in, own_path, pinned_path
from reaper.model import TimestampFormat
from reaper.profile.user_sql import NAME_KINDS, LookedUpName
from reaper.sql.tables import split_name

OLDEST = 12
"""The first major version whose catalogs have what these queries read."""

# SQLSTATEs, and classes of them: data exception, integrity constraint violation.
_CANCELED = "57014"
_NO_OPERATOR = "42883"
_INVALID_VALUE = ("22", "23")
_KINDS = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}
_FAMILIES = {
    **dict.fromkeys(("text", "varchar", "bpchar", "citext", "name"), "text"),
    **dict.fromkeys(("int2", "int4", "int8"), "integer"),
    **dict.fromkeys(("numeric", "float4", "float8"), "number"),
    **dict.fromkeys(("json", "jsonb"), "json"),
    **{name: name for name in ("timestamptz", "timestamp", "uuid")},
    "bool": "boolean",
}
_SYSTEM_SCHEMAS = {"pg_catalog", "information_schema", "pg_toast"}


class PostgreSQLCatalog(Catalog):
    """PostgreSQL's."""

    json_type = "jsonb"
    json_families: tuple[str, ...] = ("json", "other")
    timestamp_types: Mapping[TimestampFormat, str] = {
        TimestampFormat.TIMESTAMPTZ: "a timestamp with time zone",
        TimestampFormat.NAIVE: "a timestamp without time zone",
    }

    def __init__(self, connection: Connection, query_seconds: float) -> None:
        self._connection = connection
        self._query_seconds = query_seconds
        row = connection.execute(text(queries.SERVER)).one()
        self.server = Server(
            timeouts={name: float(seconds) for name, seconds in connection.execute(text(queries.TIMEOUTS))},
            **{name: row._mapping[name] for name in Server.__slots__ if name != "timeouts"},
        )
        self.own_path = own_path(connection)
        self._search_path = _schemas_in(self.own_path, row.role)
        self.resolve_as(row.role)
        self.fixes = Fixes(row.role, row.database, frozenset(row.keywords), row.version)

    def find_table(self, spelled: str) -> Table | None:
        schema, bare = split_name(spelled)
        path = [schema] if schema is not None else list(self.resolution_path)
        candidates = [row for row in self._rows(queries.RELATIONS, name=bare) if row.schema in path]
        candidates.sort(key=lambda row: path.index(row.schema))
        if not candidates:
            return None
        # Some functions of the catalogs open the table, and so wait for a session that locks it.
        with self._limited(refusable=False):
            return self._load(candidates[0])

    def search_path(self, role: str) -> Sequence[str]:
        own = role == self.server.role
        path = self._search_path if own else _schemas_in(self._rows(queries.SEARCH_PATH, role=role)[0][0], role)
        existing = {row[0] for row in self._rows(queries.SCHEMAS, role=role)}
        return [schema for schema in path if schema in existing]

    def creators(self, schemas: Collection[str], tables: Collection[int]) -> Mapping[str, Sequence[str]]:
        creators = dict[str, list[str]]()
        for row in self._rows(queries.CREATORS, schemas=list(schemas), tables=list(tables)):
            creators.setdefault(row.schema, []).append(row.role)
        return creators

    def schema_creators(self, tables: Collection[int]) -> Sequence[str]:
        return [row.role for row in self._rows(queries.SCHEMA_CREATORS, tables=list(tables))]

    def absent_schemas(self, before: Collection[str]) -> Sequence[str]:
        path, existing = self._search_path, {row.name for row in self._rows(queries.SCHEMAS, role=self.server.role)}
        last = max((path.index(schema) for schema in before if schema in path), default=0)
        # No role may create a schema whose name begins so: such as pg_temp.
        return [name for name in dict.fromkeys(path[:last]) if name not in existing and not name.startswith("pg_")]

    def schemas_of(self, names: Collection[LookedUpName]) -> Mapping[LookedUpName, Sequence[str]]:
        by_kind = {kind: [name.name for name in names if name.kind == kind] for kind in NAME_KINDS}
        found = dict[LookedUpName, list[str]]()
        for row in self._rows(queries.SCHEMAS_OF, **by_kind) if names else ():
            found.setdefault(LookedUpName(row.kind, row.name), []).append(row.schema)
        return found

    def resolve_as(self, role: str) -> None:
        path, usable = self.search_path(role), {row.name for row in self._rows(queries.SCHEMAS, role=role) if row.usage}
        # The server skips a schema that the role may not use. Its tables are those that it needs the privilege for.
        found = sorted(path, key=lambda schema: schema not in usable)
        # What the role does not find at all is what the connected role means.
        self.resolution_path = list(dict.fromkeys([*found, *self.resolution_path]))

    def row_restrictions(self, table: Table, role: str) -> Sequence[RowRestriction]:
        return self._row_restrictions(table.identity, role)

    def _row_restrictions(self, oid: int, role: str) -> list[RowRestriction]:
        restrictions = (
            RowRestriction(**row._mapping) for row in self._rows(queries.ROW_RESTRICTIONS, oid=oid, role=role)
        )
        return [r if r.reader else replace(r, reader=role) for r in restrictions]

    def has_role(self, name: str) -> bool | None:
        return bool(self._rows(queries.ROLE, name=name))

    def same_name_elsewhere(self, spelled: str) -> list[str]:
        rows = self._rows(queries.RELATIONS, name=split_name(spelled)[1])
        return [f"{row.schema}.{row.name}" for row in rows if row.schema not in _SYSTEM_SCHEMAS]

    def table_names(self, spelled: str) -> list[str]:
        schema, _ = split_name(spelled)
        prefix = f"{schema}." if schema else ""
        return [
            f"{prefix}{row[0]}" for row in self._rows(queries.NAMES, schema=schema, path=list(self.resolution_path))
        ]

    def every_table(self) -> Mapping[tuple[str, str], Sequence[str]]:
        return {(row.schema, row.name): row.columns for row in self._rows(queries.EVERY_TABLE)}

    def referring(self, table: Table) -> Sequence[tuple[str, str]]:
        return [(row.schema, row.name) for row in self._rows(queries.REFERRING, oid=table.identity)]

    def tables_behind(self, view: Table) -> list[str]:
        return [f"{row.schema}.{row.name}" for row in self._rows(queries.TABLES_BEHIND, oid=view.identity)]

    def query(self, statement: Executable, *, of_profile: bool = True) -> Sequence[Row[Any]]:
        with self._limited(refusable=True, lookup_schemas=self.lookup_schemas if of_profile else ()):
            return self._connection.execute(statement).all()

    @contextmanager
    def _limited(self, *, refusable: bool, lookup_schemas: Sequence[str] = ()) -> Iterator[None]:
        """Limits the time of each statement, waiting for locks included.

        Raises QueryFailed for a statement that took too long, and with `refusable` also for a refused one.
        """
        try:
            with self._connection.begin_nested() as savepoint:
                limit = {"limit": str(max(1, round(self._query_seconds * 1000))), "path": pinned_path(lookup_schemas)}
                self._connection.execute(text(queries.LIMIT), limit)
                yield
                savepoint.rollback()
        except DBAPIError as error:
            code = sqlstate(error)
            if error.connection_invalidated or not (refusable or code == _CANCELED):
                raise
            timed_out = f"cut off after {self._query_seconds:g} s"
            raise QueryFailed(timed_out if code == _CANCELED else short_message(error), code) from None

    def sample(self, type_: str, value: str | None) -> ColumnElement[Any]:
        return literal_column(f"CAST({_quoted(value)} AS {type_})")

    def accepts(self, type_: str, value: str) -> bool:
        if expression_calls_others(self._rows, "", [type_]):
            return True
        try:
            self.query(select(self.sample(type_, value)), of_profile=False)
        except QueryFailed as failed:
            return not failed.code.startswith(_INVALID_VALUE)
        return True

    def can_compare(self, one: str, other: str) -> bool:
        if one == other or expression_calls_others(self._rows, "", [one, other]):
            return True
        try:
            self.query(select(literal_column(f"CAST(NULL AS {one}) = CAST(NULL AS {other})")))
        except QueryFailed as failed:
            return failed.code != _NO_OPERATOR
        return True

    def evaluate(self, expression: str, values: Mapping[str, tuple[str, str | None]]) -> bool | None:
        """None also where that would call a function of the user's: `check` runs nothing of anybody's."""
        if expression_calls_others(self._rows, expression, [type_ for type_, _ in values.values()]):
            return None
        return super().evaluate(expression, values)

    def _rows(self, query: str, **parameters: object) -> Sequence[Row[Any]]:
        return self._connection.execute(text(query), parameters).all()

    def _load(self, row: Row[Any]) -> Table:
        oid = row.oid
        columns = self._rows(queries.COLUMNS, oid=oid)
        constraints = self._rows(queries.CONSTRAINTS, oid=oid)
        sequences = self._rows(write_queries.SEQUENCES, oid=oid)
        functions = self._rows(write_queries.FUNCTIONS, oid=oid)
        restricted = [function for function in functions if not function.public]
        return Table(
            identity=oid,
            schema=row.schema,
            name=row.name,
            kind=_KINDS[row.kind],
            updatable_view=row.updatable,
            partitioned_by=frozenset(row.partitioned_by),
            estimated_rows=row.rows,
            columns={column.name: _column(column) for column in columns},
            indexes=[
                Index(**{**index._mapping, "columns": tuple(index.columns)})
                for index in self._rows(queries.INDEXES, oid=oid)
            ],
            checks=[CheckConstraint(c.name, frozenset(c.columns), c.expression) for c in constraints if c.type == "c"],
            foreign_keys=[ForeignKey(frozenset(c.columns), c.refers_to) for c in constraints if c.type == "f"],
            triggers=list(self._triggers(row)),
            privileges=Privileges(
                use_schema=row.usage,
                select=frozenset(column.name for column in columns if column.select),
                update=frozenset(column.name for column in columns if column.update),
                insert=frozenset(column.name for column in columns if column.insert),
                delete=row.delete,
                lock_table=row.lock_table,
                denied_sequences=_by_column(s for s in sequences if not s.granted),
                lock_rows=any(column.update for column in columns),
                read_row_holder=row.read_row_holder,
                denied_functions=_calls(f for f in restricted if not f.granted),
            ),
            privileges_of_new_role=replace(
                NO_PRIVILEGES,
                read_row_holder=row.kind == "v",
                denied_sequences=_by_column(sequences),
                denied_functions=_calls(restricted),
            ),
            row_restrictions=self._row_restrictions(oid, self.server.role),
            default_functions={f.columns[0]: f.signature for f in functions if f.when_omitted and f.runs_as_role},
            early_defaults={f.columns[0]: f.signature for f in functions if f.when_omitted and f.unpinned},
            rules=[RewriteRule(r.name, r.event, r.allowed_in_with) for r in self._rows(write_queries.RULES, oid=oid)],
            view_requirements=self._view_requirements(oid) if row.kind == "v" else (),
            reading_calls_others=reading_calls_others(self._rows, oid),
        )

    def _triggers(self, row: Row[Any]) -> Iterator[Trigger]:
        """Those of a view are those of the tables behind it, whose columns may have other names in it."""
        for t in self._rows(write_queries.TRIGGERS, oid=row.oid):
            columns = frozenset(t.columns)
            yield Trigger(t.name, columns, t.event, t.function_as_role, t.partition, t.unpinned, t.for_each_statement)
        for behind in self._rows(queries.TABLES_BEHIND, oid=row.oid) if row.updatable else ():
            for t in self._rows(write_queries.TRIGGERS, oid=behind.oid):
                table, columns = t.partition or behind.name, frozenset[str]()
                yield Trigger(t.name, columns, t.event, t.function_as_role, table, t.unpinned, t.for_each_statement)

    def _view_requirements(self, oid: int) -> list[str]:
        return [row.needed for row in self._rows(queries.VIEW_REQUIREMENTS, oid=oid)]


def _column(row: Row[Any]) -> Column:
    return Column(
        name=row.name,
        type=row.type,
        family="enum" if row.labels else _FAMILIES.get(row.base, "other"),
        labels=tuple(row.labels),
        length=row.length,
        nullable=row.nullable,
        has_default=row.has_default,
        generated=row.generated,
        generated_from=frozenset(row.generated_from),
        stored=row.stored,
        numbers=range_of(row.base_type),
    )


def _by_column(rows: Iterable[Row[Any]]) -> dict[str, list[tuple[str, str]]]:
    sequences: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        sequences.setdefault(row.column, []).append((row.schema, row.name))
    return sequences


def _calls(rows: Iterable[Row[Any]]) -> dict[str, list[FunctionCall]]:
    calls: dict[str, list[FunctionCall]] = {}
    for row in rows:
        calls.setdefault(row.signature, []).append(FunctionCall(row.event, frozenset(row.columns), row.when_omitted))
    return calls


def _schemas_in(setting: str, role: str) -> list[str]:
    """The schemas in a search path; `"$user"` is replaced by the role."""
    return [role if name == "$user" else name for name in names_in(setting)]


def _quoted(value: str | None) -> str:
    """A text as a literal, since an expression from the catalogs has no place for a bound value."""
    if value is None:
        return "NULL"
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"

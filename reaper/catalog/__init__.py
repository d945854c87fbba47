"""What a database's own catalogs say about its tables, and the statements that fix findings there.

`Catalog` is the interface; `reaper.catalog.postgresql` and `reaper.catalog.mariadb` implement it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Executable, Row, literal_column, select
from sqlalchemy.sql import quoted_name

from reaper.catalog.postgresql_fix_statements import Fixes
from reaper.catalog.tables import Table
from reaper.database.postgresql.row_security import RowRestriction
from reaper.model import TimestampFormat
from reaper.profile.name_spelling import SampledColumn
from reaper.profile.user_sql import LookedUpName

QUERY_SECONDS = 5.0
"""How long a query that reads rows may take, unless the caller says otherwise."""


class QueryFailed(Exception):
    """A query that took too long or that the database refused. `code` is the SQLSTATE, or MariaDB's error number."""

    def __init__(self, reason: str, code: str | None) -> None:
        self.code = code or ""
        super().__init__(reason)


class NotVisible(Exception):
    """The role may not see the table, or only single columns of it (`partly`). Otherwise it may not exist at all."""

    def __init__(self, schema: str, table: str, *, partly: bool) -> None:
        self.schema, self.table, self.partly = schema, table, partly
        super().__init__(table)


@dataclass(frozen=True, slots=True)
class Server:
    """The server and the connected role. `timeouts` are the role's own, in seconds by the name of the setting."""

    role: str
    database: str
    standby: bool
    read_only: bool
    now: datetime
    started: datetime
    sees_sessions: bool
    timeouts: Mapping[str, float]


class Catalog(ABC):
    """The catalogs behind one connection, inside one transaction. Names are spelled as in a profile.

    `json_families` are the families of columns that can hold JSON, `json_type` the type to recommend for it;
    `timestamp_types` names, per timestamp format, the type of column that it needs. On PostgreSQL, names in the
    statements of a profile are looked up in `pg_catalog` and `lookup_schemas`, and a bare name of a table means the
    first one of that name in the schemas of `resolution_path`. `own_path` is the role's setting.
    """

    json_type: str
    json_families: tuple[str, ...]
    timestamp_types: Mapping[TimestampFormat, str]
    server: Server
    fixes: Fixes
    lookup_schemas: Sequence[str] = ()
    resolution_path: Sequence[str] = ()
    own_path: str = ""

    @abstractmethod
    def find_table(self, spelled: str) -> Table | None:
        """The table that a statement with this name would reach if the role could use its schema.

        Raises:
            QueryFailed: another session keeps the table locked exclusively.
            NotVisible: the role may not see whether the table exists, or not all of its structure.
        """

    def may_sample(self, sampled: SampledColumn) -> bool:
        """Whether values of the column can be read without a call of a function that is not the server's own."""
        try:
            table = self.find_table(f"{sampled.schema}.{sampled.table}" if sampled.schema else sampled.table)
        except NotVisible:
            return True  # on MariaDB, which does not say what a view calls
        return table is None or not table.reading_calls_others

    @abstractmethod
    def can_compare(self, one: str, other: str) -> bool:
        """Whether the server can look whether values of these two types are equal."""

    @abstractmethod
    def has_role(self, name: str) -> bool | None:
        """Whether the role exists; None where the server does not say."""

    @abstractmethod
    def same_name_elsewhere(self, spelled: str) -> list[str]:
        """Tables of the same name in other schemas, which a statement would not reach."""

    @abstractmethod
    def search_path(self, role: str) -> Sequence[str] | None:
        """The schemas in which a role's unqualified names are looked up; None where the server has no such path."""

    @abstractmethod
    def creators(self, schemas: Collection[str], tables: Collection[int]) -> Mapping[str, Sequence[str]]:
        """Of these schemas, those in which other roles may create something, with the roles.

        Others are neither the connected role nor administrators, and own none of these tables, given by identity.
        """

    @abstractmethod
    def schema_creators(self, tables: Collection[int]) -> Sequence[str]:
        """The other roles, as in `creators`, that may create schemas in the database."""

    @abstractmethod
    def absent_schemas(self, before: Collection[str]) -> Sequence[str]:
        """The names on the role's own path before one of these schemas that no schema has; empty without a path."""

    @abstractmethod
    def schemas_of(self, names: Collection[LookedUpName]) -> Mapping[LookedUpName, Sequence[str]]:
        """The schemas in which there is something of these names; empty where the server has no search path."""

    @abstractmethod
    def resolve_as(self, role: str) -> None:
        """Let bare names of tables mean from now on what they mean for this role, which need not exist yet."""

    @abstractmethod
    def row_restrictions(self, table: Table, role: str) -> Sequence[RowRestriction]:
        """The row-level security that may hide rows from a role. A role that does not exist yet counts as new."""

    @abstractmethod
    def table_names(self, spelled: str) -> list[str]:
        """The tables among which a misspelled name is looked for."""

    @abstractmethod
    def every_table(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """The columns of each table and view, by its schema and name. On MariaDB, those of the URL's database."""

    @abstractmethod
    def referring(self, table: Table) -> Sequence[tuple[str, str]]:
        """The other tables with a foreign key to this one, each by its schema and name."""

    @abstractmethod
    def tables_behind(self, view: Table) -> list[str]:
        """The tables that a view reads from, as far as its definition is shown."""

    @abstractmethod
    def query(self, statement: Executable, *, of_profile: bool = True) -> Sequence[Row[Any]]:
        """The rows of a query that may be slow or refused. The transaction goes on afterwards.

        `of_profile`: it has names that the profile's `search_path` is for.

        Raises:
            QueryFailed: the query took too long or was refused.
        """

    @abstractmethod
    def accepts(self, type_: str, value: str) -> bool:
        """Whether a text can be read as a value of this type; True where the role may not find out."""

    @abstractmethod
    def sample(self, type_: str, value: str | None) -> ColumnElement[Any]:
        """A value of this type, as an SQL expression."""

    def evaluate(self, expression: str, values: Mapping[str, tuple[str, str | None]]) -> bool | None:
        """Evaluates an expression from the catalogs. `values` gives each column its type and value.

        None: the result is NULL, or the expression cannot be evaluated.
        """
        columns = [self.sample(*value).label(quoted_name(name, quote=True)) for name, value in values.items()]
        row = select(*columns).subquery("row")
        try:
            result = self.query(select(literal_column(f"({expression})")).select_from(row), of_profile=False)[0][0]
        except QueryFailed:
            return None
        return bool(result) if result is not None else None

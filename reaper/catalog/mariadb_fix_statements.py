"""The statements that fix findings, and the grants, on MariaDB. Each can be executed as printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reaper.catalog.postgresql_fix_statements import Fixes
from reaper.catalog.tables import Index, Table
from reaper.sql.mariadb_quoting import quote_literal, quote_name

_LONGEST_NAME = 64
_PREFIX = 191
"""Characters of a text that fit into an index, however many bytes each character takes."""
_ONLINE = "ALGORITHM=INPLACE LOCK=NONE"


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """What MODIFY COLUMN has to repeat of a column, or it is lost."""

    type: str
    nullable: bool
    value: str | None
    extra: str
    comment: str
    charset: str | None
    collation: str | None

    def sql(self, type_: str | None = None, *, collation: str | None = None, nullable: bool | None = None) -> str:
        parts = [type_ or self.type]
        if self.collation:
            charset = collation.partition("_")[0] if collation else self.charset
            parts.append(f"CHARACTER SET {charset} COLLATE {collation or self.collation}")
        null = self.nullable if nullable is None else nullable
        parts.append("NULL" if null else "NOT NULL")
        if self.value is not None and not (self.value == "NULL" and not null):
            parts.append(f"DEFAULT ({self.value})" if self.value != "NULL" else "DEFAULT NULL")
        if "on update" in self.extra.casefold():
            parts.append(self.extra[self.extra.casefold().index("on update") :])
        if self.comment:
            parts.append(f"COMMENT {quote_literal(self.comment)}")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class MariaDBFixes(Fixes):
    """Statements for the connected user, `name@host`. Every name is quoted."""

    definitions: Mapping[tuple[int, str], ColumnDefinition] = field(default_factory=dict)

    def grant(self, table: Table, privileges: Mapping[str, Sequence[str]]) -> str:
        parts = [f"{p} ({self._list(columns)})" if columns else p for p, columns in privileges.items()]
        return f"GRANT {', '.join(parts)} ON {self._table(table)} TO {self._to};"

    def grant_global(self, privilege: str) -> str:
        return f"GRANT {privilege} ON *.* TO {self._to};"

    def create_role(self) -> str:
        """Locked, since an account without a password lets every client log in."""
        return f"CREATE USER IF NOT EXISTS {self._to} ACCOUNT LOCK;"

    @property
    def login_instructions(self) -> str:
        return f"the user; it cannot log in until you run ALTER USER {self._to} IDENTIFIED BY '...' ACCOUNT UNLOCK"

    def grant_connect(self) -> Sequence[str]:
        return []

    def grant_sessions(self) -> str:
        return self.grant_global("PROCESS")

    def grant_sequence(self, schema: str, name: str) -> str:
        return f"GRANT SELECT, INSERT ON {self.name(schema, name)} TO {self._to};"

    def create_index(self, table: Table, columns: Iterable[str], null: Mapping[str, bool] | None = None) -> str:
        """MariaDB has no partial indexes: the columns of `null` come first instead."""
        names = list(dict.fromkeys([*(null or {}), *columns]))
        index = f"ix_{table.name}_{'_'.join(names)}"[:_LONGEST_NAME].rstrip()
        while index in {existing.name for existing in table.indexes}:
            index = f"{index[: _LONGEST_NAME - 1]}2"
        listed = ", ".join(self._indexed(table, name) for name in names)
        return f"CREATE INDEX {self.name(index)} ON {self._table(table)} ({listed}) {_ONLINE};"

    def _indexed(self, table: Table, name: str) -> str:
        column = table.columns[name]
        fits = column.family not in ("text", "json") or (column.length is not None and column.length <= _PREFIX * 4)
        return self.name(name) if fits else f"{self.name(name)}({_PREFIX})"

    def rebuild(self, table: Table, index: Index) -> str:
        return f"ALTER TABLE {self._table(table)} ALTER INDEX {self.name(index.name)} NOT IGNORED;"

    def add_unique(self, table: Table, columns: Iterable[str]) -> str:
        return f"ALTER TABLE {self._table(table)} ADD UNIQUE ({self._list(columns)});"

    def add_foreign_key(self, table: Table, columns: Iterable[str], to: Table, key: Iterable[str]) -> str | None:
        """None where the columns differ in type or collation, as the server then refuses the key."""
        columns, key = list(columns), list(key)
        pairs = zip(columns, key, strict=True)
        if any(self._type_of(table, column) != self._type_of(to, key_column) for column, key_column in pairs):
            return None
        # foreign_key_checks = 0: checking the old rows would take long and block writers.
        return (
            f"SET STATEMENT foreign_key_checks = 0 FOR ALTER TABLE {self._table(table)}"
            f" ADD FOREIGN KEY ({self._list(columns)}) REFERENCES {self._table(to)} ({self._list(key)}),"
            " ALGORITHM=INPLACE, LOCK=NONE;"
        )

    def _type_of(self, table: Table, column: str) -> tuple[str, str | None]:
        definition = self._definition(table, column)
        return definition.type, definition.collation

    def not_null(self, table: Table, column: str) -> str:
        return self._modify(table, column, self._definition(table, column).sql(nullable=False))

    def as_instant(self, table: Table, column: str) -> str:
        return self.with_fractions(table, column)

    def with_fractions(self, table: Table, column: str) -> str:
        """Stores timestamps to the microsecond."""
        definition = self._definition(table, column)
        base = definition.type.partition("(")[0]
        value = definition.value
        # MariaDB requires the precision of the column in a default that is the clock.
        if value and value.casefold().startswith("current_timestamp"):
            value = "current_timestamp(6)"
        extra = "ON UPDATE current_timestamp(6)" if "on update" in definition.extra.casefold() else ""
        precise = ColumnDefinition(definition.type, definition.nullable, value, extra, definition.comment, None, None)
        return self._modify(table, column, precise.sql(f"{base}(6)"))

    def retype(self, table: Table, column: str, type_: str) -> str:
        """A text that is part of an index gets a length that fits into an index."""
        indexed = any(column in index.columns for index in table.indexes)
        return self._modify(table, column, self._definition(table, column).sql("varchar(512)" if indexed else type_))

    def collate(self, table: Table, column: str, collation: str) -> str:
        return self._modify(table, column, self._definition(table, column).sql(collation=collation))

    def lockable(self, table: Table) -> str | None:
        return None if table.kind.endswith("view") else f"ALTER TABLE {self._table(table)} ENGINE = InnoDB;"

    def set_globally(self, setting: str, value: str) -> str:
        return f"SET GLOBAL {setting} = {value};"

    def _definition(self, table: Table, column: str) -> ColumnDefinition:
        return self.definitions[table.identity, column]

    def _modify(self, table: Table, column: str, definition: str) -> str:
        return f"ALTER TABLE {self._table(table)} MODIFY COLUMN {self.name(column)} {definition};"

    def _table(self, table: Table) -> str:
        return self.name(table.schema, table.name)

    @property
    def _to(self) -> str:
        user, at, host = self.role.rpartition("@")
        return f"{self.name(user)}@{self.name(host)}" if at else self.name(self.role)

    def _quote(self, name: str) -> str:
        return quote_name(name)

"""The statements that mend things in MariaDB, executable as printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reaper.catalog.postgresql_fixes import Fixes
from reaper.catalog.tables import Index, Table

_LONGEST_NAME = 64
_PREFIX = 191
"""Characters of a text that an index takes, however many bytes each has."""
_ONLINE = "ALGORITHM=INPLACE LOCK=NONE"


@dataclass(frozen=True, slots=True)
class Definition:
    """All of a column that a statement which changes its type has to say again."""

    type: str
    nullable: bool
    value: str | None
    extra: str
    comment: str
    charset: str | None
    collation: str | None

    def spelled(self, type_: str | None = None, *, collation: str | None = None, nullable: bool | None = None) -> str:
        parts = [type_ or self.type]
        if self.collation:
            charset = collation.partition("_")[0] if collation else self.charset
            parts.append(f"CHARACTER SET {charset} COLLATE {collation or self.collation}")
        empty = self.nullable if nullable is None else nullable
        parts.append("NULL" if empty else "NOT NULL")
        if self.value is not None and not (self.value == "NULL" and not empty):
            parts.append(f"DEFAULT ({self.value})" if self.value != "NULL" else "DEFAULT NULL")
        if "on update" in self.extra.casefold():
            parts.append(self.extra[self.extra.casefold().index("on update") :])
        if self.comment:
            parts.append(f"COMMENT {literal(self.comment)}")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class MariaDBFixes(Fixes):
    """Statements for the connected user, `name@host`. Every name is quoted."""

    definitions: Mapping[tuple[int, str], Definition] = field(default_factory=dict)

    def grant(self, table: Table, privileges: Mapping[str, Sequence[str]]) -> str:
        parts = [f"{p} ({self._list(columns)})" if columns else p for p, columns in privileges.items()]
        return f"GRANT {', '.join(parts)} ON {self._table(table)} TO {self._to};"

    def grant_global(self, privilege: str) -> str:
        return f"GRANT {privilege} ON *.* TO {self._to};"

    def create_role(self) -> str:
        """Locked: without a password anybody could come in."""
        return f"CREATE USER IF NOT EXISTS {self._to} ACCOUNT LOCK;"

    @property
    def way_in(self) -> str:
        return f"the user: locked until you say ALTER USER {self._to} IDENTIFIED BY '...' ACCOUNT UNLOCK"

    def grant_connect(self) -> Sequence[str]:
        return []

    def grant_sessions(self) -> str:
        return self.grant_global("PROCESS")

    def grant_sequence(self, schema: str, name: str) -> str:
        return f"GRANT SELECT, INSERT ON {self.name(schema, name)} TO {self._to};"

    def create_index(self, table: Table, columns: Iterable[str], null: Mapping[str, bool] | None = None) -> str:
        """No index leaves rows out here: the columns that are NULL, or are not, come first."""
        names = list(dict.fromkeys([*(null or {}), *columns]))
        called = f"ix_{table.name}_{'_'.join(names)}"[:_LONGEST_NAME].rstrip()
        while called in {index.name for index in table.indexes}:
            called = f"{called[: _LONGEST_NAME - 1]}2"
        listed = ", ".join(self._indexed(table, name) for name in names)
        return f"CREATE INDEX {self.name(called)} ON {self._table(table)} ({listed}) {_ONLINE};"

    def _indexed(self, table: Table, name: str) -> str:
        column = table.columns[name]
        whole = column.family not in ("text", "json") or (column.length is not None and column.length <= _PREFIX * 4)
        return self.name(name) if whole else f"{self.name(name)}({_PREFIX})"

    def rebuild(self, table: Table, index: Index) -> str:
        return f"ALTER TABLE {self._table(table)} ALTER INDEX {self.name(index.name)} NOT IGNORED;"

    def add_unique(self, table: Table, columns: Iterable[str]) -> str:
        return f"ALTER TABLE {self._table(table)} ADD UNIQUE ({self._list(columns)});"

    def add_foreign_key(self, table: Table, columns: Iterable[str], to: Table, key: Iterable[str]) -> str | None:
        """None where the columns differ in type or collation: the server refuses it."""
        mine, theirs = list(columns), list(key)
        pairs = zip(mine, theirs, strict=True)
        if any(self._kind(table, one) != self._kind(to, other) for one, other in pairs):
            return None
        # Without a look at the old rows, which would take long, and hold up writers.
        return (
            f"SET STATEMENT foreign_key_checks = 0 FOR ALTER TABLE {self._table(table)}"
            f" ADD FOREIGN KEY ({self._list(mine)}) REFERENCES {self._table(to)} ({self._list(theirs)}),"
            " ALGORITHM=INPLACE, LOCK=NONE;"
        )

    def _kind(self, table: Table, column: str) -> tuple[str, str | None]:
        found = self.definitions[table.identity, column]
        return found.type, found.collation

    def not_null(self, table: Table, column: str) -> str:
        return self._modify(table, column, self._of(table, column).spelled(nullable=False))

    def as_instant(self, table: Table, column: str) -> str:
        return self.with_fractions(table, column)

    def with_fractions(self, table: Table, column: str) -> str:
        """A moment to the microsecond."""
        definition = self._of(table, column)
        base = definition.type.partition("(")[0]
        value = definition.value
        # Of a clock the default, too, has to be as exact as the column.
        if value and value.casefold().startswith("current_timestamp"):
            value = "current_timestamp(6)"
        extra = "ON UPDATE current_timestamp(6)" if "on update" in definition.extra.casefold() else ""
        exact = Definition(definition.type, definition.nullable, value, extra, definition.comment, None, None)
        return self._modify(table, column, exact.spelled(f"{base}(6)"))

    def retype(self, table: Table, column: str, words: str) -> str:
        """A text in an index keeps a length that an index takes."""
        indexed = any(column in index.columns for index in table.indexes)
        return self._modify(table, column, self._of(table, column).spelled("varchar(512)" if indexed else words))

    def collate(self, table: Table, column: str, collation: str) -> str:
        return self._modify(table, column, self._of(table, column).spelled(collation=collation))

    def lockable(self, table: Table) -> str | None:
        return None if table.kind.endswith("view") else f"ALTER TABLE {self._table(table)} ENGINE = InnoDB;"

    def set_globally(self, setting: str, value: str) -> str:
        return f"SET GLOBAL {setting} = {value};"

    def _of(self, table: Table, column: str) -> Definition:
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
        return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """A text as a literal, whatever is in it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"

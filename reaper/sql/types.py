"""Column types whose values are the same in Python whatever the database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Dialect, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import DateTime, Double, Float, TypeDecorator, TypeEngine, UserDefinedType

from reaper.model import DISTANT_PAST

MINUS_INFINITY, INFINITY = "-infinity", "infinity"

EXACT_COLLATION = "utf8mb4_nopad_bin"
"""The collation of MariaDB with which a text is equal only to the very same text."""

FIRST_EPOCH, LAST_EPOCH = -62_135_596_800, 253_402_300_799
"""Seconds since 1970: years 1 to 9999, to the last whole second. A stored epoch that is less is none, as the number may
be out of all calendars; one that is more is a moment in the future.
"""

# MariaDB has no infinities; these are the ends of its calendar. (Year 0 is that of its zero date, which means "none".)
_CALENDAR_ENDS = {
    MINUS_INFINITY: datetime(1, 1, 1),  # noqa: DTZ001
    INFINITY: datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
}


class _Instant(TypeDecorator[Any]):
    """A moment: aware in Python. On MariaDB a DATETIME(6) in UTC.

    DISTANT_PAST is bound as the moment that is earlier than all others. MariaDB's driver returns naive values, in UTC.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if _is_postgresql(dialect):
            return dialect.type_descriptor(self.impl_instance)
        # Imported late: with PostgreSQL alone it is not needed, and it takes memory.
        from sqlalchemy.dialects import mysql

        return dialect.type_descriptor(mysql.DATETIME(fsp=6))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value == DISTANT_PAST:
            value = MINUS_INFINITY
        if value is None or _is_postgresql(dialect):
            return value
        if isinstance(value, str):
            return _CALENDAR_ENDS[value]
        return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        naive = isinstance(value, datetime) and value.tzinfo is None
        return value.replace(tzinfo=UTC) if naive else value


class _Document(TypeDecorator[Any]):
    """JSON, read as Python's values; text that is not JSON stays text."""

    impl = JSONB
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(JSONB() if _is_postgresql(dialect) else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        as_it_is = value is None or isinstance(value, str) or _is_postgresql(dialect)
        return value if as_it_is else json.dumps(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return value if _is_postgresql(dialect) else document_of(value)


class _Texts(TypeDecorator[Any]):
    """Texts as an array; on MariaDB, which has no arrays, as a JSON array."""

    impl = ARRAY(Text)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(self.impl_instance if _is_postgresql(dialect) else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value if _is_postgresql(dialect) else json.dumps(value)


class Bytes(UserDefinedType[Any]):
    """A column of at most so many bytes, which people see as hexadecimal digits, or 16 bytes as a UUID."""

    cache_ok = True

    def __init__(self, most: int) -> None:
        self.most = most


def document_of(value: Any) -> Any:
    """A document as its driver returns it, as Python's values: that of MariaDB returns text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _is_postgresql(dialect: Dialect) -> bool:
    return dialect.name == "postgresql"


def is_instant(column_type: TypeEngine[Any]) -> bool:
    """Values of this type are moments."""
    return isinstance(column_type, _Instant | DateTime)


def is_document(column_type: TypeEngine[Any]) -> bool:
    """Values of this type are JSON."""
    return isinstance(column_type, _Document | JSON)


INSTANT = _Instant()
DOCUMENT = _Document()
TEXTS = _Texts()
FLOAT = Float().with_variant(Double(), "mysql", "mariadb")

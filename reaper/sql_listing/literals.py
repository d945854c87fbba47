"""Statements with their values written out, to be pasted into psql or the MariaDB client."""

from __future__ import annotations

import json
from decimal import Decimal
from math import isfinite

from sqlalchemy import ClauseElement, Dialect

from reaper.sql.statement import CompiledStatement, Values, with_places


def with_literals(clause: ClauseElement, dialect: Dialect, values: Values) -> str:
    """The statement with every parameter written out. `values` are those that the statement itself does not hold."""
    text, parameters = CompiledStatement(clause, dialect).bound(values)
    return with_places(text, lambda name: literal_of(parameters[name], dialect), "%").strip()


def literal_of(value: object, dialect: Dialect) -> str:
    """A value as the driver has it, as SQL. Raises TypeError for a type that no column of a job has."""
    if hasattr(value, "obj"):  # psycopg's wrapper of a JSON document
        value = value.obj
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int() | Decimal() | float() if isfinite(value):
            return str(value)
        case bytes():
            return f"'\\x{value.hex()}'" if _is_postgresql(dialect) else f"X'{value.hex()}'"
        case dict() | list():
            return _text(json.dumps(value, ensure_ascii=False), dialect)
    # Moments, uuids, intervals, numbers that are not finite: as the server reads them from a text.
    return _text(str(value), dialect)


def _text(value: str, dialect: Dialect) -> str:
    """A text, spelled so that it depends on no setting of the session and holds no control character."""
    if value.isprintable() and "\\" not in value:
        return "'" + value.replace("'", "''") + "'"
    if _is_postgresql(dialect):
        escaped = (character if _is_plain(character) else f"\\U{ord(character):08x}" for character in value)
        return "E'" + "".join(escaped).replace("'", "''") + "'"
    return f"CONVERT(X'{value.encode().hex()}' USING utf8mb4)"


def _is_plain(character: str) -> bool:
    return character.isprintable() and character != "\\"


def _is_postgresql(dialect: Dialect) -> bool:
    return dialect.name == "postgresql"

"""What an error of the database means for the sweep that met it."""

from __future__ import annotations

import re
from enum import Enum
from typing import TypeGuard

import psycopg
from sqlalchemy.exc import DBAPIError

from reaper.database.mariadb import errors


class ErrorKind(Enum):
    """Who is concerned."""

    UNAVAILABLE = "the database cannot be used just now"
    TRANSIENT = "the same again may go through: a deadlock, a serialization failure"
    TIMEOUT = "it took too long, or somebody cancelled it"
    DUPLICATE = "a unique key does not allow one of the rows"
    ROW = "one of the rows cannot be changed so"
    STATEMENT = "the statement cannot be run at all"


_AWAY = {"08", "28", "3D"}
# A full disk is among them: whoever cannot write cannot show that he lives.
_AWAY_STATES = {"57P01", "57P02", "57P03", "57P05", "25006", "53100", "53300"}
_PASSING = {"40"}
_STATEMENT = {"0A", "25", "26", "34", "3F", "42", "53", "54", "55", "57", "58", "F0", "XX"}
# What a trigger's function may run into for one row; want of resources and being cancelled are not among it.
_RAISED = {"0A", "26", "34", "3F", "42", "55", "F0", "XX"}
_SLOW = "57014"
_UNIQUE = "23505"
_ENGINE, _NO_SPACE = 1030, re.compile(r"error 28\b")


def sqlstate(error: DBAPIError) -> str | None:
    """The five letters of the SQL standard, when the server said any."""
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def error_number(error: DBAPIError) -> int | None:
    """MariaDB's own number, when the server or its driver said any."""
    said = error.orig.args[0] if _is_mariadbs(error.orig) and error.orig.args else None
    return said if isinstance(said, int) else None


def _is_mariadbs(error: BaseException | None) -> TypeGuard[BaseException]:
    """By its name: the driver is an extra."""
    return type(error).__module__.partition(".")[0] == "pymysql"


def classify(error: DBAPIError) -> ErrorKind:
    """Sort an error. What a trigger raises, with whatever code, concerns its row."""
    if not error.connection_invalidated and (known := error_number(error)):
        return _by_number(known, str(error.orig))
    state = sqlstate(error)
    if state is None or error.connection_invalidated:
        return ErrorKind.UNAVAILABLE
    if state[:2] in _AWAY or state in _AWAY_STATES:
        return ErrorKind.UNAVAILABLE
    if state[:2] in _PASSING:
        return ErrorKind.TRANSIENT
    if state == _SLOW:
        return ErrorKind.TIMEOUT
    if state == _UNIQUE:
        return ErrorKind.DUPLICATE
    if state[:2] not in _STATEMENT or (state[:2] in _RAISED and _inside_a_function(error)) or _by_row_security(error):
        return ErrorKind.ROW
    return ErrorKind.STATEMENT


def _by_number(known: int, said: str) -> ErrorKind:
    """Of MariaDB's. It does not tell whether an error came up in a trigger."""
    if known in errors.UNAVAILABLE or (known == _ENGINE and _NO_SPACE.search(said)):
        return ErrorKind.UNAVAILABLE
    if known in errors.TRANSIENT:
        return ErrorKind.TRANSIENT
    if known in errors.TIMEOUT:
        return ErrorKind.TIMEOUT
    if known in errors.DUPLICATE:
        return ErrorKind.DUPLICATE
    return ErrorKind.STATEMENT if known in errors.STATEMENT else ErrorKind.ROW


def _by_row_security(error: DBAPIError) -> bool:
    """It refuses a single row, with the code for a privilege that is missing, which concerns them all."""
    return isinstance(error.orig, psycopg.Error) and error.orig.diag.source_function == "ExecWithCheckOptions"


def _inside_a_function(error: DBAPIError) -> bool:
    """Whether it came up in a trigger's function: the server then tells the way there."""
    return isinstance(error.orig, psycopg.Error) and bool(error.orig.diag.context)


def short_message(error: BaseException) -> str:
    """What the database said, without statement, parameters or connection string."""
    cause = getattr(error, "orig", None) or error
    texts = [text for text in cause.args if isinstance(text, str)] if _is_mariadbs(cause) else []
    said = (texts[0] if texts else str(cause)).strip()
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

"""What an error of the database means for the sweep that received it."""

from __future__ import annotations

import re
from enum import Enum
from typing import TypeGuard

import psycopg
from sqlalchemy.exc import DBAPIError

from reaper.common.terminal import clipped
from reaper.database.mariadb import errors as mariadb


class ErrorKind(Enum):
    """What the error is about, and so what the sweep does next."""

    UNAVAILABLE = "the database cannot be used at present"
    TRANSIENT = "the same again may succeed: a deadlock, a serialization failure"
    TIMEOUT = "the statement took too long, or was cancelled"
    DUPLICATE = "a unique key does not allow one of the rows"
    ROW = "one of the rows cannot be changed like this"
    STATEMENT = "the statement cannot be run at all"


_UNAVAILABLE_CLASSES = {"08", "28", "3D"}
_UNAVAILABLE_STATES = {"57P01", "57P02", "57P03", "57P05", "25006", "53300"}
_DISK_FULL = "53100"
"""Wherever it is met: a worker that cannot write cannot show a sign of life."""
_TRANSIENT_CLASSES = {"40"}
_STATEMENT_CLASSES = {"0A", "25", "26", "34", "3F", "42", "53", "54", "55", "57", "58", "F0", "XX"}
# What a trigger's function may meet for one row: another server that it asks is away, or it calls itself for ever. Too
# few resources and being cancelled are not among these, unless the function says so by itself.
_RAISED_CLASSES = {"08", "0A", "25", "26", "28", "34", "3D", "3F", "42", "54", "55", "58", "F0", "XX"}
# PL/pgSQL's RAISE, with whatever code; and row-level security, which refuses a single row with the code for a missing
# privilege, which would concern them all.
_ABOUT_A_ROW = {"exec_stmt_raise", "ExecWithCheckOptions"}
_FOREIGN_SERVER = "connection.c"
"""The file of PostgreSQL's source in which postgres_fdw raises what it meets at the other server."""
_QUERY_CANCELED = "57014"
_LOCK_NOT_AVAILABLE, _MARIADB_LOCK_WAIT_TIMEOUT = "55P03", 1205
_LONGEST_MESSAGE = 1_000
_UNIQUE_VIOLATION = "23505"
_MARIADB_ENGINE_ERROR, _NO_SPACE = 1030, re.compile(r"error 28\b")


def sqlstate(error: DBAPIError) -> str | None:
    """The five characters of the SQL standard, when the server sent any."""
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def error_number(error: DBAPIError) -> int | None:
    """MariaDB's own error number, when the server or its driver gave one."""
    number = error.orig.args[0] if _is_from_mariadb(error.orig) and error.orig.args else None
    return number if isinstance(number, int) else None


def is_lock_timeout(error: DBAPIError) -> bool:
    """Another transaction has held a lock for as long as this one waits: on a row, or on a table."""
    return sqlstate(error) == _LOCK_NOT_AVAILABLE or error_number(error) == _MARIADB_LOCK_WAIT_TIMEOUT


def is_timeout(error: BaseException) -> bool:
    """The statement took too long, or was cancelled."""
    return isinstance(error, DBAPIError) and classify(error) is ErrorKind.TIMEOUT


def _is_from_mariadb(error: BaseException | None) -> TypeGuard[BaseException]:
    """Decided by the module's name, since the driver is an optional dependency."""
    return type(error).__module__.partition(".")[0] == "pymysql"


def classify(error: DBAPIError) -> ErrorKind:
    """The kind of an error. An error that a trigger raises, with whatever code, is about its row."""
    if not error.connection_invalidated and (number := error_number(error)):
        return _classify_number(number, str(error.orig))
    state = sqlstate(error)
    if state is None or error.connection_invalidated:
        return ErrorKind.UNAVAILABLE
    state_class = state[:2]
    if state == _DISK_FULL:
        return ErrorKind.UNAVAILABLE
    if state_class in _TRANSIENT_CLASSES:
        return ErrorKind.TRANSIENT
    if state == _UNIQUE_VIOLATION:
        return ErrorKind.DUPLICATE
    if _is_about_a_row(error, state_class):
        return ErrorKind.ROW
    if state_class in _UNAVAILABLE_CLASSES or state in _UNAVAILABLE_STATES:
        return ErrorKind.UNAVAILABLE
    if state == _QUERY_CANCELED:
        return ErrorKind.TIMEOUT
    return ErrorKind.STATEMENT if state_class in _STATEMENT_CLASSES else ErrorKind.ROW


def _classify_number(number: int, message: str) -> ErrorKind:
    """MariaDB does not say whether an error was raised in a trigger."""
    if number in mariadb.UNAVAILABLE or (number == _MARIADB_ENGINE_ERROR and _NO_SPACE.search(message)):
        return ErrorKind.UNAVAILABLE
    if number in mariadb.TRANSIENT:
        return ErrorKind.TRANSIENT
    if number in mariadb.TIMEOUT:
        return ErrorKind.TIMEOUT
    if number in mariadb.DUPLICATE:
        return ErrorKind.DUPLICATE
    return ErrorKind.STATEMENT if number in mariadb.STATEMENT else ErrorKind.ROW


def _is_about_a_row(error: DBAPIError, state_class: str) -> bool:
    """Whether the error was raised in a function, such as a trigger's: the server then sends the call stack.

    Also for a foreign table, whose server is then away for all of its rows.
    """
    if not isinstance(error.orig, psycopg.Error):
        return False
    diag = error.orig.diag
    in_function = bool(diag.context) and diag.source_file != _FOREIGN_SERVER
    return diag.source_function in _ABOUT_A_ROW or (state_class in _RAISED_CLASSES and in_function)


def short_message(error: BaseException) -> str:
    """The first line of the database's message, without statement, parameters or connection string. A long one is cut:
    it may quote a row, or be raised by a trigger.
    """
    cause = getattr(error, "orig", None) or error
    texts = [text for text in cause.args if isinstance(text, str)] if _is_from_mariadb(cause) else []
    message = (texts[0] if texts else str(cause)).strip()
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return clipped(lines[0], _LONGEST_MESSAGE) if lines else type(error).__name__

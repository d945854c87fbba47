"""What an error of the database means for the sweep that met it."""

from __future__ import annotations

from enum import Enum

import psycopg
from sqlalchemy.exc import DBAPIError


class Trouble(Enum):
    """Who is concerned."""

    AWAY = "the database cannot be used just now"
    PASSING = "the same again may go through: a deadlock, a serialization failure"
    SLOW = "it took too long, or somebody cancelled it"
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


def sqlstate(error: DBAPIError) -> str | None:
    """The five letters of the SQL standard, when the server said any."""
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def trouble(error: DBAPIError) -> Trouble:
    """Sort an error. What a trigger raises, with whatever code, concerns its row."""
    state = sqlstate(error)
    if state is None or error.connection_invalidated:
        return Trouble.AWAY
    if state[:2] in _AWAY or state in _AWAY_STATES:
        return Trouble.AWAY
    if state[:2] in _PASSING:
        return Trouble.PASSING
    if state == _SLOW:
        return Trouble.SLOW
    if state[:2] not in _STATEMENT or (state[:2] in _RAISED and _inside_a_function(error)) or _by_row_security(error):
        return Trouble.ROW
    return Trouble.STATEMENT


def _by_row_security(error: DBAPIError) -> bool:
    """It refuses a single row, with the code for a privilege that is missing, which concerns them all."""
    return isinstance(error.orig, psycopg.Error) and error.orig.diag.source_function == "ExecWithCheckOptions"


def _inside_a_function(error: DBAPIError) -> bool:
    """Whether it came up in a trigger's function: the server then tells the way there."""
    return isinstance(error.orig, psycopg.Error) and bool(error.orig.diag.context)


def in_one_line(error: BaseException) -> str:
    """What the database said, without statement, parameters or connection string."""
    said = str(getattr(error, "orig", None) or error).strip()
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

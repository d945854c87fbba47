"""SQL templates with columns of a row in braces: `{attempts} < 3`."""

from __future__ import annotations

from collections.abc import Iterator
from string import Formatter
from typing import NamedTuple

from reaper.profile.base import column_name, without_nul

_BRACES = "braces must contain the name of a column and nothing else; write a brace itself as {{ or }}"


class Piece(NamedTuple):
    """A piece of SQL, and the column that follows it, if any."""

    sql: str
    column: str | None


def pieces(text: str) -> Iterator[Piece]:
    """The parts of a template. Raises ValueError for a text that is not a template."""
    try:
        parsed = list(Formatter().parse(text))
    except ValueError:  # an unpaired brace; Python's message does not fit
        raise ValueError(_BRACES) from None
    for sql, column, form, conversion in parsed:
        if column == "" or form or conversion:
            raise ValueError(_BRACES)
        yield Piece(sql, column)


def checked(text: str) -> str:
    """The same text. Raises ValueError when it is not a template."""
    for column in columns_in(without_nul(text)):
        column_name(column)
    return text


def columns_in(text: str) -> list[str]:
    """The names of the columns in a template."""
    return [piece.column for piece in pieces(text) if piece.column is not None]

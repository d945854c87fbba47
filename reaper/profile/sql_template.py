"""SQL with columns of a row in it: `{attempts} < 3`."""

from __future__ import annotations

from collections.abc import Iterator
from string import Formatter
from typing import NamedTuple

from reaper.profile.base import name_of_a_column, without_nul

_BRACES = "in braces stands the name of a column, and nothing else; a brace itself is doubled: {{ or }}"


class Piece(NamedTuple):
    """Some SQL, and the column that comes after it."""

    sql: str
    column: str | None


def pieces(text: str) -> Iterator[Piece]:
    """A template taken apart. Raises ValueError for one that is none."""
    try:
        parsed = list(Formatter().parse(text))
    except ValueError:  # a brace without its other one, in Python's own words
        raise ValueError(_BRACES) from None
    for sql, column, form, conversion in parsed:
        if column == "" or form or conversion:
            raise ValueError(_BRACES)
        yield Piece(sql, column)


def checked(text: str) -> str:
    """The same text. Raises ValueError when it is no template."""
    for column in columns_in(without_nul(text)):
        name_of_a_column(column)
    return text


def columns_in(text: str) -> list[str]:
    """The columns that a template names."""
    return [piece.column for piece in pieces(text) if piece.column is not None]

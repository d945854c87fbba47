"""The tables that a database really has, as far as the spelling of a profile depends on them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# What PostgreSQL and MariaDB make of a CHECK that lists values, once literals, casts, brackets and spaces are gone.
_LIST = "(?:{name}isnullor)?(?:{name}=anyarray\\$(?:,\\$)*|{name}in\\$(?:,\\$)*|{name}=\\$(?:or{name}=\\$)*)"
_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_CAST = re.compile(r"::[\w ]+(?:\(\d+\))?")
_PUNCTUATION = re.compile(r"[\s()\[\]\"`]+")


ColumnKind = Literal["zoned", "naive", "interval", "time"]
"""What the type of a column says of its values: a moment with its zone, a moment without one, a duration, and a time
of day, which MariaDB takes for a duration. None: something else."""


@dataclass(frozen=True, slots=True)
class RealColumn:
    """A column. `allowed` are the only values that it takes (labels of an enum, a CHECK that lists values), else None.

    `ignores_case`: texts that differ only by case are equal here. `readable` and `insertable` are the connected role's
    privileges; `omittable`, whether it may use the sequence that fills the column where an insert omits it.
    `leads_index`: an index finds rows by it alone. `operators_in`: the schema of its type, where that is not
    PostgreSQL's own, and so are the operators that compare its values. `most_bytes` is how many bytes a column of
    bytes holds, where they are to be shown as text; None for any other column. `kind`: see `ColumnKind`.
    """

    name: str
    is_text: bool = False
    allowed: tuple[str, ...] | None = None
    ignores_case: bool = False
    readable: bool = True
    insertable: bool = True
    omittable: bool = True
    leads_index: bool = False
    operators_in: str | None = None
    most_bytes: int | None = None
    is_array: bool = False
    kind: ColumnKind | None = None


@dataclass(frozen=True, slots=True)
class TableIdentity:
    """Which table of which database it is, whatever it is called: the numbers of both, the owner, and of a view a hash
    of its definition.
    """

    database: int
    number: int
    owner: str
    definition: int | None = None


@dataclass(frozen=True, slots=True)
class RealTable:
    """A table. `in_path`: its name without a schema means this table.

    `has_path`: its server looks such a name up along a path of schemas, of which the first that has the table counts.
    `identity` is None on a server that gives none.
    """

    schema: str
    name: str
    in_path: bool
    columns: Mapping[str, RealColumn] = field(default_factory=dict)
    has_path: bool = False
    identity: TableIdentity | None = None

    def is_named(self, name: str) -> bool:
        """Whether this name in a profile, TABLE or SCHEMA.TABLE, means this table."""
        return self._spelled_as(name) == name

    def is_named_in_another_case(self, name: str) -> bool:
        """Whether this name would mean the table if the case of letters did not matter."""
        spelled = self._spelled_as(name)
        return spelled is not None and spelled != name and spelled.casefold() == name.casefold()

    def spelled(self, name: str) -> str:
        """The table's own name, with its schema where the profile's name has one."""
        return self._spelled_as(name) or name

    def _spelled_as(self, name: str) -> str | None:
        if "." in name:
            return f"{self.schema}.{self.name}"
        return self.name if self.in_path else None


def listed_values(expression: str, column: str) -> tuple[str, ...] | None:
    """The values that a CHECK lists for a column; None for a CHECK that says anything else.

    `expression` is spelled as the server prints it. A domain's CHECK has VALUE in the place of the column.
    """
    if "\\" in expression:
        return None  # a literal with escapes
    shape = _PUNCTUATION.sub("", _CAST.sub("", _LITERAL.sub("$", expression))).casefold()
    own_name = _PUNCTUATION.sub("", column).casefold()
    if not re.fullmatch(_LIST.format(name=f"(?:{re.escape(own_name)}|value)"), shape):
        return None
    return tuple(text.replace("''", "'") for text in _LITERAL.findall(expression))

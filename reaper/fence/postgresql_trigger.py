"""The text of PostgreSQL's trigger and of its function. Every name is quoted, every value is a literal."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg.sql

from reaper.fence.definition import FenceDefinition
from reaper.fence.late_write import LateWrite, fence_object_name
from reaper.profile import Scalar

_LONGEST_NAME = 63
"""In bytes."""


class PostgreSQLLateWrite(LateWrite):
    """The WHEN of the trigger."""

    switched_on = "current_setting('reaper.fence', true) IS DISTINCT FROM 'off'"

    def name(self, column: str) -> str:
        return quote_name(column)

    def literal(self, value: Scalar) -> str:
        """Without a type, so that it takes the type of the column that it is compared with."""
        return quote_literal(str(value).lower() if isinstance(value, bool) else str(value))

    def reason(self, column: str) -> str:
        return f"OLD.{quote_name(column)}::text"

    def differ(self, columns: Sequence[str]) -> str:
        """Compares the stored bytes, which works for every type. An operator would be looked up along a search path."""
        new, old = (", ".join(f"{row}.{quote_name(column)}" for column in columns) for row in ("NEW", "OLD"))
        return f"record_image_ne(ROW({new}), ROW({old}))"

    def claimed(self, column: str) -> str:
        return f"NEW.{quote_name(column)} IS NOT NULL AND {self.differ([column])}"


def function_body(definition: FenceDefinition) -> str:
    """Keeps what `fail` wrote, and warns the session that writes."""
    keep = "".join(f"    NEW.{column} := OLD.{column};\n" for column in map(quote_name, definition.kept_columns))
    key = ", ".join(f"OLD.{quote_name(column)}" for column in definition.key)
    return (
        f"\nBEGIN\n{keep}"
        "    RAISE WARNING 'job % of %.% stays as the reaper ended it: this write comes late',\n"
        f"        concat_ws(',', {key}), TG_TABLE_SCHEMA, TG_TABLE_NAME\n"
        "        USING HINT = 'To change it all the same, say before, in the same transaction: "
        "SET LOCAL reaper.fence = ''off''';\n"
        "    RETURN NEW;\nEND\n"
    )


def quote_literal(text: str) -> str:
    """A text as a literal that means the same whatever the session's settings are."""
    return psycopg.sql.Literal(text).as_string(None).strip()


def dollar_quote(text: str) -> str:
    """A text between dollar quotes that do not occur in it."""
    tag, number = "$fence$", 0
    while tag in text:
        number += 1
        tag = f"$fence{number}$"
    return f"{tag}{text}{tag}"


def quote_name(*parts: str) -> str:
    """A quoted name of one or more parts."""
    return psycopg.sql.Identifier(*parts).as_string(None)


def function_name(table: str) -> str:
    """The name of the function of a table's fence."""
    return fence_object_name(table, _LONGEST_NAME, _cut_bytes)


def _cut_bytes(text: str, length: int) -> str:
    return text.encode()[:length].decode(errors="ignore")

"""Names and texts as MariaDB's SQL spells them, for statements that take no bound parameters."""

from __future__ import annotations


def quote_name(*parts: str) -> str:
    """A name of one or more parts."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def quote_literal(text: str) -> str:
    """A text. Backslashes are doubled, as the reaper's sql_mode lets them escape."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"

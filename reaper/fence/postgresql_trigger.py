"""PostgreSQL's trigger and its function as text: every name quoted, every value a literal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import psycopg.sql

from reaper.fence.definition import REASONS, Definition, Null
from reaper.profile import Scalar
from reaper.sql.tables import reserved_alias

_LONGEST = 63


def late(wanted: Definition) -> str:
    """The condition of a late write: what `fail` wrote would change, and nothing starts anew."""
    ended = [f"OLD.{name(column)} {_holds(value)}" for column, value in wanted.ended.items()]
    ended += [f"OLD.{name(column)}::text IN ({_listed(REASONS)})" for column in wanted.reasons]
    anew = "\n            OR ".join(_anew(wanted))
    parts = [
        *ended,
        _differ(wanted.kept),
        f"(\n            {anew}\n        ) IS NOT TRUE",
        "current_setting('reaper.fence', true) IS DISTINCT FROM 'off'",
    ]
    return "\n        AND ".join(parts)


def _anew(wanted: Definition) -> Iterator[str]:
    for column in map(name, wanted.started):
        yield f"NEW.{column} > OLD.{column}"
        yield f"(NEW.{column} IS NULL) <> (OLD.{column} IS NULL)"
    for column in wanted.claim:
        # Who finishes lets go of a claim: that alone is no new start.
        yield f"NEW.{name(column)} IS NOT NULL AND {_differ([column])}"
    if wanted.state is not None:
        yield f"NEW.{name(wanted.state)} IN ({_listed(wanted.again)})"


def _differ(columns: Sequence[str]) -> str:
    """As the server stores them, which can be told of every type. The operator would be looked for by the column."""
    new, old = (", ".join(f"{row}.{name(column)}" for column in columns) for row in ("NEW", "OLD"))
    return f"record_image_ne(ROW({new}), ROW({old}))"


def body(wanted: Definition) -> str:
    """What is done about a late write: it keeps what `fail` wrote, and its session is told."""
    keep = "".join(f"    NEW.{column} := OLD.{column};\n" for column in map(name, wanted.kept))
    key = ", ".join(f"OLD.{name(column)}" for column in wanted.key)
    return (
        f"\nBEGIN\n{keep}"
        "    RAISE WARNING 'job % of %.% stays as the reaper ended it: this write comes late',\n"
        f"        concat_ws(',', {key}), TG_TABLE_SCHEMA, TG_TABLE_NAME\n"
        "        USING HINT = 'To change it all the same, say before, in the same transaction: "
        "SET LOCAL reaper.fence = ''off''';\n"
        "    RETURN NEW;\nEND\n"
    )


def _holds(value: Scalar | Null) -> str:
    return f"IS {value.value}" if isinstance(value, Null) else f"= {_value(value)}"


def _listed(values: Sequence[Scalar]) -> str:
    return ", ".join(map(_value, values))


def _value(value: Scalar) -> str:
    """Without a type: it takes that of the column that it is compared with."""
    return literal(str(value).lower() if isinstance(value, bool) else str(value))


def literal(text: str) -> str:
    """Text in quotes that mean the same whatever the session's settings are."""
    return psycopg.sql.Literal(text).as_string(None).strip()


def dollars(text: str) -> str:
    """A longer text, as it stands, between two of something that does not stand in it."""
    tag, number = "$fence$", 0
    while tag in text:
        number += 1
        tag = f"$fence{number}$"
    return f"{tag}{text}{tag}"


def name(*parts: str) -> str:
    """A name of one or more parts, quoted."""
    return psycopg.sql.Identifier(*parts).as_string(None)


def function_of(table: str) -> str:
    """The name of a table's function; of a long one, its beginning and what tells it from others like it."""
    called = reserved_alias(f"fence_{table}")
    if len(called.encode()) <= _LONGEST:
        return called
    told = hashlib.sha256(table.encode()).hexdigest()[:8]
    return f"{called.encode()[: _LONGEST - 9].decode(errors='ignore')}_{told}"

"""Settings of PostgreSQL for one transaction: only these work behind a pooler that shares server connections."""

from __future__ import annotations

from collections.abc import Mapping

# client_encoding: the client before in a pool may have set another one, with which text comes back as bytes. DateStyle,
# IntervalStyle, bytea_output: the driver reads only these. extra_float_digits: with fewer, numbers lose digits.
# quote_all_identifiers: expressions of the catalogs are compared as text.
NOTATION: Mapping[str, str] = {
    "client_encoding": "'UTF8'",
    "TimeZone": "'UTC'",
    "DateStyle": "'ISO'",
    "IntervalStyle": "'postgres'",
    "bytea_output": "'hex'",
    "extra_float_digits": "'3'",
    "quote_all_identifiers": "'off'",
}
"""How values and names are written. A database or a role may set it otherwise."""


def set_for_transaction(settings: Mapping[str, str]) -> str:
    """The columns of a SELECT that sets these until the transaction ends. Each value is SQL: a parameter, a literal."""
    return ", ".join(f"pg_catalog.set_config('{name}', {value}, true)" for name, value in settings.items())

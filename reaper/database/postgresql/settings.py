"""Settings of PostgreSQL for one transaction: only these work behind a pooler that shares server connections."""

from __future__ import annotations

from collections.abc import Mapping


def set_for_transaction(settings: Mapping[str, str]) -> str:
    """The columns of a SELECT that sets these until the transaction ends. Each value is SQL: a parameter, a literal."""
    return ", ".join(f"pg_catalog.set_config('{name}', {value}, true)" for name, value in settings.items())

"""How a profile calls a table: by its name alone where that leads to it, else with its schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reaper.catalog import Catalog

TableNames = Mapping[tuple[str, str], Sequence[str]]
"""The columns of each table, by its schema and name."""

_MOST_OF_A_NAME = 40
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


def schema_of_bare(catalog: Catalog, tables: TableNames, name: str) -> str | None:
    """The schema of the table that a name without one means."""
    if catalog.search_path(catalog.server.role) is None:
        return catalog.server.database
    return next((schema for schema in catalog.resolution_path if (schema, name) in tables), None)


def names_in_profiles(catalog: Catalog, tables: TableNames) -> dict[tuple[str, str], str]:
    """What a profile calls each table. Without those that it cannot call: they have a dot in their names."""
    return {
        (schema, name): name if schema_of_bare(catalog, tables, name) == schema else f"{schema}.{name}"
        for schema, name in tables
        if "." not in schema and "." not in name
    }


def source_name(text: str) -> str:
    """The text as a source's name, or as a part of one, which may have fewer characters in it."""
    return _NOT_IN_NAMES.sub("-", text)[:_MOST_OF_A_NAME].strip("-") or "jobs"

"""How each source is dealt with: what it says itself, else what was said for all, and where that stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reaper.settings.layers import Layer, Stack
from reaper.settings.lines import Place
from reaper.settings.schema import PurgeTable, SourceTable
from reaper.settings.values import SIMPLE, Purge


@dataclass(frozen=True)
class Conduct:
    """One source's simple values by their names, its purge, and the origins of both by their places in its table."""

    values: Mapping[str, Any]
    purge: Purge
    origins: Mapping[Place, str]


def conduct(source: str, table: SourceTable, stack: Stack, flags: Layer, file: Layer) -> Conduct:
    """The nearest word counts; a flag is above them all."""
    values, origins = dict[str, Any](), dict[Place, str]()
    for name in SIMPLE:
        own = getattr(table, name)
        if own is None or name in flags.values:
            values[name], origins[(name,)] = getattr(stack.given, name), stack.origin(name)
        else:
            values[name], origins[(name,)] = own, file.origin(("sources", source, name))
    purge = Purge(**table.purge.model_dump())
    return Conduct(values, purge, origins | dict(_purge_origins(source, table.purge, file)))


def _purge_origins(source: str, purge: PurgeTable, file: Layer) -> Iterator[tuple[Place, str]]:
    for name in PurgeTable.model_fields:
        given = name in purge.model_fields_set
        yield ("purge", name), file.origin(("sources", source, "purge", name)) if given else "default"

"""Running jobs none of whose start columns has a moment: they count from when the reaper first saw them.

Such a job would be young for ever. A sweep looks for these jobs where there may be any, and remembers each with what
identifies its run. A job that is not remembered yet is young.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import FromClause

from reaper.model import Key
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.relations import LookedUp
from reaper.sql.tables import ProfileTables
from reaper.staleness import parameters

SEPARATOR = "|"
"""Between the values of a key, in the name that a job is kept by."""


def name_of(key: Key) -> str:
    """What a job is kept by."""
    return SEPARATOR.join(key)


def first_seen(tables: ProfileTables, jobs: FromClause) -> Element:
    """When a job was first seen; NULL where that is not remembered."""
    name = _name(tables.key_text(jobs))
    return sql.instant_at(LookedUp(parameters.FIRST_SEEN, name))


def _name(key_text: Sequence[Element]) -> Element:
    parts = [part for n, text in enumerate(key_text) for part in ((SEPARATOR, text) if n else (text,))]
    return sql.text_of(sql.concat(*parts))

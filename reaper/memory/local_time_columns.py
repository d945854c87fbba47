"""Columns that are proven to be in local time, with their offset from UTC: by database, source and column."""

from __future__ import annotations

from reaper.memory.seen_states import SeenStateStore, seen_table


class LocalColumnStore(SeenStateStore):
    """Keeps what was proven, for as long as the source is swept and for a month after that. The place is the source."""

    table = seen_table("local_column", "source")
    forgets = True
    max_age_seconds = 30 * 86_400.0

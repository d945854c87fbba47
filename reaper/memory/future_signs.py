"""Signs of life in the future that were seen, and when each was first seen: by database, table, witness and job."""

from __future__ import annotations

from reaper.memory.seen_states import SeenStateStore, seen_table
from reaper.staleness.future_signs import is_same


class FutureSignStore(SeenStateStore):
    """Keeps the states of signs in the future. The place is the table."""

    table = seen_table("future_sign", "table_name")
    forgets = False

    @staticmethod
    def is_same(state: str, before: str) -> bool:
        """No sign was added since."""
        return is_same(state, before)

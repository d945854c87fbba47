"""How often sweeps have started a job again: by database, table and job."""

from __future__ import annotations

from reaper.memory.seen_states import SeenStateStore, seen_table
from reaper.source.requeue_counts import MAX_COUNTED


class RequeueCountStore(SeenStateStore):
    """Keeps the number of times as the state. A job that no sweep has started again for a week is forgotten."""

    table = seen_table("requeue_count", "table_name")
    forgets = False
    max_jobs = MAX_COUNTED
    max_rows = 2 * MAX_COUNTED
    max_age_seconds = 7 * 86_400.0

"""Running jobs without a start, and when each was first seen: by database, source and job."""

from __future__ import annotations

from reaper.memory.seen_states import SeenStateStore, seen_table
from reaper.source.first_seen import MAX_JOBS


class FirstSeenJobStore(SeenStateStore):
    """Keeps when a job was first seen. The place is the source, which may look at other jobs of a table than others."""

    table = seen_table("first_seen_job", "source")
    forgets = True
    max_jobs = MAX_JOBS
    max_rows = 5 * MAX_JOBS

"""Workers as sweeps have seen them, and since when each has been so: by database, source and worker."""

from __future__ import annotations

from reaper.memory.seen_states import SeenStateStore, seen_table
from reaper.source.worker_look import MAX_WORKERS


class WorkerStateStore(SeenStateStore):
    """Keeps the state of each worker. The place is the source, whose jobs may have other workers than others."""

    table = seen_table("worker_state", "source")
    forgets = True
    max_jobs = 2 * MAX_WORKERS
    max_rows = 4 * MAX_WORKERS

"""What must outlive the process: a small SQLite file in the state directory.

Nothing here decides anything. It keeps facts; the code that decides asks for them. Another kind of fact takes one
module beside these, with its table and a class of its own, one migration in `schema`, and one attribute of `Memory`.
"""

from reaper.memory.command_reaps import CommandReap, CommandReapStore
from reaper.memory.database_contacts import ContactStore, DatabaseContact
from reaper.memory.first_seen_jobs import FirstSeenJobStore
from reaper.memory.future_signs import FutureSignStore
from reaper.memory.halt import HaltRecord, HaltStore
from reaper.memory.job_holds import JobHoldStore
from reaper.memory.local_time_columns import LocalColumnStore
from reaper.memory.memory import (
    Memory,
    keeps_state,
    kept_command_reaps,
    kept_contacts,
    kept_counts,
    kept_halt,
    kept_holds,
    kept_refused_jobs,
    process_stores,
)
from reaper.memory.reap_counts import ReapCount, ReapCountStore
from reaper.memory.reaped_rows import ReapedRowStore
from reaper.memory.refused_jobs import RefusedJob, RefusedJobStore
from reaper.memory.worker_states import WorkerStateStore

__all__ = [
    "CommandReap",
    "CommandReapStore",
    "ContactStore",
    "DatabaseContact",
    "FirstSeenJobStore",
    "FutureSignStore",
    "HaltRecord",
    "HaltStore",
    "JobHoldStore",
    "LocalColumnStore",
    "Memory",
    "ReapCount",
    "ReapCountStore",
    "ReapedRowStore",
    "RefusedJob",
    "RefusedJobStore",
    "WorkerStateStore",
    "keeps_state",
    "kept_command_reaps",
    "kept_contacts",
    "kept_counts",
    "kept_halt",
    "kept_holds",
    "kept_refused_jobs",
    "process_stores",
]

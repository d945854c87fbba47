"""Who plays in the demo, and how each of them must end. Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

TIMEOUT, STALL, INTERVAL = 20, 12, 2
"""What the daemon is told: small enough for a minute, far enough apart for a busy machine."""

LONGEST = 180
"""The show ends when everybody has; after this it has failed."""


class Ending(StrEnum):
    """What has to be true of a job in the end."""

    IN_TIME = "finished in time"
    SPARED = "spared"
    REAPED = "reaped"
    OVERWRITTEN = "reaped, then overwritten"


@dataclass(frozen=True, slots=True)
class Role:
    """One worker process. `seconds` is how long it works, counted from its own start."""

    name: str
    does: str
    role: str
    operation: str
    seconds: float
    ending: Ending
    enters: float = 0
    killed: float | None = None
    """The age of its job at which it is sent SIGKILL."""
    parent: str | None = None
    """The part whose job is the parent of this one's; for the role `batches`, the job that it reports on."""

    @property
    def has_job(self) -> bool:
        return self.role != "batches"


CAST = (
    Role("steady", "works 10 s, and says so", "steady", "load_goa", 10, Ending.IN_TIME),
    Role("steady again", "the same, later", "steady", "load_goa", 10, Ending.IN_TIME, enters=32),
    Role("slow", "works 46 s, a sign of life every 2 s", "steady", "train_model", 46, Ending.SPARED),
    Role(
        "coordinator", "silent for 46 s while its children work",
        "coordinator", "compute_embeddings", 46, Ending.SPARED,
    ),
    Role(
        "first child", "works for the coordinator",
        "steady", "embed_batch", 26, Ending.SPARED, parent="coordinator",
    ),
    Role(
        "second child", "takes over from the first",
        "steady", "embed_batch", 26, Ending.SPARED, enters=20, parent="coordinator",
    ),
    Role(
        "collector", "silent for 44 s while batches report on it",
        "coordinator", "predict_go_terms", 44, Ending.SPARED,
    ),
    Role(
        "batches", "has no job: writes child.* events for the collector",
        "batches", "", 43, Ending.SPARED, parent="collector",
    ),
    Role(
        "one transaction", "silent for 44 s, its row locked by an open transaction",
        "one_transaction", "vacuum_models", 44, Ending.SPARED,
    ),
    Role("crashed", "SIGKILL after 4 s", "crash", "compute_embeddings", 3, Ending.REAPED, killed=4),
    Role(
        "crashed later", "past its timeout and alive, then SIGKILL after 31 s",
        "crash", "compute_embeddings", 30, Ending.REAPED, killed=31,
    ),
    Role("hung", "alive, and says nothing after 4 s", "hang", "predict_go_terms", 4, Ending.REAPED),
    Role(
        "late, careful", "silent; back after 40 s, sees that it was reaped",
        "late", "ping", 40, Ending.REAPED,
    ),
    Role(
        "late, careless", "silent; back after 40 s, overwrites without asking",
        "late_and_careless", "ping", 40, Ending.OVERWRITTEN,
    ),
)  # fmt: skip

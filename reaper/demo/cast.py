"""Who plays in the demo, and how each of them must end. Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

TIMEOUT, STALL, INTERVAL = 15, 8, 2
"""What the daemon is told: small enough for a minute, far enough apart for a busy machine."""

LONGEST = 90
"""The show ends when everybody has; after this it has failed."""


class Ending(StrEnum):
    """What has to be true of a job in the end."""

    IN_TIME = "finished in time"
    SPARED = "spared"
    REAPED = "reaped"
    OVERWRITTEN = "reaped, then overwritten"


@dataclass(frozen=True, slots=True)
class Part:
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
    Part("steady", "works 10 s, and says so", "steady", "load_goa", 10, Ending.IN_TIME),
    Part("steady again", "the same, later", "steady", "load_goa", 10, Ending.IN_TIME, enters=24),
    Part("slow", "works 36 s, a sign of life every 2 s", "steady", "train_model", 36, Ending.SPARED),
    Part(
        "coordinator", "silent for 36 s while its children work",
        "coordinator", "compute_embeddings", 36, Ending.SPARED,
    ),
    Part(
        "first child", "works for the coordinator",
        "steady", "embed_batch", 18, Ending.SPARED, parent="coordinator",
    ),
    Part(
        "second child", "takes over from the first",
        "steady", "embed_batch", 18, Ending.SPARED, enters=16, parent="coordinator",
    ),
    Part(
        "collector", "silent for 34 s while batches report on it",
        "coordinator", "predict_go_terms", 34, Ending.SPARED,
    ),
    Part(
        "batches", "has no job: writes child.* events for the collector",
        "batches", "", 33, Ending.SPARED, parent="collector",
    ),
    Part(
        "one transaction", "silent for 34 s, its row locked by an open transaction",
        "one_transaction", "vacuum_models", 34, Ending.SPARED,
    ),
    Part("crashed", "SIGKILL after 4 s", "crash", "compute_embeddings", 3, Ending.REAPED, killed=4),
    Part(
        "crashed later", "past its timeout and alive, then SIGKILL after 24 s",
        "crash", "compute_embeddings", 23, Ending.REAPED, killed=24,
    ),
    Part("hung", "alive, and says nothing after 4 s", "hang", "predict_go_terms", 4, Ending.REAPED),
    Part(
        "late, careful", "silent; back after 30 s, sees that it was reaped",
        "late", "ping", 30, Ending.REAPED,
    ),
    Part(
        "late, careless", "silent; back after 30 s, overwrites without asking",
        "late_and_careless", "ping", 30, Ending.OVERWRITTEN,
    ),
)  # fmt: skip

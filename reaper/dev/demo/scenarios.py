"""The workers of the demo, and how the job of each must end. Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

TIMEOUT, STALL, INTERVAL = 20, 12, 2
"""The daemon's settings: small enough for a minute, far enough apart for a busy machine."""

DEADLINE = 180
"""Seconds after which the demo has failed. It ends when all workers and jobs have ended."""


class Ending(StrEnum):
    """How a job must end."""

    IN_TIME = "finished in time"
    SPARED = "spared"
    REAPED = "reaped"
    OVERWRITTEN = "reaped, then overwritten"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One worker process. `seconds` is how long it works, counted from its own start."""

    name: str
    does: str
    behaviour: str
    operation: str
    seconds: float
    ending: Ending
    starts_after: float = 0
    killed_at_age: float | None = None
    """The age of its job at which it is sent SIGKILL."""
    parent: str | None = None
    """The scenario whose job is the parent of this job; for `batches`, the scenario whose job it reports on."""

    @property
    def has_job(self) -> bool:
        return self.behaviour != "batches"


SCENARIOS = (
    Scenario("steady", "works 10 s, with signs of life", "steady", "load_goa", 10, Ending.IN_TIME),
    Scenario("steady again", "the same, later", "steady", "load_goa", 10, Ending.IN_TIME, starts_after=32),
    Scenario("slow", "works 46 s, a sign of life every 2 s", "steady", "train_model", 46, Ending.SPARED),
    Scenario(
        "coordinator", "silent for 46 s while its children work",
        "coordinator", "compute_embeddings", 46, Ending.SPARED,
    ),
    Scenario(
        "first child", "works for the coordinator",
        "steady", "embed_batch", 26, Ending.SPARED, parent="coordinator",
    ),
    Scenario(
        "second child", "takes over from the first",
        "steady", "embed_batch", 26, Ending.SPARED, starts_after=20, parent="coordinator",
    ),
    Scenario(
        "collector", "silent for 44 s while batches report on it",
        "coordinator", "predict_go_terms", 44, Ending.SPARED,
    ),
    Scenario(
        "batches", "writes child.* events for the collector",
        "batches", "", 43, Ending.SPARED, parent="collector",
    ),
    Scenario(
        "one transaction", "silent for 44 s; a transaction locks its row",
        "one_transaction", "vacuum_models", 44, Ending.SPARED,
    ),
    Scenario("crashed", "SIGKILL after 4 s", "crash", "compute_embeddings", 3, Ending.REAPED, killed_at_age=4),
    Scenario(
        "crashed later", "alive past its timeout, SIGKILL after 31 s",
        "crash", "compute_embeddings", 30, Ending.REAPED, killed_at_age=31,
    ),
    Scenario("hung", "alive, but silent after 4 s", "hang", "predict_go_terms", 4, Ending.REAPED),
    Scenario(
        "late, careful", "silent; back after 40 s, sees the reap",
        "late", "ping", 40, Ending.REAPED,
    ),
    Scenario(
        "late, careless", "silent; back after 40 s, overwrites its row",
        "late_and_careless", "ping", 40, Ending.OVERWRITTEN,
    ),
)  # fmt: skip

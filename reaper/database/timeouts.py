"""Time limits for the database."""

from __future__ import annotations

from dataclasses import dataclass

MARGIN_SECONDS = 30.0
"""How much longer we wait for an answer than the server's own limit for a statement, so that its limit acts first."""

LOCK_SECONDS = 5
"""How long a transaction of ours may wait for a lock."""

IDLE_SECONDS = 10
"""How long a transaction of ours may do nothing."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the database may take, in seconds."""

    statement: float
    connect: float

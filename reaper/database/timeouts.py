"""How long a database may take."""

from __future__ import annotations

from dataclasses import dataclass

MARGIN_SECONDS = 30.0
"""How much longer than the server's own limit for a statement to wait: it is to have the first word."""

LOCK_SECONDS = 5
IDLE_SECONDS = 10
"""How long a transaction of ours may wait for a lock, and do nothing."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the database may take, in seconds."""

    statement: float
    connect: float

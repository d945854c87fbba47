"""Numbers of jobs, events and rounds. Most bounds can be checked with the default sizes, some only with --full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# The sizes for which the bounds are defined.
BOUND_STALE = 20_000
BOUND_RUNNING = 100_000
BOUND_EVENTS = 190


def _size(default: int, description: str, minimum: int = 1) -> Any:
    return field(default=default, metadata={"help": description, "minimum": minimum})


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of one run. The defaults are those of a run without a preset."""

    stale: int = _size(BOUND_STALE, "reap: stale jobs; twice as many live ones run beside them")
    rounds: int = _size(5, "reap, idle and survey: how often each variant is measured")
    running: int = _size(BOUND_RUNNING, "idle and survey: running jobs, all past their timeout")
    events: int = _size(19, "idle: events of each running job")
    finished: int = _size(500_000, "idle: finished jobs in the same table")
    finished_factor: int = _size(2, "idle: factor of finished jobs in the second database")
    reaped: int = _size(200_000, "memory: jobs reaped in one sweep")
    window: int = _size(15, "daemon: seconds, between two sweeps, over which CPU time is measured", minimum=2)


PRESETS: Mapping[str, Sizes] = {
    "default": Sizes(),
    "quick": replace(
        Sizes(), rounds=3, stale=5_000, running=20_000, events=5, finished=50_000, reaped=20_000, window=4
    ),
    "full": replace(
        Sizes(),
        rounds=9,
        events=BOUND_EVENTS,
        finished=5_000_000,
        finished_factor=10,
        reaped=1_000_000,
        window=30,
    ),
}

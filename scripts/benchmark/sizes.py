"""How much of everything. Most bounds are meant at the sizes of the default run, too; some only at the full ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

STALE_OF_THE_BOUND = 20_000
RUNNING_OF_THE_BOUND = 100_000
EVENTS_OF_THE_BOUND = 190


def _size(default: int, what: str, least: int = 1) -> Any:
    return field(default=default, metadata={"help": what, "least": least})


@dataclass(frozen=True, slots=True)
class Sizes:
    """The default run."""

    stale: int = _size(STALE_OF_THE_BOUND, "reap: stale jobs; twice as many live ones run beside them")
    rounds: int = _size(5, "reap and idle: how often each way is measured")
    running: int = _size(RUNNING_OF_THE_BOUND, "idle: running jobs, all past their timeout and alive")
    events: int = _size(19, "idle: events of each running job")
    finished: int = _size(500_000, "idle: finished jobs in the same table")
    finished_factor: int = _size(2, "idle: how many times as many in the second database")
    reaped: int = _size(200_000, "memory: jobs reaped in one sweep")
    window: int = _size(15, "daemon: seconds between two sweeps in which its CPU time is taken", least=2)


PRESETS: Mapping[str, Sizes] = {
    "default": Sizes(),
    "quick": replace(
        Sizes(), rounds=3, stale=5_000, running=20_000, events=5, finished=50_000, reaped=20_000, window=4
    ),
    "full": replace(
        Sizes(),
        rounds=9,
        events=EVENTS_OF_THE_BOUND,
        finished=5_000_000,
        finished_factor=10,
        reaped=1_000_000,
        window=30,
    ),
}

"""Whether a sweep that reaps very many jobs stays as small, and as fast, as it began."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmark.figures import MIB, Figure, Measured, shown
from benchmark.scene import forgetful, load
from benchmark.sizes import Sizes
from benchmark.sweeping import Sweeper
from reaper.dev.postgres import Embedded

_DATABASE, _FIRST = "weigh", "weigh_first"
_FIRST_REAPED = 2_000


def measure(server: Embedded, sizes: Sizes) -> Measured:
    forgetful(server)
    first = load(server, _FIRST, stale=_FIRST_REAPED, live=0, events=1)
    many = load(server, _DATABASE, stale=sizes.reaped, live=0, events=1)
    # A process of its own, which has done nothing else.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        idle, peak, ends = child.submit(_sweep, first, many, sizes.reaped).result()
    server.drop_database(_FIRST)
    server.drop_database(_DATABASE)
    fifth = max(1, (len(ends) - 1) // 5)
    begun, ended = ends[fifth] - ends[0], ends[-1] - ends[-1 - fifth]
    figures = [
        Figure(
            "memory.growth",
            f"memory while reaping {sizes.reaped:,} jobs, above idle",
            (peak - idle) / MIB,
            "MiB",
            bound=30,
            note=f"{idle / MIB:.1f} MiB idle, {peak / MIB:.1f} MiB at the peak",
        ),
        Figure(
            "memory.slowdown",
            "the last fifth of their batches, against the first",
            ended / begun,
            "×",
            note=f"{shown(ended, 's')} against {shown(begun, 's')}",
        ),
    ]
    raw = {
        "reaped": sizes.reaped,
        "idle_bytes": idle,
        "peak_bytes": peak,
        "first_seconds": begun,
        "last_seconds": ended,
    }
    return Measured(figures, raw)


def _sweep(first: str, many: str, count: int) -> tuple[int, int, list[float]]:
    """Resident bytes after a first, small sweep; the most there were until the end of the large one; its batches."""
    Sweeper(first).sweep(_FIRST_REAPED)
    idle = _resident("VmRSS")
    sweeper = Sweeper(many)
    sweeper.sweep(count)
    return idle, _resident("VmHWM"), sweeper.batches.ends


def _resident(what: str) -> int:
    """Of this process, as Linux counts. getrusage would not do: its peak is inherited from the parent."""
    found = re.search(rf"^{what}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024

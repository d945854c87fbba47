"""Memory growth and slowdown of a sweep that reaps very many jobs."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmark.fixtures import create_database, use_loading_settings
from benchmark.report import MIB, Figure, Measured, format_value
from benchmark.sizes import Sizes
from benchmark.sweeper import Sweeper
from reaper.dev.postgres import PrivatePostgreSQL

_DATABASE, _FIRST = "memory", "memory_first"
_FIRST_REAPED = 2_000


def measure(server: PrivatePostgreSQL, sizes: Sizes) -> Measured:
    use_loading_settings(server)
    first = create_database(server, _FIRST, stale=_FIRST_REAPED, live=0, events=1)
    many = create_database(server, _DATABASE, stale=sizes.reaped, live=0, events=1)
    # In a new process: its memory must not include anything else.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        idle, peak, ends = child.submit(_sweep, first, many, sizes.reaped).result()
    server.drop_database(_FIRST)
    server.drop_database(_DATABASE)
    fifth = max(1, (len(ends) - 1) // 5)
    first_seconds, last_seconds = ends[fifth] - ends[0], ends[-1] - ends[-1 - fifth]
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
            "duration of the last fifth of the batches, against the first fifth",
            last_seconds / first_seconds,
            "×",
            note=f"{format_value(last_seconds, 's')} against {format_value(first_seconds, 's')}",
        ),
    ]
    raw = {
        "reaped": sizes.reaped,
        "idle_bytes": idle,
        "peak_bytes": peak,
        "first_seconds": first_seconds,
        "last_seconds": last_seconds,
    }
    return Measured(figures, raw)


def _sweep(first: str, many: str, count: int) -> tuple[int, int, list[float]]:
    """Resident bytes after a small first sweep; peak resident bytes of the large one; the end of each batch."""
    Sweeper(first).sweep(_FIRST_REAPED)
    idle = _resident("VmRSS")
    sweeper = Sweeper(many)
    sweeper.sweep(count)
    return idle, _resident("VmHWM"), sweeper.batches.ends


def _resident(key: str) -> int:
    """A memory value of this process from /proc, in bytes. The peak of getrusage would be inherited from the parent."""
    match = re.search(rf"^{key}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024

"""Whether a flood of HTTP clients delays the sweeps: the same daemon with and without it, in turns."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.daemon import Daemon, running
from benchmark.figures import Figure, Invalid, Measured, against, alternate, ratio
from benchmark.scene import durable, forgetful, load
from benchmark.sizes import RUNNING_OF_THE_BOUND, Sizes
from reaper.dev.postgres import Embedded

PATHS = ("/", "/api/jobs", "/metrics", "/live")
"""What the clients ask for, in turns."""
_CLIENTS = 200
_SCRIPT = Path(__file__).with_name("flood_clients.py")
_DATABASE = "flood"
_SWEEPS = 4
_SETTLED_SECONDS = 1.0
_MOST_OF_A_CORE = 0.15
_TOLD = re.compile(r"^reaper_sweep_duration_seconds_(sum|count)\{[^}]*\} (\S+)$", re.MULTILINE)


def measure(server: Embedded, sizes: Sizes) -> Measured:
    forgetful(server)
    url = load(server, _DATABASE, stale=0, live=sizes.running, events=sizes.events)
    durable(server)
    with tempfile.TemporaryDirectory(prefix="reaper-bench-") as folder, running(Path(folder), url) as daemon:
        daemon.sweep(_SWEEPS)
        floods: list[dict[str, Any]] = []
        quiet, flooded = alternate(
            2 * sizes.rounds + 1, lambda: _seconds_of_a_sweep(daemon), lambda: _in_a_flood(daemon, floods)
        )
    server.drop_database(_DATABASE)
    raw = {"clients": _CLIENTS, "paths": PATHS, "quiet_seconds": quiet, "flooded_seconds": flooded, "floods": floods}
    answers = median(flood["answers_per_second"] for flood in floods)
    figure = Figure(
        "flood.ratio",
        f"a sweep while {_CLIENTS} HTTP clients ask as fast as they can, against one while nobody does",
        ratio(flooded, quiet),
        "×",
        bound=1.10,
        at_size=sizes.running >= RUNNING_OF_THE_BOUND,
        note=f"{against(flooded, quiet)}; {answers:.0f} answers a second",
    )
    return Measured([figure], raw)


def _in_a_flood(daemon: Daemon, floods: list[dict[str, Any]]) -> float:
    with _flood(daemon.port, floods):
        # What was saved up while nobody asked is used up first.
        time.sleep(_SETTLED_SECONDS)
        before, begun = daemon.cpu(), time.perf_counter()
        seconds = _seconds_of_a_sweep(daemon)
        used = (daemon.cpu() - before) / (time.perf_counter() - begun)
    floods[-1]["daemon_cores"] = used
    return seconds


def _seconds_of_a_sweep(daemon: Daemon) -> float:
    """The mean of some."""
    seconds, count = _told(daemon)
    now = seconds, count
    while now[1] < count + _SWEEPS:
        time.sleep(0.5)
        now = _told(daemon)
    return (now[0] - seconds) / (now[1] - count)


def _told(daemon: Daemon) -> tuple[float, float]:
    found = dict(_TOLD.findall(daemon.metrics()))
    return float(found["sum"]), float(found["count"])


@contextmanager
def _flood(port: int, floods: list[dict[str, Any]]) -> Iterator[None]:
    """Raises Invalid when the clients took so much of the machine that it was they who were in the way."""
    words = [sys.executable, str(_SCRIPT), str(port), str(_CLIENTS), *PATHS]
    begun = time.perf_counter()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as clients:
        try:
            yield
            seen, _ = clients.communicate(b"", timeout=30)
        finally:
            clients.kill()
    taken, flood = time.perf_counter() - begun, json.loads(seen)
    answers = sum(count for status, count in flood.items() if status.isdecimal())
    if not answers or flood["cpu_seconds"] > _MOST_OF_A_CORE * taken:
        raise Invalid(f"this was no flood that says anything about the daemon: {flood} in {taken:.1f} s")
    floods.append({**flood, "seconds": taken, "answers_per_second": answers / taken})

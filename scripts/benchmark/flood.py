"""Whether many HTTP clients slow down the sweeps: the same daemon with and without load, interleaved."""

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
from benchmark.fixtures import create_database, use_loading_settings, use_measuring_settings
from benchmark.report import Figure, InvalidMeasurement, Measured, interleave, median_ratio, medians_and_spread
from benchmark.sizes import BOUND_RUNNING, Sizes
from reaper.dev.postgres import PrivatePostgreSQL

PATHS = ("/", "/api/jobs", "/metrics", "/live")
"""The paths that the clients request, round robin."""
_CLIENTS = 200
_SCRIPT = Path(__file__).with_name("load_generator.py")
_DATABASE = "flood"
_SWEEPS = 4
_SETTLE_SECONDS = 1.0
_MAX_CLIENT_CORES = 0.15
_SWEEP_DURATION = re.compile(r"^reaper_sweep_duration_seconds_(sum|count)\{[^}]*\} (\S+)$", re.MULTILINE)


def measure(server: PrivatePostgreSQL, sizes: Sizes) -> Measured:
    use_loading_settings(server)
    url = create_database(server, _DATABASE, stale=0, live=sizes.running, events=sizes.events)
    use_measuring_settings(server)
    with tempfile.TemporaryDirectory(prefix="reaper-bench-") as folder, running(Path(folder), url) as daemon:
        daemon.wait_for_sweeps(_SWEEPS)
        floods: list[dict[str, Any]] = []
        quiet, flooded = interleave(
            2 * sizes.rounds + 1,
            lambda: _mean_sweep_seconds(daemon),
            lambda: _loaded_sweep_seconds(daemon, floods),
        )
    server.drop_database(_DATABASE)
    raw = {"clients": _CLIENTS, "paths": PATHS, "quiet_seconds": quiet, "flooded_seconds": flooded, "floods": floods}
    answers = median(flood["answers_per_second"] for flood in floods)
    figure = Figure(
        "flood.ratio",
        f"a sweep while {_CLIENTS} HTTP clients send requests as fast as they can, against one without load",
        median_ratio(flooded, quiet),
        "×",
        bound=1.10,
        at_size=sizes.running >= BOUND_RUNNING,
        note=f"{medians_and_spread(flooded, quiet)}; {answers:.0f} answers a second",
    )
    return Measured([figure], raw)


def _loaded_sweep_seconds(daemon: Daemon, floods: list[dict[str, Any]]) -> float:
    with _flood(daemon.port, floods):
        # Rate limits that refilled during the quiet rounds are used up before the measurement.
        time.sleep(_SETTLE_SECONDS)
        cpu_before, started = daemon.cpu(), time.perf_counter()
        seconds = _mean_sweep_seconds(daemon)
        cores = (daemon.cpu() - cpu_before) / (time.perf_counter() - started)
    floods[-1]["daemon_cores"] = cores
    return seconds


def _mean_sweep_seconds(daemon: Daemon) -> float:
    """The mean duration of the next sweeps, at least `_SWEEPS` of them."""
    seconds_before, count_before = _sweep_durations(daemon)
    seconds, count = seconds_before, count_before
    while count < count_before + _SWEEPS:
        time.sleep(0.5)
        seconds, count = _sweep_durations(daemon)
    return (seconds - seconds_before) / (count - count_before)


def _sweep_durations(daemon: Daemon) -> tuple[float, float]:
    """Sum (seconds) and count of the sweeps so far, from the daemon's metrics."""
    samples = dict(_SWEEP_DURATION.findall(daemon.metrics()))
    return float(samples["sum"]), float(samples["count"])


@contextmanager
def _flood(port: int, floods: list[dict[str, Any]]) -> Iterator[None]:
    """HTTP load during the block. Raises InvalidMeasurement when the load generator itself used too much CPU time."""
    command = [sys.executable, str(_SCRIPT), str(port), str(_CLIENTS), *PATHS]
    started = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as clients:
        try:
            yield
            output, _ = clients.communicate(b"", timeout=30)
        finally:
            clients.kill()
    seconds, flood = time.perf_counter() - started, json.loads(output)
    answers = sum(count for status, count in flood.items() if status.isdecimal())
    if not answers or flood["cpu_seconds"] > _MAX_CLIENT_CORES * seconds:
        raise InvalidMeasurement(
            f"the load generator got no response or used too much CPU time: {flood} in {seconds:.1f} s"
        )
    floods.append({**flood, "seconds": seconds, "answers_per_second": answers / seconds})

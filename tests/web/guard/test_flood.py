"""A flood of HTTP clients, as a real daemon with much to do meets it: its sweeps are not delayed.

The clients are one process that takes hardly any processor time (which is checked), and each phase with them is
compared with one without: what is left is what the daemon does with them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
import pytest

from tests.support.daemons import PROJECT, Daemon, fetch
from tests.support.protea import Protea

CLIENTS = 200
RUNNING = 60_000
SWEEPS = 3
PAIRS = 3
PATHS = ("/", "/api/jobs", "/metrics", "/live")
PROBES = ("/live", "/ready", "/metrics")


@dataclass
class Flood:
    """What the clients saw, once it is over."""

    seconds: float = 0
    seen: dict[str, float] = field(default_factory=dict)

    @property
    def cores(self) -> float:
        """Of the machine, by the clients themselves."""
        return self.seen["cpu_seconds"] / self.seconds


@contextmanager
def flood(port: int, paths: tuple[str, ...] = PATHS) -> Iterator[Flood]:
    script, begun, found = PROJECT / "scripts" / "benchmark" / "load_generator.py", time.monotonic(), Flood()
    words = [sys.executable, str(script), str(port), str(CLIENTS), *paths]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield found
            seen, _ = process.communicate(b"", timeout=30)
        finally:
            process.kill()
    found.seconds, found.seen = time.monotonic() - begun, json.loads(seen)


def sweeps(daemon: Daemon) -> tuple[float, float]:
    """Seconds in sweeps so far, and how many there were."""
    found = daemon.metrics
    return found.total("reaper_sweep_duration_seconds_sum"), found.total("reaper_sweep_duration_seconds_count")


def seconds_of_a_sweep(daemon: Daemon) -> float:
    before = sweeps(daemon)
    daemon.sweeps_on(SWEEPS, seconds=60)
    after = sweeps(daemon)
    return (after[0] - before[0]) / (after[1] - before[1])


@pytest.fixture
def daemon(protea: Protea, tmp_path: Path) -> Iterator[Daemon]:
    """One whose sweeps take a while: many jobs run, and all of them are past their timeout and alive."""
    connection = protea.connection
    connection.execute(
        "INSERT INTO job (operation, queue_name, status, created_at, started_at)"
        " SELECT 'embed', 'q', 'running', now() - interval '8 h', now() - interval '8 h' FROM generate_series(1, %s)",
        [RUNNING],
    )
    for _ in range(2):
        connection.execute("INSERT INTO job_event (job_id, ts, event, fields) SELECT id, now(), 'x', '{}' FROM job")
    connection.execute("VACUUM ANALYZE")
    with Daemon(tmp_path, database_url=protea.url) as daemon:
        daemon.comes_up().sweeps_on(2, seconds=60)
        yield daemon


@pytest.mark.thorough
def test_flood_does_not_delay_the_sweeps_and_probes_are_answered_in_it(daemon: Daemon) -> None:
    process, ratios, cores, waits = psutil.Process(daemon.process.pid), list[float](), list[float](), list[float]()
    for _ in range(PAIRS):
        quiet = seconds_of_a_sweep(daemon)
        with flood(daemon.port) as met:
            time.sleep(1)  # the budget that was saved up before the flood is used up first
            before, begun = process.cpu_times(), time.monotonic()
            ratios.append(seconds_of_a_sweep(daemon) / quiet)
            now = process.cpu_times()
            cores.append((now.user + now.system - before.user - before.system) / (time.monotonic() - begun))
            waits += [wait(daemon.port, path) for path in PROBES]
        assert met.seen.get("200", 0) > 10, "it was answered"
        assert met.seen.get("broken", 0) == 0, "no client was turned away"
        assert met.cores < 0.15, "the clients themselves are not what slows the machine"
    print(f"ratios {sorted(ratios)}, cores {sorted(cores)}, longest wait {max(waits):.2f} s, last flood {met.seen}")
    # The benchmark has the bound, on a quiet machine. Without guards it is three to four times as slow here.
    assert median(ratios) < 1.6
    # This says the same of the daemon alone, whatever else the machine does. Without guards it takes 0.4 of a core.
    assert median(cores) < 0.25
    assert max(waits) < 5


def wait(port: int, path: str) -> float:
    """Seconds until a probe is answered."""
    begun = time.monotonic()
    assert fetch(port, path)[0] == 200
    return time.monotonic() - begun


@pytest.mark.thorough  # on a busy machine sweeps are late, which /ready says
@pytest.mark.parametrize("path", ["/ready", "/live", "/metrics"])
def test_flood_of_one_probe_starves_neither_it_nor_the_others(protea: Protea, tmp_path: Path, path: str) -> None:
    with Daemon(tmp_path, database_url=protea.url) as daemon:
        daemon.comes_up().sweeps_on()
        process = psutil.Process(daemon.process.pid)
        with flood(daemon.port, (path,)) as met:
            time.sleep(1)
            before, begun = process.cpu_times(), time.monotonic()
            for each in (*PROBES, path, path):
                assert wait(daemon.port, each) < 5
            time.sleep(max(0, begun + 3 - time.monotonic()))
            now = process.cpu_times()
            cores = (now.user + now.system - before.user - before.system) / (time.monotonic() - begun)
        assert met.seen.keys() == {"200", "cpu_seconds"}
        assert cores < 0.5


def test_daemon_ends_in_time_during_a_flood(protea: Protea, tmp_path: Path) -> None:
    with Daemon(tmp_path, database_url=protea.url) as daemon:
        daemon.comes_up().sweeps_on()
        with flood(daemon.port):
            time.sleep(1)
            status, seconds = daemon.stop()
        assert status == 0
        assert seconds < 5
        assert daemon.log[-1]["event"] == "Reaper has stopped."

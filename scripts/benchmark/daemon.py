"""Memory and CPU time of an idle daemon."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import psutil

from benchmark.fixtures import create_database, use_loading_settings
from benchmark.report import MIB, Figure, InvalidMeasurement, Measured
from benchmark.sizes import Sizes
from reaper.dev.postgres import PrivatePostgreSQL

PROJECT = Path(__file__).parents[2]
_DATABASE = "daemon"
_SWEEPS = 4
_STALE = 2_000
_SETTLE_SECONDS = 1.5
_TIMEOUT_SECONDS = 30.0
_SWEEPS_TOTAL = re.compile(r'^reaper_sweeps_total\{outcome="done",source="[^"]+"\} (\S+)$', re.MULTILINE)


def measure(server: PrivatePostgreSQL, sizes: Sizes) -> Measured:
    use_loading_settings(server)
    url = create_database(server, _DATABASE, stale=_STALE, live=2 * _STALE, events=5)
    with tempfile.TemporaryDirectory(prefix="reaper-bench-") as folder, running(Path(folder), url) as daemon:
        daemon.wait_for_sweeps(_SWEEPS)
        daemon.use_default_interval()
        cpu_seconds, wall_seconds = daemon.cpu_over(sizes.window)
        resident = daemon.resident()
    server.drop_database(_DATABASE)
    figures = [
        Figure(
            "daemon.resident",
            "the daemon, idle: memory",
            resident / MIB,
            "MiB",
            bound=110,
            note=f"after {_SWEEPS} sweeps and {_STALE:,} reaps, scraped by HTTP",
        ),
        Figure(
            "daemon.cpu",
            "the daemon, idle: CPU time between sweeps, of one core",
            100 * cpu_seconds / wall_seconds,
            "%",
            bound=0.5,
            note=f"{cpu_seconds * 1000:.0f} ms in {wall_seconds:.0f} s",
        ),
    ]
    return Measured(figures, {"resident_bytes": resident, "cpu_seconds": cpu_seconds, "window_seconds": wall_seconds})


@contextmanager
def running(folder: Path, url: str) -> Iterator[Daemon]:
    """A running daemon. It is stopped at the end of the block."""
    daemon = Daemon(folder, url)
    try:
        yield daemon
    finally:
        daemon.process.terminate()
        daemon.process.wait(_TIMEOUT_SECONDS)


class Daemon:
    """A `reaper run` process. It starts with an interval of 1 s; `use_default_interval` switches to the default."""

    def __init__(self, folder: Path, url: str) -> None:
        self._log, self._config, self.port = folder / "stderr.log", folder / "reaper.toml", _free_port()
        self._metrics = f"http://127.0.0.1:{self.port}/metrics"
        self._configure('interval_seconds = "1s"')
        settings = {
            "PYTHONPATH": str(PROJECT),
            "REAPER_CONFIG": str(self._config),
            "REAPER_DATABASE_URL": url,
            "REAPER_HTTP_PORT": str(self.port),
            "REAPER_RESTART_GRACE": "0",
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REAPER_", "PROTEA_"))}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reaper", "run"], cwd=folder, env={**inherited, **settings}, stderr=log
            )
        self._stats = psutil.Process(self.process.pid)

    def wait_for_sweeps(self, times: int) -> None:
        """Wait until the metrics show that many completed sweeps."""

        def swept() -> bool:
            try:
                match = _SWEEPS_TOTAL.search(self.metrics())
            except OSError:
                return False
            return match is not None and float(match[1]) >= times

        self._wait_until(swept, f"{times} sweeps")

    def metrics(self) -> str:
        """The text of /metrics. Raises OSError when the daemon does not answer."""
        with build_opener(ProxyHandler({})).open(self._metrics, timeout=15) as answer:
            return str(answer.read().decode())

    def use_default_interval(self) -> None:
        """Reload with the default interval and wait for the sweep that follows a reload."""
        self._configure("")
        self.process.send_signal(signal.SIGHUP)
        self._wait_until(lambda: "has a new configuration" in self._log.read_text(), "a new configuration")
        time.sleep(_SETTLE_SECONDS)

    def cpu_over(self, seconds: float) -> tuple[float, float]:
        """Wait `seconds`. Returns the CPU time used and the wall-clock time that passed, both in seconds."""
        started, cpu_before = time.perf_counter(), self.cpu()
        time.sleep(seconds)
        return self.cpu() - cpu_before, time.perf_counter() - started

    def resident(self) -> int:
        """Resident memory in bytes."""
        return int(self._stats.memory_info().rss)

    def cpu(self) -> float:
        """CPU time so far, in seconds."""
        times = self._stats.cpu_times()
        return float(times.user + times.system)

    def _configure(self, line: str) -> None:
        self._config.write_text(f"{line}\n")

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise InvalidMeasurement(
                    f"the daemon ended, or did not reach {what} within {_TIMEOUT_SECONDS:.0f} s; "
                    f"the end of its log: {self._log.read_text()[-2000:]}"
                )
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

"""What the daemon takes while it has nothing to do."""

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

from benchmark.figures import MIB, Figure, Invalid, Measured
from benchmark.scene import forgetful, load
from benchmark.sizes import Sizes
from reaper.dev.postgres import Embedded

PROJECT = Path(__file__).parents[2]
_DATABASE = "daemon"
_SWEEPS = 4
_STALE = 2_000
_SETTLED_SECONDS = 1.5
_PATIENCE_SECONDS = 30.0
_SWEPT = re.compile(r'^reaper_sweeps_total\{outcome="done",source="[^"]+"\} (\S+)$', re.MULTILINE)


def measure(server: Embedded, sizes: Sizes) -> Measured:
    forgetful(server)
    url = load(server, _DATABASE, stale=_STALE, live=2 * _STALE, events=5)
    with tempfile.TemporaryDirectory(prefix="reaper-bench-") as folder, running(Path(folder), url) as daemon:
        daemon.sweep(_SWEEPS)
        daemon.rest()
        used, taken = daemon.used(sizes.window)
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
            "the daemon, idle: processor time between sweeps, of one core",
            100 * used / taken,
            "%",
            bound=0.5,
            note=f"{used * 1000:.0f} ms in {taken:.0f} s",
        ),
    ]
    return Measured(figures, {"resident_bytes": resident, "cpu_seconds": used, "window_seconds": taken})


@contextmanager
def running(folder: Path, url: str) -> Iterator[Daemon]:
    """Stopped at the end."""
    daemon = Daemon(folder, url)
    try:
        yield daemon
    finally:
        daemon.process.terminate()
        daemon.process.wait(_PATIENCE_SECONDS)


class Daemon:
    """`reaper run`, first with an interval of a second and then with its default one."""

    def __init__(self, folder: Path, url: str) -> None:
        self._log, self._config, self.port = folder / "stderr.log", folder / "reaper.toml", _free_port()
        self._metrics = f"http://127.0.0.1:{self.port}/metrics"
        self._configure('interval_seconds = "1s"')
        given = {
            "PYTHONPATH": str(PROJECT),
            "REAPER_CONFIG": str(self._config),
            "REAPER_DATABASE_URL": url,
            "REAPER_HTTP_PORT": str(self.port),
            "REAPER_RESTART_GRACE": "0",
        }
        bare = {name: value for name, value in os.environ.items() if not name.startswith(("REAPER_", "PROTEA_"))}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reaper", "run"], cwd=folder, env={**bare, **given}, stderr=log
            )
        self._watched = psutil.Process(self.process.pid)

    def sweep(self, times: int) -> None:
        """Wait until it has swept so often, as Prometheus would see it."""

        def swept() -> bool:
            try:
                found = _SWEPT.search(self.metrics())
            except OSError:
                return False
            return found is not None and float(found[1]) >= times

        self._until(swept, f"{times} sweeps")

    def metrics(self) -> str:
        """What Prometheus would scrape now. Raises OSError when nobody answers."""
        with build_opener(ProxyHandler({})).open(self._metrics, timeout=15) as answer:
            return str(answer.read().decode())

    def rest(self) -> None:
        """Go on with the default interval, whose first sweep comes at once; wait until that is over."""
        self._configure("")
        self.process.send_signal(signal.SIGHUP)
        self._until(lambda: "has a new configuration" in self._log.read_text(), "a new configuration")
        time.sleep(_SETTLED_SECONDS)

    def used(self, seconds: float) -> tuple[float, float]:
        """Seconds of processor time in so many seconds of wall clock, and those."""
        begun, before = time.perf_counter(), self.cpu()
        time.sleep(seconds)
        return self.cpu() - before, time.perf_counter() - begun

    def resident(self) -> int:
        return int(self._watched.memory_info().rss)

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        times = self._watched.cpu_times()
        return float(times.user + times.system)

    def _configure(self, line: str) -> None:
        self._config.write_text(f"{line}\n")

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not holds():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Invalid(f"waited in vain for {what} of the daemon: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

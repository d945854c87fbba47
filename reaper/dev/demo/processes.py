"""The processes of the demo: workers and daemon."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from reaper.dev.demo.scenarios import INTERVAL, SCENARIOS, STALL, TIMEOUT, Scenario
from reaper.dev.postgres import libpq
from reaper.errors import ReaperError

DAEMON = [sys.executable, "-m", "reaper", "run"]

_MOST_STARTS = 3
_PATIENCE = 10.0
"""Seconds that a process gets to end after SIGTERM."""
_SETTINGS = (
    "REAPER_",
    "PROTEA_TUNING__",
    "CREDENTIALS_DIRECTORY",
    "DATABASE_URL",
    "CELERY_BROKER_URL",
    "REDIS_URL",
)


class DemoError(ReaperError):
    """The demo cannot go on: one of its own processes failed."""


class DemoWorker:
    """One worker process and its job."""

    def __init__(self, part: Scenario, job: str) -> None:
        self.part, self.job = part, job
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, url: str, output: Path) -> None:
        words = [libpq(url), self.job, self.part.behaviour, str(self.part.seconds)]
        self.process = _spawn([sys.executable, "-m", "reaper.dev.demo.worker", *words], output, stdin=subprocess.PIPE)

    def kill_when_due(self, age: float) -> None:
        if (
            self.part.killed_at_age is not None
            and age >= self.part.killed_at_age
            and self.process
            and self.process.poll() is None
        ):
            self.process.kill()

    @property
    def state(self) -> str:
        """The state of the process, as the operating system reports it."""
        if self.process is None:
            return "waiting"
        status = self.process.poll()
        if status is None:
            return "alive"
        return "ended" if status == 0 else "killed" if status == -signal.SIGKILL else f"failed ({status})"

    @property
    def finished(self) -> bool:
        """Whether the worker will do nothing more."""
        return self.state not in ("waiting", "alive") or (self.part.behaviour == "hang" and self.process is not None)


class DemoProcesses:
    """The workers and the daemon on one database. `close` ends all of them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.workers = _queue_jobs(url)
        self.daemon_log = folder / "reaper.log"
        self._worker_log = folder / "workers.log"
        self._starts = 0
        self._daemon, self._guard = self._start_daemon()
        self._created_at = time.monotonic()
        self._daemon_started: float | None = None

    @property
    def address(self) -> str:
        """Of the daemon's page."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._created_at

    def advance(self, ages: Mapping[str, float]) -> None:
        """Start and kill the workers whose time has come. `ages`: seconds of each job's age, by scenario.

        No worker starts before the daemon has. Raises DemoError when a process ended that must not.
        """
        if self._daemon_started is None and self.daemon_log.stat().st_size:
            self._daemon_started = self.seconds
        for actor in self.workers:
            if actor.process is None and self._is_due(actor.part):
                actor.start(self.url, self._worker_log)
            actor.kill_when_due(ages.get(actor.part.name, 0.0))
            if actor.state.startswith("failed"):
                raise DemoError(f"worker {actor.part.name!r} {actor.state}: {_last_lines(self._worker_log)}")
        if (status := self._daemon.poll()) is not None:
            if self._starts < _MOST_STARTS and "cannot listen" in self.daemon_log.read_text(errors="replace"):
                # Another program has taken the port that was free.
                self._end(self._guard)
                self.daemon_log.write_text("")
                self._daemon_started = None
                self._daemon, self._guard = self._start_daemon()
                return
            raise DemoError(f"the daemon ended ({status}): {_last_lines(self.daemon_log)}")

    def _is_due(self, part: Scenario) -> bool:
        return self._daemon_started is not None and self.seconds >= self._daemon_started + part.starts_after

    def close(self) -> None:
        self._end(self._guard, self._daemon, *(actor.process for actor in self.workers if actor.process))

    @staticmethod
    def _end(*processes: subprocess.Popen[bytes]) -> None:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin:
                process.stdin.close()

    def _start_daemon(self) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
        """The daemon, and the process that ends it with the demo."""
        self._starts += 1
        self.port = _free_port()
        # Without the settings of the user, which are for another database.
        mine = {k: v for k, v in os.environ.items() if not k.startswith(_SETTINGS)}
        no_settings = self.folder / "reaper.toml"
        no_settings.touch()
        settings = {
            "REAPER_CONFIG": str(no_settings),
            "REAPER_DATABASE_URL": self.url,
            "REAPER_INTERVAL_SECONDS": str(INTERVAL),
            "REAPER_TIMEOUT_SECONDS": str(TIMEOUT),
            "REAPER_STALL_SECONDS": str(STALL),
            "REAPER_HTTP_PORT": str(self.port),
            # The database server has just started: with grace, no job could be silent for long enough.
            "REAPER_RESTART_GRACE": "0",
            "REAPER_LOG_FORMAT": "json",
        }
        daemon = _spawn(DAEMON, self.daemon_log, env=mine | settings)
        return daemon, _start_guard(daemon)


@contextmanager
def run_processes(url: str, folder: Path) -> Iterator[DemoProcesses]:
    opened = DemoProcesses(url, folder)
    try:
        yield opened
    finally:
        opened.close()


def _free_port() -> int:
    """A port that is free now: it may be taken when the daemon asks for it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _queue_jobs(url: str) -> list[DemoWorker]:
    """Insert one queued job for each scenario; one without a job reports on the job of its parent."""
    jobs: dict[str, str] = {}
    with psycopg.connect(libpq(url)) as connection:
        for part in SCENARIOS:
            parent = jobs[part.parent] if part.parent else None
            if not part.has_job and parent:
                jobs[part.name] = parent
                continue
            row = connection.execute(
                "INSERT INTO job (operation, queue_name, payload, parent_job_id)"
                " VALUES (%s, 'demo', %s, %s) RETURNING id::text",
                [part.operation, Jsonb({"part": part.name}), parent],
            ).fetchone()
            jobs[part.name] = row[0] if row else ""
    return [DemoWorker(part, jobs[part.name]) for part in SCENARIOS]


def _spawn(command: list[str], output: Path, **options: Any) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C reaches only the demo, which then ends its processes."""
    with output.open("ab") as sink:
        return subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True, **options)  # noqa: S603


def _start_guard(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """A process that ends `process` when the demo dies: the kernel then closes the pipe to its standard input."""
    script = ["/bin/sh", "-c", 'read -r _; kill "$1"', "sh", str(process.pid)]
    return subprocess.Popen(script, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603


def _last_lines(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-3:])

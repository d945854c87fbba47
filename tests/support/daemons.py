"""A daemon as its operator meets it: a process, its log, its HTTP port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from tests.support.programs import PROJECT as PROJECT
from tests.support.programs import Process, start
from tests.support.waiting import DEADLINE_SECONDS, wait_until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(port: int, path: str) -> tuple[int, str]:
    """Status and body. Raises OSError when the server does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Samples:
    """What one scrape found."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        return self._values.get((name, frozenset(labels.items())))

    def total(self, name: str, **labels: str) -> float:
        """The sum over all labels that are not given."""
        wanted = labels.items()
        return sum(value for (found, has), value in self._values.items() if found == name and wanted <= has)

    def about(self, source: str) -> set[str]:
        """The names of all samples with this source."""
        return {name for name, labels in self._values if ("source", source) in labels}


class Daemon:
    """`reaper run` in a folder of its own, with nothing in its environment but `settings`.

    It looks every second, and trusts silence across the restart of the server: the tests' own has just begun.
    """

    def __init__(
        self,
        folder: Path,
        config: str | None = None,
        *,
        extra_path: Path | None = None,
        executed: bool = False,
        **settings: object,
    ) -> None:
        self.folder, self.port = folder, free_port()
        self._executed = executed
        self.config = folder / "reaper.toml"
        self.stderr = folder / f"stderr-{self.port}.log"
        given = {"interval_seconds": 1, "restart_grace": 0, "http_port": self.port, **settings}
        if config is not None:
            self.configure(config)
            # What stands in the environment could not be changed by the file.
            given = {"config": self.config, "http_port": self.port, **settings}
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REAPER_")},
            "PYTHONPATH": os.pathsep.join(str(path) for path in (extra_path, PROJECT) if path),
            "PYTHONDONTWRITEBYTECODE": "1",
            **{name if name.isupper() else f"REAPER_{name.upper()}": str(value) for name, value in given.items()},
        }
        self.process = self._begin()

    def _begin(self) -> Process:
        with self.stderr.open("wb") as stderr:
            return start(
                "reaper",
                "run",
                environment=self._environment,
                folder=self.folder,
                stderr=stderr,
                executed=self._executed,
            )

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.stderr.read_text())
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    # --- configuration and signals ---------------------------------------------------------------------------

    def configure(self, text: str) -> None:
        """Write the configuration file, with an interval of a second and trust in silence."""
        self.config.write_text(f'interval_seconds = "1s"\nrestart_grace = 0\n{text}')

    def reload(self, text: str) -> None:
        """Write a new configuration, and wait for the daemon's answer to it."""
        answers = len(self.answers)
        self.configure(text)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(self.answers) > answers, "an answer to SIGHUP")

    @property
    def answers(self) -> list[dict[str, Any]]:
        events = (
            "Reaper has a new configuration.",
            "Reaper refused the new configuration; the old one stays in force.",
        )
        return [line for line in self.log if line["event"] in events]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """The exit status, and the seconds that it took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(20)
        return status, time.monotonic() - begun

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It does nothing in this block, as if it had no processor: no sweep comes between two things done here."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def ends(self) -> tuple[int, str]:
        """Exit status and standard error of a daemon that ends by itself."""
        return self.process.wait(DEADLINE_SECONDS), self.stderr.read_text()

    # --- log -------------------------------------------------------------------------------------------------

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every whole line so far: each must be one JSON document."""
        whole, _, _ = self.stderr.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def said(self, event: str, **fields: object) -> list[dict[str, Any]]:
        wanted = {"event": event, **fields}.items()
        return [
            line for line in self.log if wanted <= {k: v for k, v in line.items() if k in {"event", *fields}}.items()
        ]

    def says(self, event: str, seconds: float = DEADLINE_SECONDS, **fields: object) -> dict[str, Any]:
        """Wait for the line; it is said once."""
        wait_until(lambda: self.said(event, **fields), event, seconds)
        [line] = self.said(event, **fields)
        return line

    # --- HTTP ------------------------------------------------------------------------------------------------

    def get(self, path: str) -> tuple[int, str] | None:
        """Status and body; None while the daemon does not answer."""
        try:
            return fetch(self.port, path)
        except OSError:
            return None

    def comes_up(self) -> Self:
        wait_until(lambda: self.get("/live"), "an answer over HTTP")
        return self

    @property
    def metrics(self) -> Samples:
        answer = self.get("/metrics")
        return Samples(answer[1] if answer else "")

    def value(self, name: str, source: str = "default") -> float | None:
        return self.metrics.value(name, source=source)

    def shows(self, name: str, value: float, source: str = "default", seconds: float = DEADLINE_SECONDS) -> None:
        wait_until(lambda: self.value(name, source) == value, f"{name} {value:g} of {source}", seconds)

    def sweeps(self, outcome: str = "done", source: str = "default") -> float:
        return self.metrics.value("reaper_sweeps_total", source=source, outcome=outcome) or 0

    def sweeps_on(
        self, more: int = 1, outcome: str = "done", source: str = "default", seconds: float = DEADLINE_SECONDS
    ) -> None:
        """Wait for so many more sweeps to end so."""
        goal = self.sweeps(outcome, source) + more
        wait_until(lambda: self.sweeps(outcome, source) >= goal, f"{more} more sweeps {outcome} of {source}", seconds)

    @property
    def ready(self) -> tuple[bool, dict[str, list[str]]]:
        """Whether it says that it is ready, and for each source what is in the way."""
        answer = self.get("/ready")
        assert answer is not None
        status, body = answer
        readiness = json.loads(body)
        assert (status == 200) is readiness["ready"]
        return readiness["ready"], {name: source["problems"] for name, source in readiness["sources"].items()}


@contextmanager
def closed(server: str, database: str) -> Iterator[None]:
    """During the block no session can connect to one database of a server: it looks unreachable."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
        try:
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')

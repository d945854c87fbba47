"""A real Prometheus and a real Alertmanager with the project's configuration, and a receiver of alerts."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.support.daemons import PROJECT, fetch, free_port
from tests.support.waiting import wait_until

RULES = PROJECT / "config" / "prometheus"
RECORDING, ALERTS = RULES / "reaper.recording.yml", RULES / "reaper.alerts.yml"
ALERTMANAGER = PROJECT / "config" / "alertmanager" / "alertmanager.yml"


def program(name: str) -> str:
    """The path of a program. Without it the test is skipped, and fails in CI."""
    if (path := shutil.which(name)) is not None:
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{name} is missing")
    pytest.skip(f"{name} is not installed")


def run_program(*words: str | Path) -> tuple[int, str]:
    """Run a program. Returns its exit status and all its output."""
    # promtool, which is written in Go, lets four times as much memory pile up before it collects: a fifth less time.
    given = {**os.environ, "GOGC": "400"}
    done = subprocess.run([str(word) for word in words], env=given, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def read(file: Path) -> Any:
    """The content of a YAML file."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))


@contextmanager
def _running(folder: Path, port: int, *words: str | Path) -> Iterator[None]:
    """A server that is ready. It is stopped at the end of the block."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([str(word) for word in words], cwd=folder, stdout=output, stderr=output)
    try:
        wait_until(lambda: _ready(port) or process.poll() is not None, f"{words[0]} is ready", 60)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(20)


def _ready(port: int) -> bool:
    try:
        return fetch(port, "/-/ready")[0] == http.client.OK
    except OSError:
        return False


class Prometheus:
    """A Prometheus that scrapes and evaluates the shipped rules every second."""

    def __init__(self, port: int) -> None:
        self._port = port

    @classmethod
    @contextmanager
    def watching(
        cls, folder: Path, targets: Mapping[str, int], alertmanager: int | None = None
    ) -> Iterator[Prometheus]:
        """`targets` maps names of scrape jobs to ports."""
        folder.mkdir()
        port = free_port()
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RECORDING), str(ALERTS)],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
                for job, target in targets.items()
            ],
        }
        if alertmanager is not None:
            target = {"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}
            config["alerting"] = {"alertmanagers": [target]}
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        words = (
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        with _running(folder, port, program("prometheus"), *words):
            yield cls(port)

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The labels and values of an instant query. Fails when Prometheus rejects the query."""
        status, body = fetch(self._port, f"/api/v1/query?{urlencode({'query': expression})}")
        answer = json.loads(body)
        assert status == http.client.OK, f"{expression}: {answer}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def rules(self) -> dict[str, tuple[str, str]]:
        """Health and last error of each rule, by name."""
        groups = json.loads(fetch(self._port, "/api/v1/rules")[1])["data"]["groups"]
        return {
            rule["name"]: (rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]
        }


@contextmanager
def alertmanager(folder: Path, receiver: int) -> Iterator[int]:
    """The port of an Alertmanager with the shipped configuration, except for receiver address and group wait."""
    folder.mkdir()
    port = free_port()
    config = read(ALERTMANAGER)
    config["route"]["group_wait"] = "0s"
    for entry in config["receivers"]:
        for hook in entry["webhook_configs"]:
            hook["url"] = hook["url"].replace("127.0.0.1:9095", f"127.0.0.1:{receiver}")
    file = folder / "alertmanager.yml"
    file.write_text(yaml.safe_dump(config))
    words = (
        f"--config.file={file}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    )
    with _running(folder, port, program("prometheus-alertmanager"), *words):
        yield port


class AlertReceiver:
    """An HTTP server that receives alerts, and stores them with the request path."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.extend((self.path, alert) for alert in body["alerts"])
                self.send_response(http.client.OK)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Suppress the access log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[AlertReceiver]:
        receiver = cls()
        thread = threading.Thread(target=receiver._server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            receiver._server.shutdown()
            thread.join()
            receiver._server.server_close()

    def alerts(self, path: str, name: str) -> list[dict[str, Any]]:
        return [alert for where, alert in list(self.received) if where == path and alert["labels"]["alertname"] == name]

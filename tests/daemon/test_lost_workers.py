"""A daemon and workers that write heartbeats: jobs of a dead one are ended within `gone_after` and one interval."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.support.daemons import Daemon
from tests.support.protea import MINUTE, Protea
from tests.support.waiting import wait_until

GONE_AFTER, INTERVAL, SLACK = 8.0, 3.0, 4.0
PROFILE = f"""
[sources.default]
profile = "held"
worker_lost = "fail"
[profiles.held]
extends = "protea"
[[profiles.held.alive]]
witness = "worker"
worker = {{ table = "worker", match = {{ id = "queue_name" }}, at = "at", gone_after = "{GONE_AFTER}s" }}
"""


@pytest.mark.thorough
def test_dead_worker_is_found_in_time_although_the_clock_of_its_host_is_behind(protea: Protea, tmp_path: Path) -> None:
    protea.connection.execute("CREATE TABLE worker (id text PRIMARY KEY, at timestamptz)")
    protea.connection.execute("INSERT INTO worker VALUES ('lives', now()), ('dies', now())")
    jobs = {name: protea.job(age=MINUTE) for name in ("lives", "dies")}
    for name, job in jobs.items():
        protea.connection.execute("UPDATE job SET queue_name = %s WHERE id = %s", (name, job))
    ended = {name: threading.Event() for name in jobs}

    def work(name: str) -> None:
        with protea.connect() as connection:
            connection.autocommit = True
            while not ended[name].wait(1):
                connection.execute("UPDATE worker SET at = now() - interval '3 days' WHERE id = %s", (name,))

    workers = {name: threading.Thread(target=work, args=(name,)) for name in jobs}
    for worker in workers.values():
        worker.start()
    try:
        with Daemon(tmp_path, PROFILE, database_url=protea.url, interval_seconds=INTERVAL) as daemon:
            daemon.comes_up()
            daemon.sweeps_on()
            ended["dies"].set()
            workers["dies"].join()
            died = time.monotonic()
            wait_until(lambda: protea.status(jobs["dies"]) == "failed", "the job of the dead worker is ended")
            found = time.monotonic() - died
    finally:
        for end in ended.values():
            end.set()
        for worker in workers.values():
            worker.join()
    assert protea.row(jobs["dies"])["error_code"] == "WorkerLost"
    assert protea.status(jobs["lives"]) == "running"
    assert found <= GONE_AFTER + INTERVAL + SLACK

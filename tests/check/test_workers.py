"""`reaper check` inspects Celery's workers, on a real Redis with real workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reaper.cli import exit_codes
from tests.support.brokers import PASSWORD, CeleryCluster, RedisServer
from tests.support.commands import AWAY, Reaper
from tests.support.daemons import free_port
from tests.support.worlds.vuls import VulsWorld


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vuls: VulsWorld) -> Reaper:
    monkeypatch.chdir(tmp_path)
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": vuls.database.url, "REAPER_PROFILE": "vuls"})


def of_workers(document: Any) -> list[tuple[str, str]]:
    findings = document["sources"][0]["findings"]
    return [(finding["level"], finding["message"]) for finding in findings if finding["subject"] == "Celery's workers"]


def test_unreachable_broker_is_an_error_in_one_line_without_its_password(reaper: Reaper) -> None:
    port = free_port()
    reaper.given["REAPER_BROKER_URL"] = f"redis://:geheim@127.0.0.1:{port}/0"
    document = reaper.json("check", code=exit_codes.FAILED)
    [(level, message)] = of_workers(document)
    assert level == "error" and message.startswith(f"broker 127.0.0.1:{port}: ") and "\n" not in message
    assert document["sources"][0]["findings"][0]["message"] == message, "errors come first"
    assert "error: Celery's workers: broker 127.0.0.1" in reaper("check").stdout


def test_queues_without_a_worker_and_workers_of_unnamed_queues_are_warnings(
    reaper: Reaper, redis: RedisServer, cluster: CeleryCluster
) -> None:
    reaper.given |= {"REAPER_BROKER_URL": redis.url, "REAPER_BROKER_DEADLINE_SECONDS": "3"}
    cluster.start_worker("served", "other")
    result = reaper("check", "--json", REAPER_QUEUES="served,empty")
    assert PASSWORD not in result.output and result.exit_code == 0
    missing, unnamed = of_workers(reaper.json("check", REAPER_QUEUES="served,empty"))
    assert missing[0] == unnamed[0] == "warning"
    assert "the queue empty" in missing[1] and "they serve other, which" in unnamed[1]
    assert of_workers(reaper.json("check", REAPER_QUEUES="served,other")) == []


def test_queue_that_another_source_names_gives_no_warning(
    reaper: Reaper, redis: RedisServer, cluster: CeleryCluster, vuls: VulsWorld
) -> None:
    cluster.start_worker("one", "two")
    reaper.given = {"REAPER_RESTART_GRACE": "0"}
    reaper.configure(
        f"profile = 'vuls'\nbroker_url = '{redis.url}'\n"
        f"[sources.a]\ndatabase_url = '{vuls.database.url}'\nqueues = ['one']\n"
        f"[sources.b]\ndatabase_url = '{AWAY}'\nqueues = ['two']\n"
    )
    assert of_workers(reaper.json("check", "--source", "a")) == []

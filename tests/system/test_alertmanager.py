"""Where alerts go: a real Alertmanager with the routes as they are shipped."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.monitoring import ALERTMANAGER, AlertReceiver, alertmanager, program, run_program
from tests.support.waiting import wait_until

MOST_HOURS = 5 * 24  # the default of --data.retention


@pytest.fixture
def receiver() -> Iterator[AlertReceiver]:
    with AlertReceiver.listening() as listening:
        yield listening


@pytest.fixture
def manager(receiver: AlertReceiver, tmp_path: Path) -> Iterator[int]:
    with alertmanager(tmp_path / "alertmanager", receiver.port) as port:
        yield port


def ask(port: int, method: str, path: str, body: object = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request(method, f"/api/v2/{path}", json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == http.client.OK, text
        return json.loads(text) if text else None
    finally:
        connection.close()


def alert(name: str, severity: str, **labels: str) -> dict[str, Any]:
    return {"labels": {"alertname": name, "severity": severity, "job": "reaper", **labels}, "annotations": {}}


def settled(port: int, alerts: int) -> dict[tuple[str, str | None], bool]:
    """All alerts, as soon as one of them is silenced: Alertmanager looks for what silences after it has listed them."""

    def found() -> dict[tuple[str, str | None], bool] | None:
        every = silenced(port)
        return every if len(every) == alerts and any(every.values()) else None

    return wait_until(found, f"{alerts} alerts, one of them silenced")


def silenced(port: int) -> dict[tuple[str, str | None], bool]:
    """By name and environment: whether another alert silences it."""
    return {
        (each["labels"]["alertname"], each["labels"].get("env")): bool(each["status"]["inhibitedBy"])
        for each in ask(port, "GET", "alerts")
    }


def test_alertmanager_accepts_the_configuration() -> None:
    status, said = run_program(program("amtool"), "check-config", ALERTMANAGER)
    assert (status, "SUCCESS" in said) == (0, True), said


def test_database_that_is_down_silences_its_own_consequences_and_no_other_alerts(manager: int) -> None:
    down = [alert("ReaperDatabaseDown", "page", source="default", env="staging")]
    stale = [alert("ReaperSweepStale", "page", source="default", env=env) for env in ("staging", "prod")]
    other = [alert("ReaperSweepStale", "page", source="other")]
    ask(manager, "POST", "alerts", [*down, *stale, *other])
    assert settled(manager, 4) == {
        ("ReaperDatabaseDown", "staging"): False,
        ("ReaperSweepStale", "staging"): True,
        ("ReaperSweepStale", "prod"): False,
        ("ReaperSweepStale", None): False,
    }


def test_database_that_is_down_silences_its_consequences_where_there_is_no_env_label(manager: int) -> None:
    names = ("ReaperDatabaseDown", "ReaperSweepStale")
    ask(manager, "POST", "alerts", [alert(name, "page", source="default") for name in names])
    assert settled(manager, 2) == {
        ("ReaperDatabaseDown", None): False,
        ("ReaperSweepStale", None): True,
    }


def test_server_that_takes_twenty_sources_along_is_one_page(manager: int) -> None:
    down = [alert("ReaperDatabaseDown", "page", source=f"source-{number}") for number in range(20)]
    ask(manager, "POST", "alerts", down)

    def groups() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = ask(manager, "GET", "alerts/groups")
        return found if sum(len(each["alerts"]) for each in found) == 20 else None

    [group] = wait_until(groups, "all alerts in groups")
    assert (group["receiver"]["name"], len(group["alerts"])) == ("pager", 20)


def test_repeat_intervals_are_within_the_retention_of_alertmanager() -> None:
    hours = {"h": 1, "d": 24}
    intervals = [
        line.split(":")[1].strip() for line in ALERTMANAGER.read_text().splitlines() if "repeat_interval:" in line
    ]
    assert intervals
    assert all(int(each[:-1]) * hours[each[-1]] <= MOST_HOURS for each in intervals), intervals

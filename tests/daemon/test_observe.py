"""A daemon that is to observe shows what it would do, on the page, in metrics and over HTTP, and does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from reaper.config import load
from reaper.daemon import startup_recovery
from reaper.observers.daemon_log import DaemonLog
from reaper.scheduling.scheduled_purge import ScheduledPurge
from reaper.source import SpellingDecision
from reaper.source.factory import create_source
from tests.support.api import ApiDaemon
from tests.support.protea import HOUR, Protea


def test_daemon_that_observes_shows_it_and_ends_nothing_until_it_is_asked_to_in_spite_of_it(
    protea: Protea, tmp_path: Path
) -> None:
    job, other = protea.stale(), protea.stale()
    config = f"observe = true\nbreaker_min = 1000\n[sources.default]\ndatabase_url = '{protea.url}'\n"
    with ApiDaemon(tmp_path, config, restart_grace="0") as daemon:
        daemon.has_swept("observed")
        policy = {row["name"]: row for row in daemon.api.get("/api/policy").json["settings"]}
        assert policy["sources.default.observe"]["value"] == "true"
        assert 'reaper_observed{source="default"} 1.0' in daemon.api.get("/metrics").text
        page = daemon.api.get("/").text
        assert "bserved only (observe = true" in page and 'data-act="sweep"' not in page
        shown = daemon.api.job(job).json["job"]
        assert [left["reason"] for left in shown["left"]] == ["observed"]
        for path, body in (
            ("/api/sweeps", {}),
            ("/api/executions/cleanup", {"older_than_minutes": 60}),
            (f"{daemon.api.at(job)}/fail", {"started": shown["started"], "reason": "gone"}),
        ):
            answer = daemon.api.post(path, body)
            assert (answer.status, "observed only" in answer.text) == (409, True), (path, answer.text)
        assert (protea.status(job), protea.status(other)) == ("running", "running")
        body = {"started": shown["started"], "reason": "gone", "while_observed": True}
        assert daemon.api.post(f"{daemon.api.at(job)}/fail", body).status == 200
        assert (protea.status(job), protea.status(other)) == ("failed", "running")
        body = {"older_than_minutes": 60, "while_observed": True}
        assert daemon.api.post("/api/executions/cleanup", body).json["cancelled_count"] == 1
        assert protea.status(other) == "failed"


def test_observed_source_is_not_purged_and_has_nothing_closed_at_the_start(
    protea: Protea, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(startup_recovery, "LISTEN_SECONDS", 0.1)
    job = protea.job(age=HOUR)
    done = protea.job(status="succeeded", age=90 * 24 * HOUR, finished=80 * 24 * HOUR)
    given = {"REAPER_DATABASE_URL": protea.url, "REAPER_RESTART_GRACE": "0", "REAPER_OBSERVE": "true"}
    settings = load({}, {**given, "REAPER_CLOSE_INTERRUPTED_WINDOW_SECONDS": "1d"})
    begun = startup_recovery.StartupRecovery([])
    begun.begin(settings, settings.sources["default"], SpellingDecision())
    assert begun.join(30)
    report = ScheduledPurge(create_source(settings, settings.sources["default"]), 30, 10, [DaemonLog()]).tick()
    assert report is not None and (report.outcome.value, report.found, report.purged) == ("observed", 1, 0)
    assert (protea.status(job), protea.status(done)) == ("running", "succeeded")
    lines = capsys.readouterr().out
    assert "closed no interrupted job" in lines and job in lines and "purged nothing" in lines

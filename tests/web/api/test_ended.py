"""Commands that share only the address with a daemon tell it of the jobs that they have ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.api import ApiDaemon, shared_daemon, token_file
from tests.support.commands import Reaper
from tests.support.protea import MINUTE, Protea

running, daemon, protea = shared_daemon("ended")


@pytest.fixture
def reaper(daemon: ApiDaemon, protea: Protea, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reaper:
    """On another host, as it were: with the daemon's address and a token, and without its state directory."""
    monkeypatch.chdir(tmp_path)
    return Reaper(
        tmp_path,
        {
            "REAPER_DATABASE_URL": protea.url,
            "REAPER_HTTP_PORT": str(daemon.port),
            "REAPER_HTTP_TOKEN_FILE": str(token_file(tmp_path)),
        },
    )


def test_jobs_that_a_reset_elsewhere_has_ended_are_counted_and_shown(
    daemon: ApiDaemon, protea: Protea, reaper: Reaper
) -> None:
    jobs = [protea.job(age=MINUTE, operation="run") for _ in range(2)]
    before = daemon.metrics.total("reaper_jobs_reaped_total", kind="run", reason="ManualTimeout", action="fail")
    assert reaper("reset", "--source", "default", "--confirm", "default").exit_code == 0
    after = daemon.metrics.total("reaper_jobs_reaped_total", kind="run", reason="ManualTimeout", action="fail")
    assert after - before == 2
    for job in jobs:
        ended = daemon.api.job(job).json["ended"]
        assert (ended["reason"], ended["action"]) == ("ManualTimeout", "fail")
        assert "with reaper reset (token tester)" in ended["by"]


def test_wrong_token_is_said_and_the_jobs_are_ended_all_the_same(
    daemon: ApiDaemon, protea: Protea, reaper: Reaper, tmp_path: Path
) -> None:
    job = protea.job(age=MINUTE)
    (tmp_path / "http-token").write_text("other:another-token-that-is-wrong-123456\n")
    result = reaper("fail", "--yes", job, "--reason", "test")
    assert (result.exit_code, protea.status(job)) == (0, "failed")
    assert "the jobs that are ended are missing in the daemon's metrics: " in result.stderr


def test_unknown_source_and_a_request_without_a_token_are_refused(daemon: ApiDaemon) -> None:
    told = {"source": "defautl", "sweep_id": "1", "by": "me", "counts": [], "jobs": []}
    answer = daemon.api.post("/api/ended", told)
    assert answer.status == 404 and "did you mean 'default'?" in answer.detail
    assert daemon.api.ask("POST", "/api/ended", told, token=False).status == 401
    wrong = {**told, "counts": [{"kind": None, "reason": "Whatever", "action": "fail", "jobs": 0}]}
    assert daemon.api.post("/api/ended", wrong).status == 422

"""A daemon whose configuration says that there is no source, and one whose database was never met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.api import ApiDaemon
from tests.support.commands import AWAY, Reaper
from tests.support.daemons import closed
from tests.support.protea import Protea
from tests.support.waiting import wait_until

STATE = "/api/supervisor/state"


def reaper_of(daemon: ApiDaemon) -> Reaper:
    """The command, configured as the daemon is."""
    token_file = str(daemon.folder / "http-token")
    given = {"REAPER_HTTP_PORT": str(daemon.port), "REAPER_HTTP_TOKEN_FILE": token_file}
    return Reaper(daemon.folder, {"REAPER_CONFIG": str(daemon.config), **given})


def test_daemon_without_sources_runs_and_says_that_no_schedule_is_configured(tmp_path: Path) -> None:
    with ApiDaemon(tmp_path, "sources = []\n") as daemon:
        reason = f"no schedule is configured: {daemon.config}:3: sources = []; name a source there and reload"
        for answer in (
            daemon.api.get(STATE),
            daemon.api.post("/api/supervisor/halt"),
            daemon.api.post("/api/supervisor/restart"),
        ):
            assert (answer.status, answer.detail) == (503, reason)
        assert daemon.api.get("/live").status == 200
        assert daemon.api.get("/").status == 200
        health = daemon.api.get("/api/health")
        assert (health.status, health.json["state"], health.json["sources"]) == (200, None, {})
        command = reaper_of(daemon)("state")
        assert (command.exit_code, command.stderr) == (1, f"reaper: {reason}\n")
        [line] = [line for line in daemon.log if line["event"].startswith("Reaper has no schedule")]
        assert (line["level"], line["origin"]) == ("warning", f"{daemon.config}:3")
        status, _ = daemon.stop()
        assert status == 0


def test_source_that_is_configured_later_is_swept_after_a_reload(protea: Protea, tmp_path: Path) -> None:
    job = protea.stale()
    with ApiDaemon(tmp_path, "sources = []\n") as daemon:
        daemon.reload(f'[sources.main]\ndatabase_url = "{protea.url}"\n')
        wait_until(lambda: protea.status(job) == "failed", "a sweep of the new source")
        assert daemon.api.get(STATE).json["state"] == "RUNNING"
        daemon.reload("sources = []\n")
        assert daemon.api.get(STATE).status == 503
        # A file without a source, and without the words that there is none, is still refused.
        daemon.reload("")
        assert daemon.answers[-1]["event"] == "Reaper refused the new configuration; the old one stays in force."


def test_command_that_needs_a_source_says_which_line_leaves_none(tmp_path: Path) -> None:
    reaper = Reaper(tmp_path, {})
    reaper.configure("sources = []\n")
    result = reaper("report")
    assert (result.exit_code, result.stderr) == (
        78,
        f"{tmp_path}/reaper.toml:1: sources: [] leaves no source to work on\n",
    )
    checked = reaper("config", "check")
    assert (checked.exit_code, checked.stdout) == (0, "The configuration is right. Sources: none.\n")


def test_supervisor_of_a_database_that_was_never_met_can_be_asked_halted_and_restarted(tmp_path: Path) -> None:
    with ApiDaemon(tmp_path, f'database_url = "{AWAY}"\n') as daemon:

        def source() -> Any:
            [standing] = daemon.api.get(STATE).json["sources"]
            return standing

        wait_until(lambda: source()["outcome"] == "failed", "the first try")
        answer = daemon.api.get(STATE)
        assert (answer.status, answer.json["state"], answer.json["available"]) == (200, "RUNNING", False)
        assert source()["available"] is False
        assert "127.0.0.1" in source()["unavailable_reason"]
        assert answer.json["unavailable_reason"] == f"default: {source()['unavailable_reason']}"
        assert "geheim" not in answer.text
        assert daemon.api.post("/api/supervisor/halt").json["state"] == "HALTED"
        assert daemon.api.post("/api/supervisor/restart").json["state"] == "RUNNING"
        state = reaper_of(daemon)("state")
        assert state.exit_code == 0
        assert "database away" in state.stdout


def test_supervisor_is_available_once_the_database_was_met(protea: Protea, tmp_path: Path) -> None:
    """A halt that was asked for before that is in force from the first sweep on."""
    job = protea.stale()
    name = str(protea.connection.info.dbname)
    with closed(protea.libpq.replace(name, "postgres"), name):
        daemon = ApiDaemon(tmp_path, database_url=protea.url, interval_seconds=1).comes_up()
        wait_until(lambda: daemon.api.get(STATE).json["sources"][0]["outcome"] == "failed", "a try")
        assert daemon.api.get(STATE).json["available"] is False
        assert daemon.api.post("/api/supervisor/halt").status == 200
    with daemon:
        daemon.sweeps_on(2, "halted")
        state = daemon.api.get(STATE).json
        assert (state["state"], state["available"], state["unavailable_reason"]) == ("HALTED", True, None)
        [source] = state["sources"]
        assert (source["available"], source["unavailable_reason"]) == (True, None)
        with protea.connect() as later:
            assert Protea(protea.url, later).status(job) == "running"

"""Exit statuses, and what `systemctl`, cron and shell scripts make of them."""

from __future__ import annotations

from pathlib import Path

from tests.contract.conftest import DaemonRecording, Golden
from tests.contract.support import AWAY, MINUTE, Protea, Reaper


def test_commands_keep_their_exit_statuses(
    reaper: Reaper, protea: Protea, life: DaemonRecording, golden: Golden, tmp_path: Path
) -> None:
    stale = protea.stale()
    with_database = {"REAPER_DATABASE_URL": protea.url}
    lines = list[str]()

    def ends(what: str, *words: str, **given: str) -> None:
        lines.append(f"reaper {what}: {reaper(*words, **given).exit_code}")

    ends("--version", "--version")
    ends("--help", "--help")
    ends("(no command)")
    ends("UNKNOWN", "nothing-of-the-kind")
    ends("sweep --unknown", "sweep", "--unknown")
    ends("sweep --older-than nonsense", "sweep", "--older-than", "nonsense", **with_database)
    ends("sweep --source unknown", "sweep", "--source", "unknown", **with_database)
    ends("sweep (no database)", "sweep")
    ends("config check (unknown variable)", "config", "check", REAPER_TIMOUT_SECONDS="1h")
    ends("config check (no such file)", "--config", "no-such-file.toml", "config", "check")
    ends("config show (wrong value)", "config", "show", REAPER_TIMEOUT_SECONDS="soon")
    ends("run (wrong value)", "run", REAPER_TIMEOUT_SECONDS="soon", **with_database)
    ends("config show", "config", "show")
    ends("config check", "config", "check", **with_database)
    for command in (["sweep"], ["report"], ["explain", "x"], ["check"], ["fence", "status"]):
        ends(f"{' '.join(command)} (database away)", *command, REAPER_DATABASE_URL=AWAY)
    ends("state (daemon away)", "state", "--url", "http://127.0.0.1:1")
    ends("halt (daemon away, no token)", "halt", "--url", "http://127.0.0.1:1")
    ends("explain JOB", "explain", stale, **with_database)
    ends("explain (no such job)", "explain", "00000000-0000-0000-0000-000000000000", **with_database)
    ends("report", "report", **with_database)
    ends("report --exit-code (stale jobs)", "report", "--exit-code", **with_database)
    (tmp_path / "new.toml").write_text("timeout_seconds = '1d'\n")
    (tmp_path / "wrong.toml").write_text("timeout_seconds = 'soon'\n")
    for new in ("new.toml", "wrong.toml"):
        ends(f"diff --config {new}", "diff", "--config", str(tmp_path / new), **with_database)
    (tmp_path / "new.toml").write_text("")
    ends("diff (no difference)", "diff", "--config", str(tmp_path / "new.toml"), **with_database)
    ends("check", "check", **with_database)
    ends("fence status (absent)", "fence", "status", **with_database)
    ends("clear (no terminal)", "clear", **with_database)
    ends("reset (no terminal)", "reset", "--source", "default", **with_database)
    ends("reset --confirm (wrong name)", "reset", "--source", "default", "--confirm", "other", **with_database)
    ends("sweep --dry-run", "sweep", "--dry-run", **with_database)
    for _ in range(51):
        protea.stale()
    ends("sweep (held by the breaker)", "sweep", **with_database)
    ends("sweep --force (held by the breaker)", "sweep", "--force", **with_database)
    ends("sweep --release 52", "sweep", "--release", "52", **with_database)
    ends("sweep", "sweep", **with_database)
    ends("report --exit-code (none)", "report", "--exit-code", **with_database)
    ends("fail JOB (not running)", "fail", stale, "--reason", "x", **with_database)
    ends("purge (no terminal)", "purge", **with_database)
    ends("fail JOB (without --reason)", "fail", stale, **with_database)
    alive = protea.job(age=MINUTE)
    ends("fail JOB", "fail", alive, "--reason", "x", **with_database)
    daemons = [f"reaper {what}: {status}" for what, status in life.exit_statuses.items()]
    golden("exit_statuses.txt", [*lines, *daemons])


def test_ctrl_c_at_a_question_ends_with_130_and_changes_nothing(protea: Protea, tmp_path: Path) -> None:
    stale = protea.stale()
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": protea.url, "REAPER_RESTART_GRACE": "0"})
    assert reaper.interrupted("[y/N]", "clear") == 130
    assert protea.status(stale) == "running"

"""SIGHUP: a right configuration comes into force, a wrong one is refused, and what was heard stays known."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from structlog.testing import capture_logs

from reaper.config import Settings, load
from reaper.daemon import main as process
from reaper.daemon.reload import changed_settings
from reaper.dev.postgres import PrivatePostgreSQL
from tests.support.daemons import Daemon, closed
from tests.support.protea import HOUR, Protea
from tests.support.waiting import stays_true, wait_until

KEPT = "Reaper refused the new configuration; the old one stays in force."


@pytest.fixture
def second(server: PrivatePostgreSQL) -> Iterator[str]:
    """The URL of a second database."""
    yield server.create_database("second")
    server.drop_database("second")


def main(protea: Protea, extra: str = "") -> str:
    return f'[sources.main]\ndatabase_url = "{protea.url}"\n{extra}\n'


def test_new_threshold_takes_effect(protea: Protea, tmp_path: Path) -> None:
    job = protea.job(age=2 * HOUR)
    with Daemon(tmp_path, main(protea)) as daemon:
        daemon.comes_up().sweeps_on(2, source="main")
        assert protea.status(job) == "running"
        daemon.reload(main(protea, 'timeout_seconds = "1h"\nstall_seconds = "10m"'))
        wait_until(lambda: protea.status(job) == "failed", "the job's end", 4)
        [event] = protea.audits(job)
        assert (event["fields"]["timeout_seconds"], event["fields"]["stall_seconds"]) == (3600, 600)
        assert daemon.value("reaper_leader", "main") == 1
        assert daemon.process.poll() is None


def test_reload_says_which_settings_changed_and_which_edits_the_environment_hides(
    protea: Protea, second: str, tmp_path: Path
) -> None:
    before = f"batch_size = 7\nbreaker_min = 10\n{main(protea)}"
    with Daemon(tmp_path, before, batch_size=9) as daemon:
        daemon.comes_up()
        after = f"batch_size = 8\nbreaker_min = 20\n{main(protea, 'timeout_seconds = 3600')}"
        daemon.reload(f'{after}[sources.other]\ndatabase_url = "{second}"\n')
        path = tmp_path / "reaper.toml"
        assert daemon.answers[-1]["changed"] == [
            "sources.other: added",
            f"breaker_min: 10 -> 20 ({path}:4)",
            f"sources.main.timeout_seconds: 6h -> 1h (source main ({path}:7))",
        ]
        [hidden] = daemon.said("Edits of the configuration have no effect: something has precedence.")
        assert hidden["edits"] == [f"batch_size ({path}:3): REAPER_BATCH_SIZE has precedence"]
        daemon.reload(f'log_file = "{tmp_path}/log"\n{after}')
        assert daemon.answers[-1]["changed"] == [
            "sources.other: removed",
            f"log_file: none -> {tmp_path}/log ({path}:3)",
        ]
        [restart] = daemon.said(
            "A changed HTTP address, state directory or log file takes effect only after a restart."
        )
        assert restart["settings"] == ["log_file"]
        assert len(daemon.said(hidden["event"])) == 1, "the value that is hidden was not edited again"


def test_changed_password_and_edited_profile_are_named_without_their_values() -> None:
    def settings(password: str, column: str) -> Settings:
        text = f"""
            database_url = "postgresql://reaper:{password}@127.0.0.1:1/app"
            profile = "own"
            [profiles.own]
            extends = "protea"
            jobs.queue = "{column}"
        """
        path.write_text(text)
        return load({"config": path}, {})

    with TemporaryDirectory() as folder:
        path = Path(folder) / "reaper.toml"
        lines = changed_settings(settings("geheim-1", "queue_name"), settings("geheim-2", "operation"))
    assert sorted(lines) == [
        "sources.default.database_url: its password, or another part that is not shown",
        "sources.default.profile: own says something else",
    ]


def test_source_that_stays_decides_its_spelling_again(protea: Protea, tmp_path: Path) -> None:
    protea.connection.execute("ALTER TABLE job ALTER status DROP DEFAULT, ALTER status TYPE text")
    first = protea.stale(status="RUNNING")
    with Daemon(tmp_path, main(protea)) as daemon:
        daemon.comes_up()
        wait_until(lambda: protea.status(first) == "FAILED", "the job's end", 4)
        daemon.sweeps_on(1, source="main")
        [line] = daemon.said("Reaper takes names and values that differ only by case as the database spells them.")
        assert "running is RUNNING" in line["spelling"][0]
        written_later, second = protea.stale(status="running"), protea.stale(status="RUNNING")
        wait_until(lambda: protea.status(second) == "FAILED", "the second job's end", 4)
        daemon.sweeps_on(1, source="main")
        assert protea.status(written_later) == "running"
        daemon.reload(main(protea))
        assert daemon.answers[-1]["kept"] == ["main"]
        wait_until(lambda: protea.status(written_later) == "failed", "the job's end", 4)


def test_source_can_be_added_and_removed(protea: Protea, second: str, tmp_path: Path) -> None:
    other = f'[sources.other]\ndatabase_url = "{second}"\n'
    with Daemon(tmp_path, main(protea)) as daemon:
        daemon.comes_up().sweeps_on(1, source="main")
        daemon.reload(main(protea) + other)
        assert daemon.answers[-1]["sources"] == ["main", "other"]
        assert daemon.answers[-1]["kept"] == ["main"]
        daemon.sweeps_on(1, source="other")
        assert daemon.metrics.about("other") == daemon.metrics.about("main")
        assert set(daemon.ready[1]) == {"main", "other"}

        daemon.reload(main(protea))
        assert daemon.metrics.about("other") == set()
        assert set(daemon.ready[1]) == {"main"}
        daemon.sweeps_on(2, source="main")
        assert daemon.metrics.about("other") == set()


def test_source_whose_sweep_hangs_can_be_removed_and_does_not_hold_up_the_end(
    protea: Protea, second: str, tmp_path: Path
) -> None:
    other = f'[sources.other]\ndatabase_url = "{second}"\n'
    with Protea(second, protea.connection).connect() as holder:
        holder.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        with Daemon(tmp_path, main(protea) + other) as daemon:
            daemon.comes_up()
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'job'::regclass"
            wait_until(lambda: holder.execute(waiting).fetchone(), "a sweep that waits")
            daemon.reload(main(protea))
            daemon.sweeps_on(1, source="main")
            assert daemon.metrics.about("other") == set()
            status, seconds = daemon.stop()
            assert status == 0
            assert seconds < 5


def test_wrong_configuration_is_refused_with_its_reasons_and_the_old_one_stays(protea: Protea, tmp_path: Path) -> None:
    with Daemon(tmp_path, main(protea)) as daemon:
        daemon.comes_up().sweeps_on(1, source="main")
        daemon.reload(main(protea, 'timeout_second = "1h"\nstall_seconds = "0s"'))
        [refusal] = daemon.said(KEPT)
        assert len(refusal["problems"]) == 2
        assert any("timeout_seconds" in problem for problem in refusal["problems"])
        for text, reason in (("[sources", "not valid TOML"), ("", "no database")):
            daemon.reload(text)
            assert reason in daemon.said(KEPT)[-1]["problems"][0]
        job = protea.stale()
        wait_until(lambda: protea.status(job) == "failed", "a sweep", 4)
        assert daemon.answers == daemon.said(KEPT)
        # And a right one is taken after that.
        daemon.reload(main(protea, 'stall_seconds = "1h"'))
        assert daemon.answers[-1]["event"] == "Reaper has a new configuration."


def test_refused_configuration_is_reported_until_one_is_accepted(protea: Protea, tmp_path: Path) -> None:
    def reload_state() -> tuple[float | None, float, list[str]]:
        """Whether the last one was taken, when one was, and what was wrong with it."""
        taken = daemon.metrics.value("reaper_config_last_reload_success_timestamp_seconds")
        answer = daemon.get("/api/health")
        assert taken is not None and answer is not None
        problems = json.loads(answer[1])["refused_configuration"]
        return daemon.metrics.value("reaper_config_last_reload_successful"), taken, problems

    with Daemon(tmp_path, main(protea)) as daemon:
        daemon.comes_up().sweeps_on(1, source="main")
        successful, begun, problems = reload_state()
        assert (successful, problems) == (1, [])
        assert begun == pytest.approx(time.time(), abs=60)
        daemon.reload(main(protea, "batch_size = 0"))
        wait_until(lambda: reload_state()[2], "what is wrong with it")
        successful, taken, problems = reload_state()
        assert (successful, taken) == (0, begun)
        assert "batch_size" in problems[0]
        # It sweeps as before, and so it is ready.
        daemon.sweeps_on(2, source="main")
        assert (reload_state()[0], daemon.ready) == (0, (True, {"main": []}))
        daemon.reload(main(protea))
        wait_until(lambda: not reload_state()[2], "that nothing is wrong")
        successful, taken, problems = reload_state()
        assert (successful, problems) == (1, [])
        assert taken > begun


def test_url_that_cannot_be_used_does_not_replace_one_that_works(protea: Protea, tmp_path: Path) -> None:
    with Daemon(tmp_path, main(protea)) as daemon:
        daemon.comes_up().sweeps_on(1, source="main")
        for query in ("plugin=foo", "bogus=1", "sslmode=bogus", "connect_timeout=abc"):
            daemon.reload(f'[sources.main]\ndatabase_url = "{protea.url}&{query}"\n')
            assert daemon.answers == daemon.said(KEPT), query
            assert "sources.main.database_url" in daemon.answers[-1]["problems"][0], query
        daemon.sweeps_on(2, source="main")
        assert daemon.process.poll() is None


def test_old_configuration_stays_whatever_goes_wrong_with_the_new_one(
    protea: Protea, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"REAPER_DATABASE_URL": protea.url, "REAPER_HTTP_PORT": "0"}
    running = process.Daemon(load({}, environ))
    running.start()
    try:
        before = list(running.supervisor.runners)

        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError("a defect of ours")

        with monkeypatch.context() as patch, capture_logs() as said:
            patch.setattr(process, "create_source", broken)
            running.reload(lambda: load({}, {**environ, "REAPER_STALL_SECONDS": "5m"}))
        assert list(running.supervisor.runners) == before
        assert running.service.settings.stall_seconds == 1800
        [reload_state] = [line for line in said if line["event"] == KEPT]
        assert reload_state["problems"] == ["ZeroDivisionError: a defect of ours"]
        running.reload(lambda: load({}, {**environ, "REAPER_STALL_SECONDS": "5m"}))
        assert list(running.supervisor.runners) != before
    finally:
        assert running.stop()


def test_missing_configuration_file_is_refused(protea: Protea, tmp_path: Path) -> None:
    with Daemon(tmp_path, main(protea)) as daemon:
        daemon.comes_up()
        daemon.config.unlink()
        daemon.process.send_signal(signal.SIGHUP)
        assert "No such file" in daemon.says(KEPT)["problems"][0]
        daemon.sweeps_on(1, source="main")


def test_interval_and_log_level_change_with_a_reload(protea: Protea, tmp_path: Path) -> None:
    with Daemon(tmp_path, main(protea)) as daemon:
        daemon.comes_up().sweeps_on(1, source="main")
        assert not daemon.said("Reaper surveyed a source.")
        daemon.config.write_text(f'interval_seconds = "4s"\nlog_level = "debug"\n{main(protea)}')
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.said("Reaper surveyed a source."), "a line for debugging")
        assert daemon.metrics.value("reaper_interval_seconds") == 4
        done = daemon.sweeps(source="main")
        stays_true(lambda: daemon.sweeps(source="main") <= done + 1, "fewer sweeps", 2.5)


@pytest.mark.parametrize("user", [pytest.param("postgres", marks=pytest.mark.thorough), "postgres:new-password"])
def test_known_downtime_survives_a_reload(user: str, protea: Protea, server: PrivatePostgreSQL, tmp_path: Path) -> None:
    """A job that was alive before an outage is not ended because the configuration was read again after it."""
    limits = 'timeout_seconds = "5s"\nstall_seconds = "3s"'
    name = protea.url.partition("?")[0].rpartition("/")[2]
    with Daemon(tmp_path, main(protea, limits)) as daemon:
        daemon.comes_up().shows("reaper_database_up", 1, "main")
        with ExitStack() as outage_lasts:
            with daemon.paused():  # however slow the machine is: it was alive just before the outage
                job = protea.job()
                protea.event(job)
                outage_lasts.enter_context(closed(server.url.replace("+psycopg", ""), name))
            begun = time.monotonic()
            daemon.sweeps_on(4, outcome="failed", source="main")
            wait_until(lambda: time.monotonic() - begun > 3, "an outage that is longer than the stall window")
            outage = time.monotonic() - begun
        daemon.shows("reaper_database_up", 1, "main")
        afterwards = Protea(protea.url.replace("//postgres@", f"//{user}@"), protea.connection)
        daemon.reload(main(afterwards, f"{limits}\n[kinds.another]\ntimeout_seconds = 1"))
        assert daemon.answers[-1]["kept"] == []
        with protea.connect() as connection:
            again = Protea(protea.url, connection)
            wait_until(lambda: again.status(job) == "failed", "its end after a whole window of audible silence")
            [event] = again.audits(job)
        assert event["fields"]["silence_seconds"] >= 3 + outage


def test_sighup_before_the_daemon_handles_it_does_not_end_it(protea: Protea, tmp_path: Path) -> None:
    # Executed: while it imports its modules there is time to send the signal.
    with Daemon(tmp_path, database_url=protea.libpq, executed=True) as daemon:
        wait_until(lambda: bit(daemon.process.pid, "SigIgn", signal.SIGHUP), "a process that does not mind SIGHUP")
        assert not bit(daemon.process.pid, "SigCgt", signal.SIGTERM), "too late: it listens"
        daemon.process.send_signal(signal.SIGHUP)
        daemon.comes_up()


def bit(pid: int, mask: str, number: signal.Signals) -> int:
    """Whether the process treats the signal so: SigIgn, SigCgt of proc(5)."""
    [found] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{mask}:")]
    return int(found.split()[1], 16) >> (number - 1) & 1

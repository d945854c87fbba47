"""What operators read: each thing once when it changes, whatever the number of sweeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from structlog.testing import capture_logs

from reaper.model import Outcome, PurgeReport, ReapedJob, SweepReport, Verdict
from reaper.observers.daemon_log import DaemonLog
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.daemons import Daemon
from tests.support.protea import HOUR, MINUTE, Protea, thresholds
from tests.support.waiting import wait_until

Lines = list[Any]


@pytest.fixture
def log() -> Iterator[Lines]:
    with capture_logs() as lines:
        yield lines


class LoggedSweeps:
    """Sweeps that are logged, one after the other, as in a daemon."""

    def __init__(self, protea: Protea, **options: Any) -> None:
        self._event_log, self._memory, self.downtime = (
            DaemonLog(structlog.get_logger("reaper")),
            SourceState(),
            DowntimeTracker(0),
        )
        self._options = SweepOptions(
            **{"host": "test-host", "batch_size": 1000, "breaker": Breaker(50, 0.5), **options}
        )
        self.source = protea.source()

    def sweep(self, times: int = 1) -> SweepReport:
        for _ in range(times):
            report = sweep(self.source, self.downtime, self._memory, self._options, None, self._event_log)
            self._event_log.swept(report)
        return report


def without_debug(log: Lines) -> Lines:
    return [line for line in log if line["log_level"] != "debug"]


def events(log: Lines) -> list[str]:
    return [line["event"] for line in without_debug(log)]


class Clock:
    """The process's clock, which a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def failed(error: str = "connection refused", *, away: bool = True) -> SweepReport:
    return SweepReport("main", "1", Outcome.FAILED, 0.1, error=error, database_away=away)


@pytest.mark.parametrize("away", [True, False])
def test_database_that_stays_away_is_logged_again_at_growing_intervals(log: Lines, away: bool) -> None:
    clock = Clock()
    daemon_log, told = DaemonLog(clock=clock), list[int]()
    for second in range(5 * 3600):
        clock.now = 100.0 + second
        before = len(log)
        daemon_log.swept(failed(f"server {second} refused", away=away))
        if len(log) > before:
            told.append(second)
    assert told[:7] == [0, 60, 180, 420, 900, 1860, 3780] and told[7:] == [7380, 10980, 14580]
    assert log[1]["for_seconds"] == 60 and log[1]["failed_cycles"] == 61
    assert "for_seconds" not in log[0]
    daemon_log.swept(replace(failed(), outcome=Outcome.DONE, error=None, database_away=False))
    daemon_log.swept(failed(away=away))
    assert [line["event"] for line in log[-2:]] == ["Reaper cycle recovered.", "Reaper cycle failed"]


def test_lasting_breaker_purge_failure_and_silent_witness_are_logged_again_after_a_minute(log: Lines) -> None:
    clock = Clock()
    daemon_log = DaemonLog(clock=clock)
    held = replace(failed(), outcome=Outcome.HELD, error=None, database_away=False)
    held = replace(held, asked_witness=True, witness_trouble="no reply in 5 s")
    purge = PurgeReport(source="main", outcome=Outcome.FAILED, duration_seconds=0.1, error="no", database_away=True)
    for second in (0, 59, 60, 61):
        clock.now = 100.0 + second
        daemon_log.swept(held)
        daemon_log.purge_ended(purge)
    words = [line["event"].split(":")[0].split(";")[0] for line in log]
    assert sorted(words) == sorted(
        2 * ["Reaper breaker is open", "Celery workers could not be inspected", "Reaper purge failed"]
    )


def test_reap_is_logged_by_job_and_in_total(protea: Protea, log: Lines) -> None:
    job = protea.stale()
    report = LoggedSweeps(protea).sweep()
    [one, all_] = [line for line in log if line["log_level"] == "warning"]
    assert one["event"] == "Reaped stale job."
    assert (one["job"], one["kind"], one["reason"], one["witness"]) == (job, "embed", "JobTimeout", "job_event")
    assert one["age_seconds"] == pytest.approx(8 * HOUR, abs=60)
    assert one["silence_seconds"] == pytest.approx(2 * HOUR, abs=60)
    assert all_["event"] == "Reaped 1 stale job(s)."
    assert (all_["reaped"], all_["lost"], all_["locked"], all_["refused"]) == (1, 0, 0, 0)
    assert one["sweep_id"] == all_["sweep_id"] == report.sweep_id


def test_sweep_that_finds_nothing_logs_nothing(protea: Protea, log: Lines) -> None:
    protea.job(age=10)
    LoggedSweeps(protea).sweep(3)
    assert events(log) == []


def test_reaped_jobs_beyond_a_hundred_are_only_counted(protea: Protea, log: Lines) -> None:
    for _ in range(130):
        protea.stale()
    LoggedSweeps(protea, batch_size=40, breaker=Breaker(50, 1)).sweep()
    assert events(log) == ["Reaped stale job."] * 100 + ["Reaped 130 stale job(s)."]


def test_sources_that_reap_at_the_same_time_do_not_mix_up_their_hundreds(log: Lines) -> None:
    daemon_log = DaemonLog()
    batch = [ReapedJob((str(n),), "JobTimeout", "embed", 1.0, 1.0, None) for n in range(60)]
    for _ in range(3):
        daemon_log.reaped("one", "sweep-1", batch)
        daemon_log.reaped("two", "sweep-2", batch)
    assert [sum(line["source"] == source for line in log) for source in ("one", "two")] == [100, 100]


def test_spared_job_is_logged_once_and_not_at_every_sweep(protea: Protea, log: Lines) -> None:
    first = protea.job(age=7 * HOUR)
    protea.event(first, age=MINUTE)
    night = LoggedSweeps(protea)
    night.sweep(5)
    [line] = without_debug(log)
    assert (line["event"], line["log_level"], line["job"]) == ("Reaper skipped live job.", "info", first)
    assert line["silence_seconds"] == pytest.approx(MINUTE, abs=30)
    assert line["timeout_seconds"] == 6 * HOUR
    # Another that passes its timeout later is named in its turn.
    second = protea.job(age=6 * HOUR - 0.5)
    protea.event(second)
    protea.event(first)
    wait_until(lambda: night.sweep() and len(without_debug(log)) > 1, "the second one's timeout")
    night.sweep(3)
    assert [line["job"] for line in without_debug(log)] == [first, second]


def test_live_job_that_is_first_seen_past_its_timeout_is_logged_once(protea: Protea, log: Lines) -> None:
    first = protea.job(age=7 * HOUR)
    protea.event(first, age=MINUTE)
    sweeps = LoggedSweeps(protea)
    sweeps.sweep()
    late = protea.job(age=9 * HOUR)
    protea.event(late, age=MINUTE)
    sweeps.sweep(3)
    lines = [line for line in log if line["log_level"] != "debug"]
    assert [(line["event"], line["job"]) for line in lines] == [
        ("Reaper skipped live job.", first),
        ("Reaper skipped live job.", late),
    ]


def test_only_a_job_with_a_recent_sign_of_life_is_called_alive(protea: Protea, log: Lines) -> None:
    silent = protea.stale()
    sweeps = LoggedSweeps(protea)
    sweeps.downtime = DowntimeTracker(HOUR)
    assert sweeps.sweep(3).reaped == 0
    lines = [line for line in log if line["log_level"] == "info"]
    assert [(line["event"], line["job"]) for line in lines] == [
        ("Reaper spared a silent job: the database was away during its silence.", silent)
    ]
    log.clear()
    protea.event(silent)
    sweeps.sweep(3)
    assert events(log) == ["Reaper skipped live job."]


def test_job_of_which_nothing_certain_is_known_is_not_called_alive(protea: Protea, log: Lines) -> None:
    job = protea.stale()
    unknown = replace(protea.judge(job), verdict=Verdict.SPARED, unknown="Celery's workers do not answer.")
    DaemonLog().swept(SweepReport("main", "1", Outcome.DONE, 0.1, newly_spared=[unknown], newly_spared_total=1))
    [line] = log
    assert line["event"] == "Reaper spared a silent job: whether it is alive is not known."
    assert line["unknown"] == "Celery's workers do not answer."


def test_live_jobs_are_not_logged_again_when_they_have_become_few_enough_to_be_tracked(
    protea: Protea, log: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reaper.sweep.sweep.MAX_TRACKED", 5)
    jobs = [protea.job(age=7 * HOUR) for _ in range(8)]
    for job in jobs:
        protea.event(job)
    sweeps = LoggedSweeps(protea)
    sweeps.sweep(2)
    assert events(log) == ["Reaper skipped live job."] * 8
    protea.connection.execute("UPDATE job SET status = 'succeeded' WHERE id = ANY(%s::uuid[])", (jobs[:4],))
    late = protea.job(age=6 * HOUR - 0.5)
    protea.event(late)
    wait_until(lambda: sweeps.sweep() and len(events(log)) > 8, "the late one's timeout")
    sweeps.sweep(2)
    assert [line["job"] for line in without_debug(log)[8:]] == [late]
    first_seen = protea.job(age=9 * HOUR)
    protea.connection.execute("UPDATE job SET status = 'succeeded' WHERE id = %s", (late,))
    protea.event(first_seen)
    sweeps.sweep(2)
    assert [line["job"] for line in without_debug(log)[9:]] == [first_seen]


def test_very_many_spared_jobs_are_counted_beyond_a_hundred(protea: Protea, log: Lines) -> None:
    for _ in range(120):
        protea.event(protea.job(age=7 * HOUR))
    LoggedSweeps(protea).sweep(2)
    assert events(log) == ["Reaper skipped live job."] * 100 + ["Reaper skipped more jobs past their timeout."]
    assert [line["jobs"] for line in log if "jobs" in line] == [20]


def test_refused_job_is_logged_and_the_others_are_reaped(protea: Protea, log: Lines) -> None:
    bad, good = protea.stale(operation="refused"), protea.stale()
    protea.connection.execute(
        "ALTER TABLE job ADD CONSTRAINT no_end CHECK (operation <> 'refused' OR status <> 'failed')"
    )
    LoggedSweeps(protea).sweep(3)
    assert (protea.status(bad), protea.status(good)) == ("running", "failed")
    [line] = [line for line in log if line["log_level"] == "error"]
    assert (line["event"], line["job"]) == ("Reaper could not end a job: the database refused it.", bad)
    assert "no_end" in line["error"]
    assert sum(line["event"] == "Reaped 1 stale job(s)." for line in log) == 1


def test_lock_holder_is_logged_once(protea: Protea, log: Lines) -> None:
    job = protea.stale()
    night = LoggedSweeps(protea)
    night.source = protea.source(thresholds(stall=0.3))
    with protea.connect() as other:
        other.execute("SET application_name = 'a debugger'")
        other.execute("SELECT 1 FROM job FOR UPDATE")
        night.sweep()
        wait_until(
            lambda: bool(night.sweep() and without_debug(log)), "it has held the row for longer than the stall window"
        )
        night.sweep(3)
        [line] = without_debug(log)
        assert line["event"] == "Reaper spares a stale job while another session locks its row."
        assert (line["job"], line["pid"]) == (job, other.info.backend_pid)
        assert (line["application"], line["state"]) == ("a debugger", "idle in transaction")
        assert line["since"].endswith("Z")
        other.rollback()
    night.sweep()
    assert protea.status(job) == "failed"


def report(outcome: Outcome = Outcome.DONE, *, away: bool = False, error: str | None = None) -> SweepReport:
    return SweepReport("main", "1", outcome, 0.1, database_away=away, error=error)


AWAY = report(Outcome.FAILED, away=True, error="connection refused")
STARTING = report(Outcome.FAILED, away=True, error="the database system is starting up")
DEFECT_1 = report(Outcome.FAILED, error="job 1 of 17")
DEFECT_2 = report(Outcome.FAILED, error="job 2 of 99")
OTHER = report(Outcome.FAILED, error="no such table")
FAILED, RECOVERED = "Reaper cycle failed", "Reaper cycle recovered."


@pytest.mark.parametrize(
    ("reports", "said"),
    [
        pytest.param([AWAY] * 50, [FAILED], id="once, not once per try"),
        pytest.param([AWAY, STARTING, AWAY], [FAILED], id="away is away, whatever it says"),
        pytest.param([DEFECT_1, DEFECT_2], [FAILED], id="the same with other numbers"),
        pytest.param([AWAY, OTHER], [FAILED, FAILED], id="another trouble is news"),
        pytest.param([AWAY, report(), AWAY], [FAILED, RECOVERED, FAILED], id="again after it was well"),
        pytest.param([AWAY, report(Outcome.STANDBY)], [FAILED, RECOVERED, "stands by"], id="well as a standby"),
        pytest.param([OTHER, report(Outcome.STANDBY)], [FAILED, "stands by"], id="a standby has not tried again"),
        pytest.param(
            [OTHER, report(Outcome.STANDBY), OTHER, report()],
            [FAILED, "stands by", RECOVERED, "taken over the sweeps"],
            id="by turns with another replica",
        ),
        pytest.param([report()] * 5, [], id="all well"),
    ],
)
def test_trouble_is_logged_when_it_changes(reports: list[SweepReport], said: list[str], log: Lines) -> None:
    daemon_log = DaemonLog()
    for each in reports:
        daemon_log.swept(each)
    assert len(events(log)) == len(said)
    assert all(wanted in found for wanted, found in zip(said, events(log), strict=True))


def test_recovery_says_how_many_cycles_failed(log: Lines) -> None:
    daemon_log = DaemonLog()
    for _ in range(2):
        for each in (AWAY, AWAY, AWAY, report()):
            daemon_log.swept(each)
    assert [line["failed_cycles"] for line in log if line["event"] == RECOVERED] == [3, 3]


def test_source_that_is_configured_again_is_logged_again(log: Lines) -> None:
    daemon_log = DaemonLog()
    daemon_log.swept(AWAY)
    daemon_log.set_sources(["other"])
    daemon_log.set_sources(["main", "other"])
    daemon_log.swept(AWAY)
    assert events(log) == [FAILED, FAILED]


def test_mass_silence_is_logged_once_and_so_is_its_end(protea: Protea, log: Lines) -> None:
    jobs = [protea.stale() for _ in range(60)]
    night = LoggedSweeps(protea)
    assert night.sweep(3).outcome is Outcome.HELD
    [line] = without_debug(log)
    assert line["event"].startswith("Reaper breaker is open: ")
    assert (line["stale"], line["running"], line["log_level"]) == (60, 60, "error")
    for job in jobs[:40]:
        protea.event(job)
    log.clear()
    night.sweep(2)
    assert events(log).count("Reaper breaker is closed: sweeps end jobs again.") == 1
    assert events(log).count("Reaped 20 stale job(s).") == 1


def test_changes_of_the_leader_are_logged_once(log: Lines) -> None:
    daemon_log = DaemonLog()
    for outcome in (Outcome.STANDBY, Outcome.STANDBY, Outcome.DONE, Outcome.DONE, Outcome.STANDBY):
        daemon_log.swept(report(outcome))
    standby, lead = (
        "Reaper stands by: another replica sweeps.",
        "Reaper has taken over the sweeps from another replica.",
    )
    assert events(log) == [standby, lead, standby]


# --- in the daemon -------------------------------------------------------------------------------------------


def test_breaker_is_shown_by_log_metrics_and_readiness_of_the_daemon(protea: Protea, tmp_path: Path) -> None:
    jobs = [protea.stale() for _ in range(60)]
    opened = "Reaper breaker is open: nearly all running jobs fell silent at once; no job is ended."
    with Daemon(tmp_path, database_url=protea.url) as daemon:
        daemon.comes_up().shows("reaper_breaker_open", 1)
        daemon.sweeps_on(2, outcome="held")
        assert daemon.ready == (False, {"default": ["breaker open: nearly all running jobs fell silent at once"]})
        assert daemon.says(opened)["stale"] == 60
        assert set(protea.statuses().values()) == {"running"}
        for job in jobs[:40]:
            protea.event(job)
        daemon.shows("reaper_breaker_open", 0)
        daemon.says("Reaper breaker is closed: sweeps end jobs again.")
        assert daemon.ready == (True, {"default": []})
        wait_until(lambda: list(protea.statuses().values()).count("failed") == 20, "the 20 that stayed silent")


def test_spared_refused_and_locked_jobs_are_shown_by_the_daemon(protea: Protea, tmp_path: Path) -> None:
    live = protea.job()
    refused, locked = protea.stale(operation="refused"), protea.stale()
    protea.event(live)
    protea.connection.execute("ALTER TABLE job ADD CHECK (operation <> 'refused' OR status <> 'failed')")
    heart = threading.Thread(target=_beats, args=(protea.libpq, live, stopped := threading.Event()))
    with protea.connect() as other, Daemon(tmp_path, database_url=protea.url, stall_seconds="2s") as daemon:
        other.execute("SELECT 1 FROM job WHERE id = %s FOR UPDATE", (locked,))
        heart.start()
        try:
            daemon.comes_up().shows("reaper_candidates_locked_overdue", 1)
            daemon.sweeps_on(2)
            assert daemon.value("reaper_candidates_locked") == 1
            assert daemon.value("reaper_jobs_refused_total") == 1
            assert daemon.says("Reaper skipped live job.")["job"] == live
            assert daemon.says("Reaper could not end a job: the database refused it.")["job"] == refused
            held = daemon.says("Reaper spares a stale job while another session locks its row.")
            assert (held["job"], held["pid"]) == (locked, other.info.backend_pid)
            # None of this is a reason to call it ill.
            assert daemon.ready == (True, {"default": []})
            assert set(protea.statuses().values()) == {"running"}
        finally:
            stopped.set()
            heart.join()


def _beats(libpq: str, job: str, stopped: threading.Event) -> None:
    """A worker that shows life twice a second."""
    with psycopg.connect(libpq, autocommit=True) as connection:
        while not stopped.wait(0.4):
            connection.execute("INSERT INTO job_event (job_id, event) VALUES (%s, 'progress')", (job,))


def test_defect_in_a_sweep_is_logged_with_its_traceback_and_the_daemon_goes_on(protea: Protea, tmp_path: Path) -> None:
    # A start like any other, but for one function that fails twice.
    (tmp_path / "sitecustomize.py").write_text(
        "import reaper.scheduling.source_runner as watch\n"
        "real, broken = watch.sweep, [1, 2]\n"
        "def defective(*arguments):\n"
        "    if broken and broken.pop():\n"
        "        raise ZeroDivisionError('a defect\\nin two lines')\n"
        "    return real(*arguments)\n"
        "watch.sweep = defective\n"
    )
    job = protea.stale()
    with Daemon(tmp_path, database_url=protea.url, extra_path=tmp_path) as daemon:
        wait_until(lambda: protea.status(job) == "failed", "a sweep in spite of the defect")
        daemon.comes_up()
        assert daemon.sweeps("failed") == 2
        assert daemon.stop()[0] == 0
        assert daemon.says("Reaper cycle failed")["error"] == "ZeroDivisionError: a defect\nin two lines"
        assert daemon.says("Reaper cycle recovered.")["failed_cycles"] == 2
        traced = [line["exception"] for line in daemon.log if "exception" in line]
        assert len(traced) == 2
        assert all("in defective" in each and "ZeroDivisionError" in each for each in traced)

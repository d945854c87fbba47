"""What the reaper wrote to a row whose job it ended: no sign of life for another job, or one, as the witness says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from reaper.memory import Memory
from reaper.memory import reaped_rows as reaped_rows_module
from reaper.memory.memory import FILE
from reaper.model import SweepReport
from reaper.profile import Profile, resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.reap_moments import ReapedRows
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.commands import AWAY, Reaper
from tests.support.daemons import Daemon
from tests.support.protea import HOUR, MINUTE, PATIENCE, SweepRecorder, thresholds
from tests.support.terminals import typed
from tests.support.waiting import wait_until
from tests.support.worlds import Database
from tests.support.worlds.protea import ProteaWorld
from tests.support.worlds.servers import database_on
from tests.support.worlds.vuls import VulsWorld

SILENT_CHILDREN: dict[str, Any] = {
    "extends": "protea",
    "alive": [
        {"witness": "job_event", "events": {"table": "job_event", "job": ["job_id"], "at": "ts"}},
        {
            "witness": "child job",
            "ended_by_reaper": "silent",
            "children": {"parent": ["parent_job_id"], "at": ["created_at", "started_at", "finished_at"]},
        },
    ],
}


UNASKED = "[profiles.unasked]\nextends = 'vuls'\nalive = []\n"
"""Runs that are judged without Celery: these tests have no broker."""


@pytest.fixture(params=["postgresql", "mariadb"])
def database_server(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_on(request, request.param) as database:
        yield database


def sweep_once(
    database: Database, profile: Profile, reaped_rows: ReapedRows | None = None, *, timeout: float = 6 * HOUR
) -> SweepReport:
    options = SourceOptions(reaped_rows=reaped_rows, remembers=True)
    source = Source("main", database.url, profile, thresholds(timeout), PATIENCE, options)
    try:
        swept = sweep(
            source,
            DowntimeTracker(0),
            SourceState(),
            SweepOptions(host="test", batch_size=100, breaker=Breaker(0, 1.0)),
            None,
            SweepRecorder(),
        )
    finally:
        source.close()
    assert swept.error is None
    return swept


# --- vuls: a run, and its schedule -----------------------------------------------------------------------------------


class Runs(VulsWorld):
    """One schedule that claims to be running, with one dead run."""

    def prepare(self) -> None:
        super().prepare()
        self.session.do(
            f"UPDATE scheduled_tasks SET last_status = 'running', last_run_at = {self.database.ago}", 8 * HOUR
        )
        self.run = str(
            self.session.one(
                "INSERT INTO task_runs (scheduled_task_id, status, created_at, started_at)"
                f" VALUES (7, 'running', {self.database.ago}, {self.database.ago}) RETURNING id",
                8 * HOUR,
                8 * HOUR,
            )
        )

    def statuses(self) -> tuple[str, str]:
        """Of the run and of the schedule."""
        return self.session.one("SELECT status FROM task_runs"), self.session.one(
            "SELECT last_status FROM scheduled_tasks"
        )


@pytest.fixture
def runs(database_server: Database) -> Iterator[Runs]:
    with Runs.create(database_server) as world:
        yield world


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: Runs) -> Reaper:
    monkeypatch.chdir(tmp_path)
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": runs.database.url})
    # The schedules come first here, and are cleared last all the same.
    reaper.configure(f"{UNASKED}[sources.schedules]\nprofile = 'vuls-schedule'\n[sources.runs]\nprofile = 'unasked'\n")
    return reaper


@pytest.fixture
def state(tmp_path: Path, reaper: Reaper) -> Memory:
    """The state directory of a daemon."""
    reaper.given["REAPER_STATE_DIR"] = str(tmp_path / "state")
    return Memory.open(tmp_path / "state")


def clear(reaper: Reaper, *arguments: str, **given: str) -> None:
    result = reaper("clear", "--yes", *arguments, **given)
    assert result.exit_code == 0, result.output


def stale_schedules(reaper: Reaper) -> int:
    return int(reaper.json("report", "--source", "schedules")["sources"][0]["census"]["stale"])


def test_one_clear_puts_run_and_schedule_right(reaper: Reaper, runs: Runs) -> None:
    clear(reaper)
    assert runs.statuses() == ("failed", "failed")
    assert "from task run" in runs.session.one("SELECT last_error FROM scheduled_tasks")


def test_question_names_the_schedules_that_follow_and_the_breaker_passes_them(reaper: Reaper, runs: Runs) -> None:
    # Many jobs whose signs lie just hours ago might have local times, and would wait for a second look.
    ago, age = runs.database.ago, 8 * HOUR + 420
    for number in range(100, 160):
        schedule = (number, f"task {number}", age)
        columns = "(id, name, task_type, last_status, last_run_at)"
        runs.session.do(f"INSERT INTO scheduled_tasks {columns} VALUES (%s, %s, 'scan', 'running', {ago})", *schedule)
        run = (number, age, age)
        columns = "(scheduled_task_id, status, created_at, started_at)"
        runs.session.do(f"INSERT INTO task_runs {columns} VALUES (%s, 'running', {ago}, {ago})", *run)
    _, _, errors = typed(reaper, "y\n", "clear")
    assert "End 61 stale job(s) and up to 61 that only wait for them? [y/N]" in errors
    assert runs.session.one("SELECT count(*) FROM scheduled_tasks WHERE last_status <> 'failed'") == 0


def test_schedule_of_a_run_that_its_worker_has_just_ended_is_spared(reaper: Reaper, runs: Runs) -> None:
    assert runs.finish(runs.run, runs.session)
    clear(reaper)
    assert runs.statuses() == ("success", "running")


@pytest.mark.parametrize(
    "ended_by", [("clear", "--source", "runs", "--yes"), ("fail", "--yes", "--reason", "it hangs")]
)
def test_processes_know_which_jobs_the_others_have_ended(
    reaper: Reaper, runs: Runs, state: Memory, ended_by: tuple[str, ...]
) -> None:
    assert state.durable
    command, *options = ended_by
    job = ["--source", "runs", runs.run] if command == "fail" else []
    assert reaper(command, *options, *job).exit_code == 0
    assert runs.statuses() == ("failed", "running")
    assert stale_schedules(reaper) == 1
    explained = reaper("explain", "--source", "schedules", "7").stdout
    assert "stale: no sign of life for 8h" in explained, explained


def test_worker_that_writes_the_end_of_the_run_again_is_a_sign_of_life(
    reaper: Reaper, runs: Runs, state: Memory
) -> None:
    assert state.durable
    clear(reaper, "--source", "runs")
    assert stale_schedules(reaper) == 1
    runs.session.do(f"UPDATE task_runs SET completed_at = {runs.database.ago}, error_message = 'late'", MINUTE)
    assert stale_schedules(reaper) == 0


def test_text_of_the_reapers_message_in_a_row_is_no_proof(reaper: Reaper, runs: Runs, state: Memory) -> None:
    assert state.durable
    runs.session.do(
        "UPDATE task_runs SET status = 'failed', completed_at = now(),"
        " error_message = 'No sign of life for 8h 0m (stall window 30m); last sign of life from start.'"
    )
    assert stale_schedules(reaper) == 0


def test_end_that_no_process_remembers_counts_for_a_stall_window(reaper: Reaper, runs: Runs) -> None:
    clear(reaper, "--source", "runs")
    assert stale_schedules(reaper) == 0, "there is no state directory"
    runs.session.do(f"UPDATE task_runs SET completed_at = {runs.database.ago}", 31 * MINUTE)
    assert stale_schedules(reaper) == 1


def test_end_is_no_sign_to_a_witness_with_one_moment_either(runs: Runs, database_server: Database) -> None:
    events = {"table": "task_runs", "job": ["scheduled_task_id"], "key": ["id"], "at": "completed_at"}
    witness = {"witness": "task run", "ended_by_reaper": "silent", "events": events}
    schedules = resolve("ends", {"ends": {"extends": "vuls-schedule", "alive": [witness]}})
    kept = Memory.open(None).reaped_rows
    assert (
        sweep_once(database_server, resolve("unasked", {"unasked": {"extends": "vuls", "alive": []}}), kept).reaped == 1
    )
    assert sweep_once(database_server, schedules).reaped == 0, "nothing is remembered"
    assert sweep_once(database_server, schedules, kept).reaped == 1
    assert runs.statuses() == ("failed", "failed")


def test_command_makes_no_state_file_beside_a_daemon_that_has_none(reaper: Reaper, runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    clear(reaper, REAPER_STATE_DIR=str(tmp_path / "state"))
    assert runs.statuses() == ("failed", "failed") and list((tmp_path / "state").iterdir()) == []


def test_source_without_a_witness_that_asks_keeps_nothing(
    runs: Runs, reaper: Reaper, state: Memory, tmp_path: Path
) -> None:
    assert state.durable
    reaper.configure(f"{UNASKED}[sources.runs]\nprofile = 'unasked'\n")
    clear(reaper)
    assert runs.statuses() == ("failed", "running")
    assert kept(tmp_path / "state" / FILE) == 0


# --- protea: a child, and its parent ----------------------------------------------------------------------------------


class Family(ProteaWorld):
    """A dead child of a parent that is as silent."""

    def prepare(self) -> None:
        super().prepare()
        self.parent, self.child = (self.job(age=8 * HOUR, sign=2 * HOUR) for _ in range(2))
        self.session.do("UPDATE job SET parent_job_id = %s WHERE id = %s", self.parent, self.child)

    def statuses(self) -> tuple[str, str]:
        """Of the child and of the parent."""
        child, parent = (
            str(self.session.one("SELECT status FROM job WHERE id = %s", job)) for job in (self.child, self.parent)
        )
        return child, parent


@pytest.fixture
def family(database_server: Database) -> Iterator[Family]:
    with Family.create(database_server) as world:
        yield world


def test_parent_gets_its_stall_window_after_the_reaper_has_ended_its_child(
    family: Family, database_server: Database
) -> None:
    kept = Memory.open(None).reaped_rows
    for _ in range(2):
        sweep_once(database_server, resolve("protea"), kept)
    assert family.statuses() == ("failed", "running")


def test_audit_event_shows_a_reapers_end_to_a_process_that_remembers_nothing(
    family: Family, database_server: Database
) -> None:
    profile = resolve("silent", {"silent": SILENT_CHILDREN})
    assert sweep_once(database_server, profile).reaped == 1
    assert family.statuses() == ("failed", "running"), "while the child ran, it kept its parent alive"
    assert sweep_once(database_server, profile).reaped == 1
    assert family.statuses() == ("failed", "failed")


def test_audit_event_with_a_later_moment_too_shows_a_reapers_end(family: Family, database_server: Database) -> None:
    family.session.do("ALTER TABLE job_event ADD COLUMN delete_after timestamp NULL")
    [event] = resolve("protea").actions["fail"].model_dump(by_alias=True, exclude_unset=True)["also"]
    event["values"]["delete_after"] = {"is": "now", "plus": "30d"}
    profile = resolve("silent", {"silent": {**SILENT_CHILDREN, "actions": {"fail": {"also": [event]}}}})
    for _ in range(2):
        assert sweep_once(database_server, profile).reaped == 1
    assert family.statuses() == ("failed", "failed")


def test_event_of_the_same_name_that_is_not_the_reapers_shows_nothing(
    family: Family, database_server: Database
) -> None:
    family.session.do("UPDATE job SET status = 'failed', finished_at = now() WHERE id = %s", family.child)
    family.session.do(
        "INSERT INTO job_event (job_id, event, level, fields) VALUES (%s, 'job.timeout', 'error', '{}')", family.child
    )
    assert sweep_once(database_server, resolve("silent", {"silent": SILENT_CHILDREN})).reaped == 0
    assert family.statuses() == ("failed", "running")


def test_child_that_its_worker_ends_after_the_reaper_is_a_sign_of_life(
    family: Family, database_server: Database
) -> None:
    profile = resolve("silent", {"silent": SILENT_CHILDREN})
    assert sweep_once(database_server, profile).reaped == 1
    family.session.do(f"UPDATE job_event SET ts = {family.database.ago} WHERE job_id = %s", 20 * MINUTE, family.child)
    assert sweep_once(database_server, profile).reaped == 0


# --- what is kept -----------------------------------------------------------------------------------------------------


def kept(file: Path) -> int:
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        number = int(connection.execute(text("SELECT count(*) FROM reaped_row")).scalar_one())
    engine.dispose()
    return number


def test_kept_moments_are_bounded_by_number_and_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaped_rows_module, "MAX_MOMENTS", 5)
    store = Memory.open(tmp_path).reaped_rows
    store.remember("db", "other", ["x"])
    for n in range(4):
        store.remember("db", "task_runs", [f"{n}a", f"{n}b"])
    assert store.moments("db", "task_runs") == ["1b", "2a", "2b", "3a", "3b"]
    assert Memory.open(tmp_path).reaped_rows.moments("db", "other") == ["x"]
    engine = create_engine(f"sqlite:///{tmp_path / FILE}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE reaped_row SET recorded_epoch = recorded_epoch - 8 * 86400"))
    engine.dispose()
    store.remember("db", "task_runs", ["4a"])
    assert store.moments("db", "task_runs") == ["4a"] and kept(tmp_path / FILE) == 1


def test_kept_moments_of_all_tables_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many watched tables must not fill the state file: a halt has its place there, too."""
    monkeypatch.setattr(reaped_rows_module, "MAX_ROWS", 3)
    store = Memory.open(tmp_path).reaped_rows
    for n in range(3):
        store.remember("db", f"task_runs_{n}", ["a", "b"])
    assert [list(store.moments("db", f"task_runs_{n}")) for n in range(3)] == [[], ["b"], ["a", "b"]]


def test_file_that_fails_is_reported_once_and_the_process_still_knows(tmp_path: Path) -> None:
    in_the_way, reports = tmp_path / "state", list[str]()
    in_the_way.write_text("")
    store = Memory.open(in_the_way, reports.append).reaped_rows
    for moment in ("one", "two"):
        store.remember("db", "task_runs", [moment])
    assert store.moments("db", "task_runs") == ["one", "two"] and len(reports) == 1


def test_memory_of_no_reaped_jobs_asks_no_database(tmp_path: Path) -> None:
    source = Source("main", AWAY, resolve("vuls-schedule"), thresholds(), PATIENCE, SourceOptions(remembers=True))
    source.remember_reaped([])
    assert list(tmp_path.iterdir()) == []


# --- the daemon -------------------------------------------------------------------------------------------------------


def reaped_sources(daemon: Daemon) -> list[str]:
    return [line["source"] for line in daemon.log if line["event"] == "Reaped stale job."]


def test_daemon_puts_a_run_and_its_schedule_right_within_its_next_sweeps(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = (
        f"state_dir = '{tmp_path / 'state'}'\ndatabase_url = '{runs.database.url}'\n"
        f"{UNASKED}[sources.runs]\nprofile = 'unasked'\n[sources.schedules]\nprofile = 'vuls-schedule'\n"
    )
    with Daemon(tmp_path, config) as daemon:
        wait_until(lambda: runs.statuses() == ("failed", "failed"), "both are put right", 60)
        wait_until(lambda: reaped_sources(daemon) == ["runs", "schedules"], "both are logged, in this order")

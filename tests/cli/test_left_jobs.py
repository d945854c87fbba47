"""`report`, `explain`, `check` and `fail` say why a silent job is left, and which process has locked what of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reaper.memory import HaltRecord, Memory, RefusedJob
from tests.support.commands import Reaper
from tests.support.waiting import wait_until
from tests.support.worlds import Database
from tests.support.worlds.database import Session
from tests.support.worlds.servers import database_on, mostly_on

PROFILE = """
[sources.app]
profile = "l"
[profiles.l]
time = { naive = "UTC" }
actions.fail.set.state = "failed"
[profiles.l.jobs]
table = "jobs"
key = "id"
started = "started_at"
running = { column = "state", in = ["started"] }
parts = [
    { table = "job_claims", match = { job_id = "id" } },
    { table = "job_locks", match = { job_id = "id" }, where = [{ column = "lock_name", not_in = ["none"] }] },
]
"""
LOCK = "SELECT 1 FROM job_locks WHERE job_id = 1 AND lock_name = 'b' FOR UPDATE"


@dataclass
class Place:
    """A job table with two parts, and the commands on it."""

    database: Database
    session: Session
    reaper: Reaper

    @property
    def moment(self) -> str:
        """The type of moments without a zone."""
        return "timestamp" if "postgresql" in self.database.url else "datetime(6)"

    def job(self, number: int, hours: float = 9) -> None:
        self.session.do(f"INSERT INTO jobs VALUES (%s, 'started', {self.database.naive_ago})", number, hours * 3600)
        for lock in ("a", "b", "none"):
            self.session.do("INSERT INTO job_locks VALUES (%s, %s)", number, lock)

    def states(self) -> dict[int, str]:
        return dict(self.session.ask("SELECT id, state FROM jobs"))

    def left(self, *arguments: str) -> list[str]:
        return [each["reason"] for each in self.reaper.json("explain", *arguments)["left"]]


@pytest.fixture(params=["postgresql", "mariadb"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    moment = "timestamp" if request.param == "postgresql" else "datetime(6)"
    with database_on(request, request.param) as database, database.session(autocommit=True) as session:
        session.do(f"CREATE TABLE jobs (id int PRIMARY KEY, state varchar(9) NOT NULL, started_at {moment} NOT NULL)")
        session.do("CREATE TABLE job_claims (job_id int PRIMARY KEY REFERENCES jobs (id))")
        session.do(
            "CREATE TABLE job_locks (job_id int REFERENCES jobs (id), lock_name varchar(9),"
            " PRIMARY KEY (job_id, lock_name))"
        )
        reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": database.url})
        reaper.configure(PROFILE)
        yield Place(database, session, reaper)


def test_lock_on_a_row_that_belongs_to_a_job_is_told_as_one_on_its_own_row_is(place: Place) -> None:
    place.job(1)
    place.job(2)
    with place.database.session() as worker:
        assert worker.ask(LOCK)
        lock = f"a row of job_locks that belongs to it is locked by process {worker.number} ("

        def reported() -> list[dict[str, Any]]:
            [source] = place.reaper.json("report")["sources"]
            return list(source["jobs"])

        # MariaDB shows transactions as they were up to a tenth of a second ago.
        wait_until(lambda: any(job["holder"] for job in reported()), "the lock is seen")
        held, free = reported()
        assert (held["key"], held["holder"]["pid"], held["holder"]["table"]) == ("1", worker.number, "job_locks")
        assert [each["reason"] for each in held["left"]] == ["locked"] and lock in held["left"][0]["why"]
        assert held["holder"]["user"] and held["holder"]["since"]
        assert (free["holder"], free["left"]) == (None, [])
        assert f"Left: 1: {lock}" in place.reaper("report").stdout
        assert lock in " ".join(place.reaper("explain", "1", COLUMNS="300").stdout.split())
        assert (place.left("1"), place.left("2")) == (["locked"], [])
        assert "1 silent job(s) are left (locked), such as 1: " + lock in place.reaper("check", COLUMNS="300").stdout
        refused = place.reaper("fail", "--yes", "1", "--reason", "test")
        assert refused.exit_code == 1 and f"job 1 is alive: {lock}" in refused.stderr
        assert f"Alive: 1: {lock}" in place.reaper("sweep", "--yes").stdout
        assert place.states() == {1: "started", 2: "failed"}
        worker.rollback()
    assert place.left("1") == []


@mostly_on("postgresql", "place")
def test_row_that_no_profile_counts_as_a_part_locks_no_job(place: Place) -> None:
    """The rows of a part that do not meet its conditions belong to no job."""
    place.job(1)
    with place.database.session() as worker:
        assert worker.ask("SELECT 1 FROM job_locks WHERE job_id = 1 AND lock_name = 'none' FOR UPDATE")
        assert place.left("1") == []
        assert "Reaped 1 stale job(s)." in place.reaper("sweep", "--yes").stdout
        worker.rollback()


@mostly_on("postgresql", "place")
def test_every_guard_that_leaves_a_silent_job_is_named_with_what_is_known_of_it(place: Place) -> None:
    for number in range(1, 4):
        place.job(number)
    state = place.reaper.folder / "state"
    place.reaper.given |= {"REAPER_STATE_DIR": str(state), "REAPER_BREAKER_MIN": "1"}
    memory = Memory.open(state)
    memory.halt.save(HaltRecord("ada", "a deployment"))
    memory.refused_jobs.save("app", [RefusedJob(("2",), 'violates "jobs_state_check"', 1, 60.0)], ())
    assert place.left("1") == ["halt", "breaker"]
    assert place.left("2") == ["refused", "halt", "breaker"]
    shown = place.reaper("report").stdout
    assert "Stale jobs are left: halted by ada (a deployment): nothing is ended until `reaper restart`" in shown
    assert "Stale jobs are left: held by the breaker until it is released: 2 of 2 running jobs fell silent" in shown
    assert shown.count("halted by ada") == 1 and "Left: " not in shown
    found = place.reaper("check", COLUMNS="300").stdout
    assert "3 silent job(s) are left (halt), such as 1: halted by ada" in found
    assert '1 silent job(s) are left (refused), such as 2: refused by the database: violates "jobs_state' in found
    memory.halt.clear()
    memory.refused_jobs.save("app", (), [("2",)])
    place.reaper.given["REAPER_BREAKER_MIN"] = "50"
    assert place.left("2") == []
    assert "are left" not in place.reaper("report").stdout + place.reaper("check").stdout


@mostly_on("postgresql", "place")
def test_jobs_whose_signs_may_be_in_local_time_are_left_by_a_single_sweep_and_check_says_what_to_write(
    place: Place,
) -> None:
    """No command has a second look, which would show whether the signs move."""
    place.session.do(f"ALTER TABLE jobs ADD beat {place.moment}")
    for number in (1, 2, 3):
        place.session.do(
            f"INSERT INTO jobs VALUES (%s, 'started', {place.database.naive_ago}, {place.database.naive_ago})",
            number,
            9 * 3600,
            5 * 3600,
        )
    witness = 'alive = [{ witness = "heartbeat", column = "beat" }]'
    place.reaper.configure(PROFILE.replace('time = { naive = "UTC" }', f'time = "naive"\n{witness}'))
    found = place.reaper("check", COLUMNS="400").stdout
    assert "warning: jobs.beat: may not be in UTC: " in found and "are -05:00 away from the database's clock" in found
    assert 'Say it in the profile, such as times."jobs.beat" = { naive = ' in found
    for options in (["--dry-run"], []):
        assert "jobs.beat may not be in UTC" in place.reaper("sweep", "--yes", *options).stdout
    assert set(place.states().values()) == {"started"}
    place.reaper.configure(PROFILE.replace('time = { naive = "UTC" }', f'time = {{ naive = "UTC" }}\n{witness}'))
    assert "may not be in UTC" not in place.reaper("check").stdout
    assert "Reaped 3 stale job(s)." in place.reaper("sweep", "--yes").stdout


@mostly_on("postgresql", "place")
def test_lease_that_may_be_in_local_time_is_left_by_a_single_sweep_and_check_says_what_to_write(place: Place) -> None:
    place.session.do(f"ALTER TABLE jobs ADD until {place.moment}")
    ago = place.database.naive_ago
    place.session.do(f"INSERT INTO jobs VALUES (1, 'started', {ago}, {ago})", 9 * 3600, 5 * 3600 - 300)
    witness = 'alive = [{ witness = "lease", deadline = "until" }]'
    place.reaper.configure(PROFILE.replace('time = { naive = "UTC" }', f'time = "naive"\n{witness}'))
    found = place.reaper("check", COLUMNS="400").stdout
    assert "warning: jobs.until: may not be in UTC: leases in it ended long ago" in found
    assert 'Say it in the profile, such as times."jobs.until" = { naive = ' in found
    for options in (["--dry-run"], []):
        assert "jobs.until may not be in UTC" in place.reaper("sweep", "--yes", *options).stdout
    assert set(place.states().values()) == {"started"}
    place.reaper.configure(PROFILE.replace('time = { naive = "UTC" }', f'time = {{ naive = "UTC" }}\n{witness}'))
    assert "Reaped 1 stale job(s)." in place.reaper("sweep", "--yes").stdout


@mostly_on("postgresql", "place")
def test_age_and_silence_of_a_job_whose_moments_are_unknown_are_said_to_be_unknown(place: Place) -> None:
    """Seconds in a column of milliseconds, which looked right when the profile was checked."""
    place.session.do("ALTER TABLE jobs ADD beat bigint")
    for number, unit in ((1, 1), (2, 1000)):
        started = f"INSERT INTO jobs VALUES (%s, 'started', {place.database.naive_ago}, %s)"
        place.session.do(started, number, 9 * 3600, int(time.time()) * unit)
    witness = 'alive = [{ witness = "heartbeat", column = "beat" }]\ntimes."jobs.beat" = "epoch ms"'
    place.reaper.configure(PROFILE.replace('time = { naive = "UTC" }', f'time = {{ naive = "UTC" }}\n{witness}'))
    why = "jobs.beat has numbers that can only be seconds, and is read as 'epoch ms'"
    found = place.reaper("check", COLUMNS="400")
    assert "error: jobs.beat: has numbers that can only be seconds" in found.stdout and found.exit_code == 1
    [line] = [line for line in place.reaper("report", COLUMNS="400").stdout.splitlines() if line.startswith("1 ")]
    assert line.split()[:5] == ["1", "spared", "9h", "unknown", "unknown"] and why in line
    explained = place.reaper("explain", "1", COLUMNS="400").stdout
    assert "sign of life: heartbeat  none, or unknown\n" in explained.replace(" " * 3, "  ")
    assert "unknown" in next(line for line in explained.splitlines() if line.startswith("last sign of life"))
    [job] = [job for job in place.reaper.json("report")["sources"][0]["jobs"] if job["key"] == "1"]
    assert (job["silence_seconds"], job["stale_in_seconds"], job["signs"]) == (None, None, {"heartbeat": None})
    assert why in job["unknown"] and place.left("1") == ["unknown"]
    assert why in place.reaper("sweep", "--yes").stdout and set(place.states().values()) == {"started"}

"""`explain` of a job that does not run: its last sign of life, without what its end wrote; and why it does not run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reaper.memory import Memory
from tests.support.commands import Reaper
from tests.support.worlds import Database
from tests.support.worlds.database import Session
from tests.support.worlds.servers import database_on, mostly_on

HOUR = 3600.0

PROFILE = """
[sources.app]
profile = "l"

[profiles.l]
time = { naive = "UTC" }
alive = [
    { witness = "event", events = { table = "notes", job = "job_id", at = "at" } },
    { witness = "heartbeat", column = "heartbeat_at" },
    { witness = "child", children = { parent = "parent_id", at = ["started_at", "finished_at"] } },
]

[profiles.l.jobs]
table = "jobs"
key = "id"
status = "state"
started = "started_at"

[profiles.l.jobs.running]
column = "state"
in = ["started"]
where = [
    { column = "deleted_at", is = "null" },
    { column = "worker", is = "not null" },
    { column = "tries", less_than = 5 },
    { column = "queue", not_in = ["held", "lost"] },
    { sql = "{tries} % 2 = 0", otherwise = "it is locked by no worker" },
    { sql = "{tries} < 9" },
]
missing = [{ table = "notes", match = { job_id = "id" }, where = [{ column = "name", in = ["over", "done"] }] }]

[profiles.l.actions.fail]
set = { state = "failed", heartbeat_at = { is = "now" }, finished_at = { is = "now" } }
"""
AUDITED = """
[[profiles.l.actions.fail.also]]
insert = "notes"
values = { job_id = { column = "id" }, at = { is = "now" }, name = "reaped", detail = { is = "evidence" } }
"""


@dataclass
class Place:
    database: Database
    session: Session
    reaper: Reaper

    def job(self, number: int, *, beat: float = 2 * HOUR, parent: int | None = None, **values: object) -> None:
        ago = self.database.naive_ago
        row = {"state": "started", "deleted": None, "worker": "w", "tries": 0, "queue": "q", **values}
        self.session.do(
            f"INSERT INTO jobs VALUES (%s, %s, {ago}, {ago}, NULL, %s, %s, %s, %s, %s)",
            *(number, row["state"], 9 * HOUR, beat, row["deleted"], row["worker"], row["tries"], row["queue"], parent),
        )

    def note(self, number: int, ago: float, name: str = "progress", detail: str | None = None) -> None:
        self.session.do(f"INSERT INTO notes VALUES (%s, {self.database.naive_ago}, %s, %s)", number, ago, name, detail)

    def explain(self, number: int) -> dict[str, Any]:
        return dict(self.reaper.json("explain", str(number))["job"])


@pytest.fixture(params=["postgresql", "mariadb"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    moment = "timestamp" if request.param == "postgresql" else "datetime"
    with database_on(request, request.param) as database, database.session(autocommit=True) as session:
        session.do(
            f"CREATE TABLE jobs (id int PRIMARY KEY, state varchar(9) NOT NULL, started_at {moment} NOT NULL,"
            f" heartbeat_at {moment}, finished_at {moment}, deleted_at {moment}, worker varchar(9), tries int,"
            " queue varchar(9), parent_id int)"
        )
        session.do(f"CREATE TABLE notes (job_id int, at {moment}, name varchar(9), detail text)")
        reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": database.url, "REAPER_STATE_DIR": str(tmp_path / "state")})
        reaper.configure(PROFILE + AUDITED)
        yield Place(database, session, reaper)


def is_ago(job: dict[str, Any], hours: float) -> bool:
    return bool(abs(job["silence_seconds"] - hours * HOUR) < 120)


def test_what_a_reap_wrote_is_no_sign_of_life_of_the_job_that_it_ended(place: Place) -> None:
    """Its audit event in a table of signs, its columns, and the later end of its child."""
    place.job(1, beat=4 * HOUR)
    place.note(1, 3 * HOUR, "progress", "no JSON")
    assert "Reaped 1 stale job(s)." in place.reaper("sweep", "--yes").stdout
    place.job(2, beat=5 * HOUR, parent=1)
    assert "Reaped 1 stale job(s)." in place.reaper("sweep", "--yes").stdout
    job = place.explain(1)
    assert (job["verdict"], job["witness"]) == ("ended", "event") and is_ago(job, 3)
    # The heartbeat from before the end stands in the audit event alone.
    assert job["signs"]["heartbeat"] is not None and job["signs"]["heartbeat"] < job["signs"]["event"]
    assert job["signs"]["child"] == place.explain(2)["started"]
    assert place.explain(2)["witness"] == "heartbeat" and is_ago(place.explain(2), 5)
    shown = place.reaper("explain", "1", COLUMNS="200").stdout
    assert "(event), 3h" in shown and "reaped" not in shown
    assert "finished_at" not in shown


@mostly_on("postgresql", "place")
def test_sign_of_life_after_the_end_still_counts(place: Place) -> None:
    place.job(1)
    place.reaper("sweep", "--yes")
    place.session.do("UPDATE notes SET detail = NULL WHERE name = 'progress'")
    place.note(1, -30)
    job = place.explain(1)
    assert job["witness"] == "event" and job["silence_seconds"] < 0


@mostly_on("postgresql", "place")
def test_audit_event_is_no_sign_of_life_although_its_evidence_is_too_long_to_be_read(place: Place) -> None:
    place.job(1)
    place.reaper("sweep", "--yes")
    assert place.session.do("UPDATE notes SET detail = %s", f'{{"sweep_id": "1", "filler": "{"x" * 25_000}"}}') == 1
    assert place.explain(1)["signs"]["event"] is None


@mostly_on("postgresql", "place")
def test_jobs_own_end_is_a_sign_of_life(place: Place) -> None:
    place.job(1, state="done", beat=60)
    job = place.explain(1)
    assert (job["verdict"], job["witness"]) == ("ended", "heartbeat") and job["silence_seconds"] < 120


@mostly_on("postgresql", "place")
def test_end_without_an_audit_event_is_explained_from_what_the_state_directory_keeps(place: Place) -> None:
    place.reaper.configure(PROFILE)
    place.job(1, beat=4 * HOUR)
    Memory.open(place.reaper.folder / "state").close()
    place.reaper("sweep", "--yes")
    job, document = place.explain(1), place.reaper.json("explain", "1")
    assert job["witness"] == "heartbeat" and is_ago(job, 4)
    assert [audit["reason"] for audit in document["audits"]] == ["JobTimeout"]
    # Another command, by hand.
    place.job(2, beat=5 * HOUR)
    assert place.reaper("fail", "--yes", "2", "--reason", "test").exit_code == 0
    assert is_ago(place.explain(2), 5)


NOT_RUNNING: Sequence[tuple[dict[str, Any], list[str]]] = [
    ({"state": "done"}, ["its state is done"]),
    ({"deleted": "2026-01-01 00:00:00"}, ["its deleted_at is set (2026-01-01 00:00:00)"]),
    ({"worker": None}, ["its worker is not set"]),
    ({"tries": 6}, ["its tries is 6, not less than 5"]),
    ({"tries": 1}, ["it is locked by no worker"]),
    ({"queue": "lost"}, ["its queue is lost"]),
    ({"queue": None}, ["its queue is not set"]),
    (
        {"state": "done", "worker": None, "tries": 10},
        [
            "its state is done",
            "its worker is not set",
            "its tries is 10, not less than 5",
            "the condition {tries} < 9 does not hold",
        ],
    ),
]


def test_job_does_not_run_for_the_conditions_that_do_not_hold(place: Place) -> None:
    for number, (values, why) in enumerate(NOT_RUNNING):
        place.job(number, **values)
        job = place.explain(number)
        assert (job["verdict"], job["not_running"], job["why"]) == ("ended", why, " and ".join(why)), values
    refused = place.reaper("fail", "--yes", str(number), "--reason", "test")
    assert refused.exit_code == 1 and f"is not running: {why[0]}" in refused.stderr


@mostly_on("postgresql", "place")
def test_job_does_not_run_for_a_row_of_another_table(place: Place) -> None:
    place.job(1)
    place.note(1, HOUR, "over")
    assert place.explain(1)["why"] == "a row of notes belongs to it with name over or done"
    place.job(2, state="started")
    assert (place.explain(2)["verdict"], place.explain(2)["not_running"]) == ("stale", [])

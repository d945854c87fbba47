"""A choice takes one of two actions for each job: shown beforehand, written behind the locks, and kept in the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reaper.profile import Delete, resolve
from reaper.source import Source, SourceOptions
from reaper.source.deleted_rows import MAX_LENGTH, MAX_ROWS
from tests.support.commands import Reaper
from tests.support.protea import HOUR, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds.adhese import AdheseWorld
from tests.support.worlds.database import Database
from tests.support.worlds.servers import database_on
from tests.support.worlds.world import State

CHOICE = "delete_remote_else_complete"


class RemoteJobs(AdheseWorld):
    """Jobs of one partial result, beside the remote ones, which have two."""

    action = CHOICE

    def local_job(self) -> str:
        """A stale job whose only partial result runs."""
        job = self.stale_job()
        self.session.do("DELETE FROM \"PARTIAL_JOB_RESULTS\" WHERE job_result_id = %s AND state = 'completed'", job)
        return job

    def exists(self, job: str) -> bool:
        return bool(self.session.one('SELECT count(*) FROM "JOB_RESULTS" WHERE id = %s', job))

    def partials(self, job: str) -> list[tuple[Any, ...]]:
        columns = "state, duration, result_code"
        return self.session.ask(
            f'SELECT {columns} FROM "PARTIAL_JOB_RESULTS" WHERE job_result_id = %s ORDER BY id', job
        )


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database."""
    with database_on(request, request.param) as made:
        yield made


@pytest.fixture
def jobs(database: Database) -> Iterator[RemoteJobs]:
    with RemoteJobs.create(database) as world:
        yield world


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Database) -> Reaper:
    """Its only source makes the choice."""
    monkeypatch.chdir(tmp_path)
    given = {"REAPER_PROFILE": "adhese", "REAPER_ACTION": CHOICE, "REAPER_LOG_FILE": str(tmp_path / "reaper.log")}
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database.url, **given})


def logged(reaper: Reaper) -> dict[str, Any]:
    """The log line of each ended job."""
    lines = map(json.loads, (reaper.folder / "reaper.log").read_text().splitlines())
    return {line["job"]: line for line in lines if line["event"] == "Reaped stale job."}


def test_each_job_gets_the_action_that_was_shown_before(jobs: RemoteJobs, reaper: Reaper) -> None:
    remote, local = jobs.stale_job(), jobs.local_job()
    shown = {job["key"]: job for job in reaper.json("report")["sources"][0]["jobs"]}
    assert {key: job["action"] for key, job in shown.items()} == {remote: "delete", local: "complete"}
    assert shown[remote]["why"].endswith("its action is delete")
    preview = reaper.json("sweep", "--dry-run")["sources"][0]["would_reap"]
    assert {job["key"]: job["action"] for job in preview} == {remote: "delete", local: "complete"}
    assert "its action is complete" in " ".join(reaper("sweep", "--dry-run", COLUMNS="400").stdout.split())
    before = jobs.dump()

    assert reaper.json("sweep", "--yes")["sources"][0]["reaped"] == 2
    assert not jobs.exists(remote) and jobs.partials(remote) == []
    assert jobs.partials(local) == [("completed", 1, "ok")]
    evidence = {job: line["evidence"]["action"] for job, line in logged(reaper).items()}
    assert evidence == {remote: "delete", local: "complete"}
    assert before != jobs.dump()


def test_log_keeps_the_rows_that_were_deleted(jobs: RemoteJobs, reaper: Reaper) -> None:
    remote, local = jobs.stale_job(), jobs.local_job()
    ids = [
        str(id_) for (id_,) in jobs.session.ask('SELECT id FROM "PARTIAL_JOB_RESULTS" WHERE job_result_id = %s', remote)
    ]
    schedule = str(jobs.session.one('SELECT job_id FROM "JOB_RESULTS" WHERE id = %s', remote))
    reaper("sweep", "--yes")
    result, partials = logged(reaper)[remote]["deleted"]
    assert (result["table"], result["total"]) == ("JOB_RESULTS", 1)
    [row] = result["rows"]
    assert (row["id"], row["job_id"], row["state"], row["end_time"]) == (remote, schedule, "running", None)
    assert row["scheduled_start"].startswith("20")
    assert (partials["table"], partials["total"]) == ("PARTIAL_JOB_RESULTS", 2)
    first, second = sorted(partials["rows"], key=lambda row: int(row["id"]))
    assert [first["id"], second["id"]] == sorted(ids, key=int)
    assert (first["state"], first["duration"], first["result_code"]) == ("completed", "9", "empty")
    assert (second["state"], second["duration"], second["result_code"]) == ("running", None, None)
    assert "deleted" not in logged(reaper)[local]


def test_each_job_keeps_only_the_rows_that_its_own_action_deleted(jobs: RemoteJobs) -> None:
    """Both actions delete; each keeps other columns of other tables."""
    remote, local = jobs.stale_job(), jobs.local_job()
    profile = resolve(jobs.profile)
    delete = profile.actions["delete"]
    without_partials = [step.model_copy(update={"keep": ()}) for step in delete.also if isinstance(step, Delete)]
    discard = delete.model_copy(update={"keep": ("state",), "also": tuple(without_partials)})
    choice = profile.choices[CHOICE].model_copy(update={"otherwise": "discard"})
    update = {"actions": {**profile.actions, "discard": discard}, "choices": {CHOICE: choice}}
    options = SourceOptions(action=CHOICE)
    source = Source("main", jobs.database.url, profile.model_copy(update=update), thresholds(), PATIENCE, options)
    recorder = SweepRecorder()
    assert jobs.sweep(source, recorder=recorder).reaped == 2
    kept = {
        job.key: [(rows.table, rows.total, set(rows.rows[0])) for rows in job.deleted] for job in recorder.reaped_jobs
    }
    of_partials = {"id", "state", "duration", "result_code", "start_time", "end_time"}
    assert kept == {
        (remote,): [("JOB_RESULTS", 1, set(delete.keep)), ("PARTIAL_JOB_RESULTS", 2, of_partials)],
        (local,): [("JOB_RESULTS", 1, {"state"})],
    }


def test_sources_alike_that_share_their_statements_keep_the_rows_that_each_deleted(jobs: RemoteJobs) -> None:
    sources = [jobs.source(), jobs.source()]
    for source in sources:
        job, recorder = jobs.stale_job(), SweepRecorder()
        assert jobs.sweep(source, recorder=recorder).reaped == 1
        [ended] = recorder.reaped_jobs
        assert ended.key == (job,) and [rows.table for rows in ended.deleted] == ["JOB_RESULTS", "PARTIAL_JOB_RESULTS"]
    assert len({id(source.profile.actions["delete"]) for source in sources}) == 1


def test_log_keeps_the_first_rows_and_the_start_of_long_values(jobs: RemoteJobs, reaper: Reaper) -> None:
    job = jobs.stale_job()
    if jobs.database.url.startswith("postgresql"):
        jobs.session.do('ALTER TABLE "PARTIAL_JOB_RESULTS" ALTER result_code TYPE text')
    else:
        jobs.session.do('ALTER TABLE "PARTIAL_JOB_RESULTS" MODIFY result_code text')
    for _ in range(MAX_ROWS):
        jobs.session.do(
            "INSERT INTO \"PARTIAL_JOB_RESULTS\" (job_result_id, state, result_code) VALUES (%s, 'completed', %s)",
            job,
            "x" * (MAX_LENGTH + 1),
        )
    reaper("sweep", "--yes")
    _, partials = logged(reaper)[job]["deleted"]
    assert (partials["total"], len(partials["rows"])) == (MAX_ROWS + 2, MAX_ROWS)
    long = {row["result_code"] for row in partials["rows"]} - {None, "empty"}
    assert long == {"x" * MAX_LENGTH + "…"}


def test_job_that_gets_a_second_partial_result_before_the_lock_is_deleted(jobs: RemoteJobs) -> None:
    """The survey shows one action; what counts is what is there behind the locks."""
    job = jobs.local_job()
    assert jobs.explain(job)[0].action == "complete"
    jobs.session.do(
        'INSERT INTO "PARTIAL_JOB_RESULTS" (job_result_id, start_time, end_time)'
        f" VALUES (%s, {jobs.database.naive_ago}, {jobs.database.naive_ago})",
        job,
        2 * HOUR,
        2 * HOUR,
    )
    assert jobs.sweep().reaped == 1
    assert not jobs.exists(job)


def test_alive_job_is_spared_whatever_its_action_would_be(jobs: RemoteJobs) -> None:
    job = jobs.alive_job()
    assert jobs.sweep().reaped == 0
    assert jobs.state(job) is State.RUNNING


def test_choice_needs_only_the_privileges_that_grants_prints(jobs: RemoteJobs) -> None:
    remote, local = jobs.stale_job(), jobs.local_job()
    with jobs.restricted():
        assert jobs.sweep().reaped == 2
    assert not jobs.exists(remote)
    assert jobs.partials(local) == [("completed", 1, "ok")]


def test_source_deletes_nothing_unless_it_names_the_choice(jobs: RemoteJobs, reaper: Reaper) -> None:
    remote = jobs.stale_job()
    report = reaper.json("report", REAPER_ACTION="fail")["sources"][0]["jobs"]
    assert [job["action"] for job in report] == [None]
    reaper("sweep", "--yes", REAPER_ACTION="fail")
    assert jobs.exists(remote)


def test_reset_does_not_show_the_action_of_sweeps(jobs: RemoteJobs, reaper: Reaper) -> None:
    remote = jobs.stale_job()
    [shown] = reaper.json("reset", "--source", "default", "--dry-run")["first"]
    assert (shown["key"], shown["action"]) == (remote, None)


def test_operator_can_take_the_choice_for_a_named_job(jobs: RemoteJobs, reaper: Reaper) -> None:
    remote, local = jobs.stale_job(), jobs.local_job()
    for job in (remote, local):
        ended = reaper("fail", "--yes", job, "--action", CHOICE, "--reason", "its server is gone", REAPER_ACTION="fail")
        assert ended.exit_code == 0, ended.output
    assert not jobs.exists(remote)
    assert jobs.partials(local) == [("completed", 1, "ok")]
    assert {job: line["evidence"]["action"] for job, line in _manual(reaper).items()} == {
        remote: "delete",
        local: "complete",
    }


def _manual(reaper: Reaper) -> dict[str, Any]:
    lines = map(json.loads, (reaper.folder / "reaper.log").read_text().splitlines())
    return {line["job"]: line for line in lines if line.get("reason") == "ManualTimeout"}

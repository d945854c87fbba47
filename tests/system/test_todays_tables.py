"""The commands on the tables that the systems have today, with nothing but a URL and a profile's name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.event import listens_for

from reaper.profile import resolve
from reaper.source import Source
from tests.support.commands import AWAY, Reaper
from tests.support.mariadb import statements
from tests.support.protea import HOUR, PATIENCE, thresholds
from tests.support.sql_clients import paste
from tests.support.worlds import State
from tests.support.worlds.database import Database, Session
from tests.support.worlds.noetl import NoetlTodayWorld
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.protea import ProteaTodayWorld
from tests.support.worlds.servers import database_on, mostly_on


def reaper_of(folder: Path, database: Database, profile: str) -> Reaper:
    return Reaper(folder, {"REAPER_DATABASE_URL": database.url, "REAPER_PROFILE": profile})


def findings(reaper: Reaper) -> dict[str, list[str]]:
    """What `reaper check` says, by level; without the note about the test's young server."""
    [source] = reaper.json("check")["sources"]
    said: dict[str, list[str]] = {"error": [], "warning": [], "note": []}
    for finding in source["findings"]:
        if finding["subject"] != "server":
            said[finding["level"]].append(f"{finding['subject']}: {finding['message']}")
    return said


# --- PROTEA ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def protea_today(empty: PostgreSQLDatabase) -> Iterator[ProteaTodayWorld]:
    with ProteaTodayWorld.create(empty) as world:
        yield world


@pytest.fixture
def protea_reaper(protea_today: ProteaTodayWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reaper:
    monkeypatch.chdir(tmp_path)
    return reaper_of(tmp_path, protea_today.database, "protea")


SPELLED = (
    "job.status: the database spells these values in another case: running is RUNNING, queued is QUEUED, succeeded is "
    "SUCCEEDED, failed is FAILED, cancelled is CANCELLED"
)


def test_check_notes_the_case_of_protea_and_finds_nothing_wrong(protea_reaper: Reaper) -> None:
    assert findings(protea_reaper) == {"error": [], "warning": [], "note": [SPELLED]}


def test_config_show_names_what_is_spelled_in_another_case(protea_reaper: Reaper) -> None:
    rows = {row["name"]: (row["value"], row["origin"]) for row in protea_reaper.json("config", "show")["values"]}
    assert rows["sources.default.spelling"] == (SPELLED, "database")
    assert rows["sources.default.profile"] == ("protea", "REAPER_PROFILE")


def test_config_show_works_while_the_database_is_away(tmp_path: Path) -> None:
    shown = Reaper(tmp_path, {"REAPER_DATABASE_URL": AWAY})("config", "show")
    assert shown.exit_code == 0 and "sources.default.spelling" not in shown.stdout
    assert "whether its database spells names in another case is not known" in shown.stderr


def test_stale_job_of_protea_is_swept_explained_and_purged(
    protea_reaper: Reaper, protea_today: ProteaTodayWorld
) -> None:
    stale, alive = protea_today.stale_job(), protea_today.alive_job()
    assert [job["key"] for job in protea_reaper.json("report")["sources"][0]["jobs"]] == [stale, alive]
    assert "Reaped 1 stale job(s)." in protea_reaper("sweep", "--yes").output
    assert (protea_today.state(stale), protea_today.state(alive)) == (State.REAPED, State.RUNNING)
    [(level, fields)] = protea_today.session.ask(
        "SELECT level, fields FROM job_event WHERE job_id = %s AND event = 'job.timeout' AND ts IS NOT NULL", stale
    )
    assert level == "error" and fields["reason"] == "JobTimeout"
    explained = protea_reaper("explain", stale).output
    assert "its status is FAILED" in explained and re.search(r"ended +JobTimeout", explained)
    protea_today.session.do("UPDATE job SET finished_at = now() - interval '40 days' WHERE id = %s", stale)
    assert "Purged 1 finished job(s)." in protea_reaper("purge", "--force").output
    assert protea_today.session.one("SELECT count(*) FROM job") == 1


def test_named_job_of_protea_is_failed(protea_reaper: Reaper, protea_today: ProteaTodayWorld) -> None:
    job = protea_today.alive_job()
    assert protea_reaper("fail", "--yes", job, "--reason", "the queue was drained").exit_code == 0
    assert protea_today.session.ask("SELECT status::text, error_code FROM job") == [("FAILED", "ManualTimeout")]


def test_fence_of_protea_holds_a_late_finish_and_lets_a_new_start_through(
    protea_reaper: Reaper, protea_today: ProteaTodayWorld
) -> None:
    assert "The fence is installed." in protea_reaper("fence", "install", "--force").output
    job = protea_today.stale_job()
    protea_reaper("sweep", "--yes")
    protea_today.session.do("UPDATE job SET status = 'SUCCEEDED' WHERE id = %s", job)
    assert protea_today.state(job) is State.REAPED
    protea_today.session.do("UPDATE job SET status = 'QUEUED', started_at = NULL WHERE id = %s", job)
    assert protea_today.session.one("SELECT status::text FROM job") == "QUEUED"
    assert protea_reaper("fence", "status").exit_code == 0


def test_statements_are_printed_as_the_database_spells_them(protea_reaper: Reaper) -> None:
    assert "'FAILED'" in protea_reaper("sql").output and "'failed'" not in protea_reaper("sql").output
    assert "'FAILED'" not in protea_reaper("sql", "--offline").output
    away = protea_reaper("sql", REAPER_DATABASE_URL=AWAY)
    assert away.exit_code == 0 and "'failed'" in away.stdout
    assert "names and values are printed as the profile spells them" in away.stderr


def test_least_role_of_protea_sweeps(protea_reaper: Reaper, protea_today: ProteaTodayWorld) -> None:
    job = protea_today.stale_job()
    with protea_today.restricted():
        report = protea_today.sweep()
        assert (report.error, report.reaped, protea_today.state(job)) == (None, 1, State.REAPED)
    assert "GRANT" in protea_reaper("grants").output


def test_survey_of_protea_uses_the_index_on_the_status(protea_today: ProteaTodayWorld) -> None:
    protea_today.session.do(
        "INSERT INTO job (id, operation, queue_name, status, payload, meta, created_at, started_at)"
        " SELECT gen_random_uuid(), 'embed', 'q', (ARRAY['RUNNING', 'SUCCEEDED'])[1 + sign(n % 1000)]::job_status,"
        " '{}', '{}', now() - interval '9 h', now() - interval '9 h' FROM generate_series(1, 20000) n"
    )
    protea_today.session.do("ANALYZE job")
    source = protea_today.source()
    seen: list[tuple[str, Any]] = []

    @listens_for(source.engine, "before_cursor_execute")
    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        seen.append((statement, parameters))

    assert protea_today.sweep(source).reaped == 20
    [(survey, values)] = [pair for pair in seen if "past_timeout" in pair[0]]
    with source.connect() as connection:
        plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {survey}", values))
    assert "job_status_created_at_idx" in plan and "Seq Scan on job" not in plan, plan


# --- more than the case ----------------------------------------------------------------------------------------------


def test_label_that_differs_by_more_than_case_is_an_error_with_its_lines(
    protea_reaper: Reaper, protea_today: ProteaTodayWorld
) -> None:
    protea_today.session.do("ALTER TYPE job_status RENAME VALUE 'FAILED' TO 'FAILURE'")
    said = protea_reaper("check")
    assert said.exit_code == 1 and "did you mean 'FAILURE'?" in said.output
    assert "[profiles.protea]" in said.output and 'status = "FAILURE"' in said.output
    lines = "\n".join(line.strip() for line in said.output.splitlines() if line.startswith("    "))
    protea_reaper.configure(f"{lines}\n")
    assert findings(protea_reaper)["error"] == []
    job = protea_today.stale_job()
    assert "Reaped 1 stale job(s)." in protea_reaper("sweep", "--yes").output
    assert protea_today.session.one("SELECT status::text FROM job WHERE id = %s", job) == "FAILURE"


# --- NoETL -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def noetl_today(empty: PostgreSQLDatabase) -> Iterator[NoetlTodayWorld]:
    with NoetlTodayWorld.create(empty) as world:
        yield world


@pytest.fixture
def noetl_reaper(noetl_today: NoetlTodayWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reaper:
    monkeypatch.chdir(tmp_path)
    return reaper_of(tmp_path, noetl_today.database, "noetl")


def test_check_finds_nothing_wrong_with_noetl(noetl_reaper: Reaper, noetl_today: NoetlTodayWorld) -> None:
    noetl_today.stale_job()
    found = findings(noetl_reaper)
    assert (found["error"], found["warning"]) == ([], [])
    assert all("would be faster" in note for note in found["note"])


@pytest.mark.parametrize("command", [("sweep", "--yes"), ("cleanup", "--older-than-minutes", "60", "--force")])
def test_cancelled_execution_is_written_as_noetls_own_clean_up_writes_it(
    command: tuple[str, ...], noetl_reaper: Reaper, noetl_today: NoetlTodayWorld
) -> None:
    job, alive = noetl_today.stale_job(), noetl_today.alive_job()
    assert noetl_reaper(*command).exit_code == 0
    assert (noetl_today.state(job), noetl_today.state(alive)) == (State.REAPED, State.RUNNING)
    [(payload, codec, status, event_id)] = noetl_today.session.ask(
        "SELECT payload, payload_codec, status, event_id FROM noetl.outbox"
    )
    assert (codec, status) == ("json", "PENDING")
    expected = {
        "event_id": event_id,
        "execution_id": int(job),
        "catalog_id": 5,
        "event_type": "execution.cancelled",
        "node_id": "cleanup",
        "node_name": "cleanup",
        "status": "CANCELLED",
        "result": {"status": "CANCELLED"},
    }
    assert {name: payload[name] for name in expected} == expected
    assert set(payload) == {*expected, "meta", "created_at", "event_time", "ingest_time"}
    assert payload["meta"]["auto_cancelled"] is True and payload["meta"]["reason"].startswith("No sign of life")


def test_role_without_the_sequence_of_the_outbox_sweeps(noetl_today: NoetlTodayWorld) -> None:
    noetl_today.stale_job()
    with noetl_today.restricted() as role:
        noetl_today.session.do(f"REVOKE USAGE ON SEQUENCE noetl.outbox_outbox_id_seq FROM {role}")
        report = noetl_today.sweep()
    assert (report.error, report.reaped, report.spelling) == (
        None,
        1,
        ("noetl.outbox: is left alone: the role may not use the sequence of 'outbox_id'",),
    )


def test_role_without_insert_on_the_outbox_sweeps_and_check_says_so(
    noetl_reaper: Reaper, noetl_today: NoetlTodayWorld
) -> None:
    job = noetl_today.stale_job()
    with noetl_today.restricted() as role:
        noetl_today.session.do(f"REVOKE INSERT (payload) ON noetl.outbox FROM {role}")
        found = findings(reaper_of(noetl_reaper.folder, _as_reaper(noetl_today.database), "noetl"))
        assert "noetl.outbox: is left alone: the role may not INSERT into 'payload'" in found["note"]
        assert any("noetl.outbox" in note and "may not INSERT" in note for note in found["note"][1:])
        assert found["error"] == []
        report = noetl_today.sweep()
    assert (report.error, report.reaped) == (None, 1)
    assert noetl_today.session.ask("SELECT status FROM noetl.event WHERE event_type = 'execution.cancelled'") == [
        ("CANCELLED",)
    ]
    assert noetl_today.session.one("SELECT count(*) FROM noetl.outbox") == 0 and job


def _as_reaper(database: Database) -> Database:
    return PostgreSQLDatabase(database.reaper)


# --- adhese in lower case --------------------------------------------------------------------------------------------


class LowerAdhese:
    """adhese's tables with names in lower case, as they are where they were typed without quotes."""

    def __init__(self, database: Database, session: Session, server: str) -> None:
        self.database, self.session, suffix = database, session, "" if server == "postgresql" else f".{server}"
        script = resources.files("reaper.profiles").joinpath(f"adhese{suffix}.sql").read_text()
        lowered = re.sub(r"[\"`]([A-Z_]+)[\"`]", lambda name: name[1].lower(), script)
        for statement in [lowered] if server == "postgresql" else statements(lowered):
            session.do(statement)

    def hanging(self, *, schedule_moved: bool = False) -> int:
        """A run that hangs with one running partial job. Returns its id."""
        ago = self.database.naive_ago
        schedule = self.session.one(
            f"INSERT INTO scheduled_jobs (scheduled_start, interval_seconds) VALUES ({ago}, 120) RETURNING id",
            0 if schedule_moved else 9 * HOUR,
        )
        job = int(
            self.session.one(
                f"INSERT INTO job_results (job_id, scheduled_start, start_time) VALUES (%s, {ago}, {ago}) RETURNING id",
                schedule,
                9 * HOUR,
                9 * HOUR,
            )
        )
        self.session.do(
            f"INSERT INTO partial_job_results (job_result_id, start_time) VALUES (%s, {ago})", job, 9 * HOUR
        )
        return job


@pytest.fixture(params=["postgresql", "mariadb"])
def lower_adhese(request: pytest.FixtureRequest) -> Iterator[LowerAdhese]:
    with database_on(request, request.param) as database, database.session(autocommit=True) as session:
        yield LowerAdhese(database, session, request.param)


def test_adhese_in_lower_case_is_checked_and_swept(
    lower_adhese: LowerAdhese, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reaper = reaper_of(tmp_path, lower_adhese.database, "adhese")
    lower_adhese.hanging()
    found = findings(reaper)
    assert found["error"] == []
    assert "JOB_RESULTS: the database spells this table 'job_results'" in found["note"]
    assert "Reaped 1 stale job(s)." in reaper("sweep", "--yes").output
    assert lower_adhese.session.ask("SELECT state FROM job_results") == [("completed",)]
    assert lower_adhese.session.ask("SELECT state, duration, result_code FROM partial_job_results") == [
        ("completed", 1, "ok")
    ]


@mostly_on("mariadb", "lower_adhese")
@pytest.mark.parametrize("action", ["complete", "delete"])
def test_actions_of_adhese_work_in_lower_case(
    action: str, lower_adhese: LowerAdhese, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = lower_adhese.hanging()
    reaper = reaper_of(tmp_path, lower_adhese.database, "adhese")
    assert reaper("fail", "--yes", str(job), "--action", action, "--reason", "hangs").exit_code == 0
    rows = 0 if action == "delete" else 1
    assert lower_adhese.session.one("SELECT count(*) FROM job_results") == rows
    assert lower_adhese.session.one("SELECT count(*) FROM partial_job_results") == rows


@mostly_on("postgresql", "lower_adhese")
@pytest.mark.parametrize("action", ["complete", "delete"])
def test_recipes_have_the_names_in_lower_case(
    action: str, lower_adhese: LowerAdhese, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = lower_adhese.hanging()
    reaper = reaper_of(tmp_path, lower_adhese.database, "adhese")
    found = {recipe["action"]: recipe["lines"] for recipe in reaper.json("sql", "--job", str(job))["recipes"]}
    assert "ERROR" not in paste(lower_adhese.database, "\n".join(found[action]))
    ended = [] if action == "delete" else [("completed", 1, "ok")]
    assert lower_adhese.session.ask("SELECT state, duration, result_code FROM partial_job_results") == ended
    assert lower_adhese.session.one("SELECT count(*) FROM job_results WHERE state = 'running'") == 0
    moved = lower_adhese.session.one("SELECT count(*) FROM scheduled_jobs s JOIN job_results r USING (scheduled_start)")
    assert moved == 0


def test_choice_counts_rows_and_log_keeps_them_in_lower_case(
    lower_adhese: LowerAdhese, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    remote, local = lower_adhese.hanging(), lower_adhese.hanging()
    old = lower_adhese.database.naive_ago
    lower_adhese.session.do(
        f"INSERT INTO partial_job_results (job_result_id, start_time) VALUES (%s, {old})", remote, 9 * HOUR
    )
    reaper = reaper_of(tmp_path, lower_adhese.database, "adhese")
    result = reaper("sweep", "--yes", REAPER_ACTION="delete_remote_else_complete", REAPER_LOG_FORMAT="json")
    assert result.exit_code == 0
    assert lower_adhese.session.ask("SELECT id, state FROM job_results") == [(local, "completed")]
    logged = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    [line] = [line for line in logged if line["job"] == str(remote)]
    assert [(rows["table"], rows["total"]) for rows in line["deleted"]] == [
        ("job_results", 1),
        ("partial_job_results", 2),
    ]


def test_sql_of_the_document_can_be_typed_as_it_stands(empty: PostgreSQLDatabase, tmp_path: Path) -> None:
    """Its names have no quotes: PostgreSQL folds them to lower case, and finds tables that were made in this way."""
    with empty.session(autocommit=True) as session:
        lower = LowerAdhese(empty, session, "postgresql")
        session.do(
            "INSERT INTO scheduled_jobs (id, scheduled_start, interval_seconds) VALUES (2, '2015-03-11 00:28', 120)"
        )
        for id_, job in ((4, 2), (5, 2)):
            session.do(
                "INSERT INTO job_results (id, job_id, scheduled_start, start_time)"
                " VALUES (%s, %s, timestamp '2015-03-11 00:28' - make_interval(mins => %s), '2015-03-11 00:28')",
                id_,
                job,
                2 * (5 - id_),
            )
            session.do("INSERT INTO partial_job_results (id, job_result_id) VALUES (%s, %s)", id_, id_)
        typed = """
            update SCHEDULED_JOBS set scheduled_start = '2015-03-11 00:30:00' where id = 2;
            update PARTIAL_JOB_RESULTS set state = 'completed', duration = 1, result_code = 'ok' where id = 4;
            select id from JOB_RESULTS where scheduled_start = '2015-03-11 00:28:00' and job_id = 2;
            delete from PARTIAL_JOB_RESULTS where job_result_id = 5;
            delete from JOB_RESULTS where id = 5;
        """
        assert "ERROR" not in paste(lower.database, typed)
        assert session.ask("SELECT id FROM job_results") == [(4,)]
        assert session.ask("SELECT duration, result_code FROM partial_job_results") == [(1, "ok")]


def test_replicas_in_two_schemas_have_leases_of_their_own(empty: PostgreSQLDatabase) -> None:
    """The lease is of the table, which is known by its own spelling: a schema for each tenant shares no lease."""
    leases = []
    with empty.session(autocommit=True) as session:
        for tenant in ("one", "two"):
            session.do(f"CREATE SCHEMA {tenant}")
            session.do(f"SET search_path = {tenant}")
            script = resources.files("reaper.profiles").joinpath("adhese.sql").read_text()
            session.do(re.sub(r'"([A-Z_]+)"', lambda name: name[1].lower(), script))
            session.do("RESET search_path")
            url = f"{empty.url}&options=-csearch_path%3D{tenant}"
            source = Source("main", url, resolve("adhese"), thresholds(), PATIENCE)
            with source.connect():
                leases.append(source.lease(60))
    assert [lease.acquire() for lease in leases] == [True, True]
    for lease in leases:
        lease.release()

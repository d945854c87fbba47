"""The API over a real daemon and a real database: what is seen, and what is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.api import OPERATOR, TOKEN, Answer, ApiDaemon, shared_daemon
from tests.support.protea import HOUR, MINUTE, Protea
from tests.support.waiting import wait_until

running, daemon, protea = shared_daemon("api")


def seen(daemon: ApiDaemon, job: str) -> str:
    """The start that the API shows for a job."""
    return str(daemon.api.job(job).json["job"]["started"])


# --- looking -------------------------------------------------------------------------------------------------


def test_jobs_are_listed_in_pages_with_verdict_and_reason(daemon: ApiDaemon, protea: Protea) -> None:
    stale = protea.stale(age=9 * HOUR, operation="embed")
    spared = protea.job(age=8 * HOUR, operation="predict")
    protea.event(spared, age=MINUTE)
    young = protea.job(age=MINUTE, operation="embed")

    def shown(query: str) -> list[str]:
        [source] = daemon.api.get(f"/api/jobs?{query}").json["sources"]
        return [job["id"] for job in source["jobs"]]

    whole = daemon.api.get("/api/jobs").json
    [source] = whole["sources"]
    assert (whole["limit"], whole["offset"], source["more"]) == (50, 0, False)
    assert source["census"]["running"] == 3
    assert source["census"]["stale"] == 1
    assert [(job["id"], job["verdict"]) for job in source["jobs"]] == [
        (stale, "stale"),
        (spared, "spared"),
        (young, "young"),
    ]
    assert source["jobs"][0]["why"].startswith("no sign of life for 2h")
    assert shown("verdict=spared") == [spared]
    assert shown("kind=embed") == [stale, young]
    assert shown("kind=nothing") == []
    assert shown("limit=1&offset=1") == [spared]
    assert shown("source=default&offset=3") == []
    assert daemon.api.get("/api/jobs?limit=2").json["sources"][0]["more"] is True


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("verdict=stael", "query verdict: "),
        ("limit=0", "query limit: "),
        ("limit=201", "query limit: "),
        ("offset=99999999999999999999", "query offset: "),
        ("kind=%00", "query kind: expected a text without NUL"),
        ("kinds=embed", "did you mean 'kind'?"),
    ],
)
def test_wrong_query_parameter_is_answered_with_its_name(daemon: ApiDaemon, query: str, said: str) -> None:
    answer = daemon.api.get(f"/api/jobs?{query}")
    assert answer.status == 422
    assert said in answer.detail


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ("/jobs?status=running", "/api/jobs"),
        ("/jobs?status=RUNNING", "/api/jobs"),
        ("/jobs", "/api/jobs"),
        ("/jobs?status=running&verdict=stale&kind=a%26b&limit=7", "/api/jobs?verdict=stale&kind=a%26b&limit=7"),
    ],
)
def test_address_of_proteas_document_leads_to_the_running_jobs(daemon: ApiDaemon, asked: str, place: str) -> None:
    answer = daemon.api.get(asked)
    assert (answer.status, answer.headers["location"]) == (307, place)
    assert daemon.api.get(place).status == 200


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("status=failed", "query status: "),
        ("stauts=running", "did you mean 'status'?"),
        ("limit=0", "query limit: "),
    ],
)
def test_other_parameters_at_the_address_of_proteas_document_are_refused(
    daemon: ApiDaemon, query: str, said: str
) -> None:
    answer = daemon.api.get(f"/jobs?{query}")
    assert answer.status == 422
    assert said in answer.detail


def test_job_is_explained_running_or_not(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    running = daemon.api.job(job).json
    assert running["source"] == "default"
    assert running["job"]["verdict"] == "stale"
    assert running["actions"] == ["fail"]
    assert running["ended"] is None and running["audits"] == []

    assert daemon.api.end("fail", job, running["job"]["started"]).status == 200
    ended = daemon.api.job(job).json
    assert ended["job"]["verdict"] == "ended"
    assert ended["ended"]["by"].startswith(f"{OPERATOR} over HTTP from 127.0.0.1:")
    assert ended["audits"][0]["reason"] == "ManualTimeout"
    assert ended["audits"][0]["operator"] == ended["ended"]["by"]


@pytest.mark.parametrize(
    "name",
    ["nothing", "a/b", "%", "é☃", "x" * 1000, "a,b", '"', "\0", ".", "", "\n", "a\nb/c"],
)
def test_unknown_job_is_not_found_whatever_its_name(daemon: ApiDaemon, name: str) -> None:
    answer = daemon.api.job(name)
    assert (answer.status, answer.detail.startswith("source default: ")) == (404, True), answer.text
    assert daemon.api.end("fail", name, None).status == 404


def test_unknown_source_is_refused_with_the_nearest_name(daemon: ApiDaemon) -> None:
    for answer in (
        daemon.api.get("/api/jobs?source=defautl"),
        daemon.api.job("x", "defautl"),
        daemon.api.end("fail", "x", None, "defautl"),
        daemon.api.post("/api/sweeps", {"source": "defautl"}),
        daemon.api.post("/api/executions/cleanup", {"source": "defautl"}),
    ):
        assert answer.status == 404, answer.text
        assert "did you mean 'default'?" in answer.detail


def test_job_name_may_end_like_an_action_when_its_slash_is_escaped(daemon: ApiDaemon) -> None:
    assert "there is no job a/fail" in daemon.api.get("/api/jobs/default/a%2Ffail").detail
    refused = daemon.api.get("/api/jobs/default/a/fail")
    assert (refused.status, refused.headers["allow"]) == (405, "POST")
    refused = daemon.api.post("/api/jobs/default/a%2Ffail", {"started": None, "reason": "x"})
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


# --- one job ended -------------------------------------------------------------------------------------------


def test_reason_that_the_column_has_no_room_for_is_refused_with_what_to_do(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    protea.connection.execute("ALTER TABLE job ALTER error_message TYPE varchar(90)")
    try:
        refused = daemon.api.post(f"{daemon.api.at(job)}/fail", {"started": seen(daemon, job), "reason": "x" * 100})
    finally:
        protea.connection.execute("ALTER TABLE job ALTER error_message TYPE text")
    assert refused.status == 422 and "job.error_message holds 90: nothing was changed" in refused.detail
    assert protea.status(job) == "running"


def test_job_is_ended_as_it_was_seen_and_the_operator_and_reason_are_written(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.job(age=MINUTE)
    done = daemon.api.end("fail", job, seen(daemon, job))
    assert done.status == 200, done.text
    assert done.json["reason"] == "ManualTimeout"
    row = protea.row(job)
    assert row["status"] == "failed"
    assert row["error_message"] == done.json["message"]
    assert "its node is gone" in row["error_message"] and f"({OPERATOR} over HTTP from" in row["error_message"]
    [audit] = protea.audits(job)
    assert audit["fields"]["operator"].startswith(OPERATOR)


def test_expected_start_may_be_written_in_another_time_zone(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.job(age=MINUTE)
    row = protea.connection.execute(
        "SELECT to_char(started_at AT TIME ZONE 'Asia/Tokyo', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') FROM job WHERE id = %s",
        (job,),
    ).fetchone()
    assert row is not None
    assert daemon.api.end("fail", job, f"{row[0]}+09:00").status == 200


def refused(daemon: ApiDaemon, job: str, started: str | None) -> Answer:
    answer = daemon.api.end("fail", job, started)
    assert answer.status == 409, answer.text
    return answer


def test_job_that_has_ended_is_left_alone_and_shown(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    started = seen(daemon, job)
    protea.connection.execute("UPDATE job SET status = 'succeeded', finished_at = now() WHERE id = %s", (job,))
    answer = refused(daemon, job, started)
    assert answer.detail == f"source default: job {job} is not running: its status is succeeded"
    assert answer.json["job"]["verdict"] == "ended"
    assert protea.status(job) == "succeeded"


def test_job_that_was_started_again_is_left_alone_and_shown(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    started = seen(daemon, job)
    protea.connection.execute("UPDATE job SET started_at = now() WHERE id = %s", (job,))
    answer = refused(daemon, job, started)
    assert "was started again: it runs since" in answer.detail and f"not since {started}" in answer.detail
    assert answer.json["job"]["verdict"] == "young"
    assert answer.json["job"]["started"] == seen(daemon, job) != started
    assert protea.status(job) == "running"


def test_job_without_a_start_is_ended_with_a_null_start(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.job(age=None, created=MINUTE)
    created = seen(daemon, job)
    assert refused(daemon, job, None).json["job"]["started"] == created
    assert daemon.api.end("fail", job, created).status == 200


def test_job_whose_row_is_held_is_alive_and_its_holder_named(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    started = seen(daemon, job)
    with protea.connect() as other:
        other.execute("SELECT 1 FROM job WHERE id = %s FOR UPDATE", (job,))
        answer = refused(daemon, job, started)
        assert "is alive: its row is locked by process" in answer.detail
        assert answer.json["job"]["holder"]["pid"] == other.info.backend_pid
    assert daemon.api.end("fail", job, started).status == 200


def test_deleted_job_is_not_found(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    started = seen(daemon, job)
    protea.connection.execute("DELETE FROM job_event WHERE job_id = %s", (job,))
    protea.connection.execute("DELETE FROM job WHERE id = %s", (job,))
    assert daemon.api.end("fail", job, started).status == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"reason": "x"}, "body started: it is missing"),
        ({"started": None}, "body reason: it is missing"),
        ({"started": None, "reason": " "}, "body reason: expected a reason in words"),
        ({"started": None, "reason": "a\0b"}, "body reason: "),
        ({"started": 1, "reason": "x"}, "body started: "),
        ({"started": None, "reason": "x" * 501}, "body reason: "),
        ({"started": None, "reason": "x", "reson": "y"}, "did you mean 'reason'?"),
        ([], "body: "),
        ({"started": None, "reason": "\ud800"}, "body reason: "),
        ({"started": None, "reason": "x", "\ud800": "y"}, "body: "),
    ],
)
def test_incomplete_body_ends_nothing(daemon: ApiDaemon, protea: Protea, body: object, said: str) -> None:
    job = protea.stale()
    answer = daemon.api.post(f"{daemon.api.at(job)}/fail", body)
    assert answer.status == 422, answer.text
    assert said in answer.detail
    assert protea.status(job) == "running"


def test_action_that_the_profile_does_not_have_is_refused(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    answer = daemon.api.end("requeue", job, seen(daemon, job))
    assert answer.status == 409
    assert "profile 'protea' has no action 'requeue'" in answer.detail
    assert protea.status(job) == "running"


# --- who, what, and what came of it --------------------------------------------------------------------------


def test_audit_has_changes_and_refusals(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    started = seen(daemon, job)
    assert daemon.api.end("fail", job, started).status == 200
    assert daemon.api.end("fail", job, started).status == 409
    assert daemon.api.post("/api/executions/cleanup", {"older": 5}).status == 422
    assert daemon.api.post("/api/supervisor/halt?persist=true").status == 409
    assert daemon.api.post("/api/supervisor/halt?reason=maintenance").status == 200

    recorded = daemon.api.get("/api/changes?limit=5").json["changes"]
    assert [(each["action"], each["result"].partition(":")[0]) for each in recorded] == [
        ("halt", "halted"),
        ("halt", "refused"),
        ("cleanup", "refused"),
        ("fail", "refused"),
        ("fail", "fail"),
    ]
    assert {each["who"] for each in recorded} == {OPERATOR}
    assert recorded[-1]["target"] == f"default {job}"
    assert recorded[-1]["details"] == {"started": started, "reason": "its node is gone", "while_observed": False}
    lines = daemon.said("Reaper handled an administrative request.")
    assert [line["result"] for line in lines[:-6:-1]] == [each["result"] for each in recorded]
    assert all(TOKEN not in str(line) for line in daemon.log)


def test_requests_without_the_token_change_nothing(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    started = seen(daemon, job)
    body = {"started": started, "reason": "x"}
    assert daemon.api.ask("POST", f"{daemon.api.at(job)}/fail", body, token=False).status == 401
    for path in ("/api/sweeps", "/api/executions/cleanup", "/api/admin/clear-stuck-jobs", "/api/supervisor/halt"):
        assert daemon.api.ask("POST", path, {}, token=False).status == 401
    assert protea.status(job) == "running"
    assert daemon.api.get("/api/supervisor/state").json["state"] == "RUNNING"
    assert daemon.api.get("/api/changes?limit=1").json["changes"][0]["action"] == "sweep"


def test_change_is_visible_to_the_next_read(daemon: ApiDaemon, protea: Protea) -> None:
    job = protea.stale()
    assert daemon.api.get("/api/jobs?verdict=stale").json["sources"][0]["census"]["stale"] == 1
    assert daemon.api.end("fail", job, seen(daemon, job)).status == 200
    assert daemon.api.get("/api/jobs?verdict=stale").json["sources"][0]["census"]["stale"] == 0


# --- settings and health -------------------------------------------------------------------------------------


def test_policy_says_where_each_value_comes_from_and_no_secret(protea: Protea, tmp_path: Path) -> None:
    url = protea.url.replace("://", "://someone:geheim@") if "@" not in protea.url else protea.url
    with ApiDaemon(tmp_path, database_url=url, stall_seconds="5m") as daemon:
        answer = daemon.api.get("/api/policy")
        found = {each["name"]: (each["value"], each["origin"]) for each in answer.json["settings"]}
        assert found["stall_seconds"] == ("5m", "REAPER_STALL_SECONDS")
        assert found["timeout_seconds"] == ("6h", "default")
        assert "geheim" not in answer.text and TOKEN not in answer.text


def test_health_says_everything_at_once(daemon: ApiDaemon) -> None:
    recorded = daemon.api.get("/api/health").json
    assert recorded["live"] and recorded["ready"] and recorded["state"] == "RUNNING"
    assert recorded["sources"] == {"default": {"ready": True, "problems": []}}
    daemon.api.post("/api/supervisor/halt")
    answer = daemon.api.get("/api/health")
    assert (answer.status, answer.json["ready"], answer.json["state"]) == (200, False, "HALTED")
    assert answer.json["sources"]["default"]["problems"][0].startswith(f"halted by {OPERATOR} over HTTP")


def test_scheduler_health_has_the_documented_form(daemon: ApiDaemon, protea: Protea) -> None:
    wait_until(lambda: daemon.api.get("/health/scheduler").json == {"status": "healthy"}, "the first sweep")
    job = protea.stale()
    wait_until(lambda: daemon.api.get("/health/scheduler").json["status"] == "warning", "the warning")
    answer = daemon.api.get("/health/scheduler")
    assert answer.status == 200
    assert answer.json["stuck_jobs"] == 1
    assert answer.json["details"]["summary"]["total_stuck_jobs"] == 1
    assert [each["id"] for each in answer.json["details"]["sources"]["default"]["jobs"]] == [job]

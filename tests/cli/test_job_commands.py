"""The commands that look at jobs and end them, on a real database, for people and for programs."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any, LiteralString

import pytest
from sqlalchemy.event import listens_for

from reaper.cli import exit_codes
from reaper.database.lease import ttl_for
from reaper.sweep.source_state import SourceState
from tests.support.commands import Reaper, without_notice
from tests.support.protea import HOUR, MINUTE, Protea, SweepRecorder
from tests.support.waiting import wait_until

NO_SUCH_JOB = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Reaper:
    monkeypatch.chdir(tmp_path)
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database})


def refuse_to_fail(protea: Protea, job: str) -> None:
    """A trigger that protects one job."""
    protea.connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF OLD.id = '{job}' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$"
    )
    protea.connection.execute("CREATE TRIGGER refuse BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION refuse()")


# --- sweep --------------------------------------------------------------------------------------------------


def test_sweep_shows_what_it_ended_and_what_it_spared(reaper: Reaper, protea: Protea) -> None:
    stale, alive = protea.stale(), protea.job()
    protea.event(alive, age=MINUTE)
    result = reaper("sweep", "--yes")
    assert result.exit_code == 0
    assert "Reaped 1 stale job(s).\n" in result.stdout
    assert stale in result.stdout
    assert "2 running, 2 past their timeout: 1 spared, 1 stale" in result.stdout
    assert (protea.status(stale), protea.status(alive)) == ("failed", "running")
    assert "Reaped 0 stale job(s).\n" in reaper("sweep", "--yes").stdout


def test_json_document_of_a_sweep_has_the_report_and_names_jobs_by_plain_strings(
    reaper: Reaper, protea: Protea
) -> None:
    stale, alive = protea.stale(), protea.job()
    protea.event(alive, age=MINUTE)
    document = reaper.json("sweep", "--yes")
    assert document["command"] == "sweep"
    [source] = document["sources"]
    assert (source["source"], source["outcome"], source["reaped"], source["error"]) == ("default", "done", 1, None)
    assert source["census"] | {"oldest_started_epoch": 0, "most_overdue": 0} == {
        "running": 2, "past_timeout": 2, "spared": 1, "stale": 1, "oldest_started_epoch": 0, "most_overdue": 0,
        "without_start": 0, "start_unknown": 0, "refused": 0, "vanished": [], "kept": 0,
        "worker_lost": 0, "lost_young": 0, "workers_gone": 0,
    }  # fmt: skip
    assert [job["key"] for job in source["reaped_jobs"]] == [stale]
    assert [job["key"] for job in source["newly_spared"]] == [alive]


def test_dry_run_shows_the_same_choice_and_changes_nothing(reaper: Reaper, protea: Protea) -> None:
    stale = protea.stale()
    shown = reaper("sweep", "--dry-run")
    assert shown.exit_code == 0
    assert stale in shown.stdout and "Would reap 1 stale job(s). Nothing was changed." in shown.stdout
    [source] = reaper.json("sweep", "--dry-run")["sources"]
    assert [job["key"] for job in source["would_reap"]] == [stale]
    assert (source["dry_run"], source["reaped"], protea.status(stale)) == (True, 0, "running")


def test_older_than_is_the_timeout_of_every_kind_without_a_longer_one(reaper: Reaper, protea: Protea) -> None:
    reaper.configure("[kinds.train]\ntimeout_seconds = '5d'\n")
    job, longer = protea.stale(age=3 * HOUR), protea.stale(age=3 * HOUR, operation="train")
    assert reaper.json("sweep", "--yes")["sources"][0]["reaped"] == 0
    assert reaper.json("sweep", "--yes", "--older-than", "2h")["sources"][0]["reaped"] == 1
    assert protea.audits(job)[0]["fields"]["timeout_from"] == "--older-than"
    assert protea.status(longer) == "running"


def test_older_than_is_any_time_up_to_ten_years(reaper: Reaper, protea: Protea) -> None:
    assert protea.stale()
    assert reaper("clear", "--dry-run", "--older-than", "3650d").exit_code == 0
    for age in ("3651d", "0s"):
        for command in ("clear", "sweep", "cleanup"):
            refused = reaper(command, "--dry-run", "--older-than", age)
            assert refused.exit_code == exit_codes.USAGE
            assert "Invalid value for '--older-than': expected a duration above 0 and up to 3650d" in refused.stderr


def test_breaker_holds_a_sweep_and_force_passes_no_more_than_the_question(reaper: Reaper, protea: Protea) -> None:
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, created_at, started_at)"
        " SELECT 'embed', 'q', 'running', now() - interval '8h', now() - interval '8h' FROM generate_series(1, 120)"
    )
    dry = reaper("sweep", "--dry-run")
    assert "... and 20 more." in dry.stdout and "The breaker would hold this sweep" in dry.stdout
    held = reaper("sweep", "--yes")
    assert held.exit_code == exit_codes.FAILED
    assert "Held by the breaker: 120 of 120 running jobs fell silent" in held.stdout
    assert "Look first: `reaper report --source default --verdict stale`" in held.stdout
    assert (
        "`reaper sweep --source default --release 120` ends as many, or fewer" in held.stdout
        and "Reaped" not in held.stdout
    )
    assert reaper.json("sweep", "--force", code=exit_codes.FAILED)["sources"][0]["outcome"] == "held"
    forced = reaper("sweep", "--force", "--release", "120")
    assert forced.exit_code == 0
    assert "Reaped 120 stale job(s)." in forced.stdout and "... and 20 more." in forced.stdout


def test_locked_row_is_left_alone_and_its_holder_is_named(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    with protea.connect() as worker:
        worker.execute("SELECT FROM job WHERE id = %s FOR UPDATE", [job])
        result = reaper("sweep", "--yes")
        pid = worker.info.backend_pid
    assert result.exit_code == 0
    assert f"Alive: {job}: its row is locked by process {pid} (" in result.stdout


def test_refused_job_is_named_and_the_others_are_ended(reaper: Reaper, protea: Protea) -> None:
    guarded, stale = protea.stale(), protea.stale()
    refuse_to_fail(protea, guarded)
    result = reaper("sweep", "--yes")
    assert result.exit_code == exit_codes.FAILED
    assert f"Refused by the database: {guarded}: not this one" in result.stdout
    assert (protea.status(guarded), protea.status(stale)) == ("running", "failed")


def test_recent_server_start_is_named_as_the_reason_to_spare(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    result = reaper("sweep", "--yes", REAPER_RESTART_GRACE="60s")
    assert result.exit_code == 0
    assert "1 job(s) have been silent for longer than their stall window and were spared" in result.stdout
    assert "The first becomes stale in " in result.stdout and protea.status(job) == "running"
    assert "silence counts from" in reaper("explain", job, REAPER_RESTART_GRACE="60s").stdout


def test_failed_sweep_points_to_check(reaper: Reaper, protea: Protea) -> None:
    protea.connection.execute("DROP TABLE job_event")
    result = reaper("sweep", "--yes")
    assert (result.exit_code, result.stdout) == (exit_codes.FAILED, "")
    assert 'relation "job_event" does not exist; `reaper check`' in result.stderr


def count(protea: Protea, query: LiteralString) -> int:
    row = protea.connection.execute(query).fetchone()
    return int(row[0]) if row else 0


FAILED = "SELECT count(*) FROM job WHERE status = 'failed'"


def test_ctrl_c_ends_a_sweep_between_two_batches_with_nothing_half_done(reaper: Reaper, protea: Protea) -> None:
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, started_at)"
        " SELECT 'embed', 'q', 'running', now() - interval '8h' FROM generate_series(1, 20000)"
    )
    with reaper.process("sweep", "--release", "20000", "--yes", "--json", REAPER_BATCH_SIZE="5") as process:
        wait_until(lambda: count(protea, FAILED) > 0, "the first batch is committed")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == exit_codes.INTERRUPTED
    assert without_notice(errors) == "Stopping after this batch; press Ctrl-C again to stop at once.\n"
    [source] = json.loads(output)["sources"]
    ended = count(protea, FAILED)
    assert source["outcome"] == "stopped" and source["reaped"] == ended < 20000
    assert count(protea, "SELECT count(*) FROM job_event WHERE event = 'job.timeout'") == ended


def test_ctrl_c_while_nothing_is_changed_ends_a_sweep_at_once(reaper: Reaper, protea: Protea) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with protea.connect() as other:
        other.execute("LOCK TABLE job")
        with reaper.process("sweep", "--yes") as process:
            wait_until(lambda: count(protea, waiting) > 0, "the command waits for a lock")
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=4)
    assert (process.returncode, output, without_notice(errors)) == (exit_codes.INTERRUPTED, "", "")


def test_second_ctrl_c_ends_a_sweep_whose_batch_hangs_and_the_batch_is_undone(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    protea.connection.execute(
        "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN NEW; END $$"
    )
    protea.connection.execute("CREATE TRIGGER hang BEFORE INSERT ON job_event FOR EACH ROW EXECUTE FUNCTION hang()")
    hanging = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    with reaper.process("sweep", "--yes") as process:
        wait_until(lambda: count(protea, hanging) > 0, "a statement of the command hangs")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("reaper: no halt could be seen: ")
        assert process.stderr.readline() == "Stopping after this batch; press Ctrl-C again to stop at once.\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (exit_codes.INTERRUPTED, "", "")
    assert (protea.status(job), protea.audits(job)) == ("running", [])


# --- report -------------------------------------------------------------------------------------------------


def test_report_shows_each_running_job_oldest_first_with_its_verdict_and_why(reaper: Reaper, protea: Protea) -> None:
    young, spared, stale = protea.job(age=HOUR), protea.job(age=7 * HOUR), protea.stale()
    protea.event(spared, age=5 * MINUTE)
    protea.job(status="succeeded")
    result = reaper("report")
    assert result.exit_code == 0
    heading, _, *lines = result.stdout.splitlines()
    assert heading == "Source default: 3 running, 2 past their timeout: 1 spared, 1 stale."
    assert [line.split()[:3] for line in lines] == [
        [stale, "embed", "stale"], [spared, "embed", "spared"], [young, "embed", "young"],
    ]  # fmt: skip
    assert "no sign of life for 2h (stall window 30m) after running for 8h (timeout 6h)" in lines[0]
    assert "past its timeout of 6h, but alive: job_event 5m ago (stall window 30m)" in lines[1]
    assert " 24m 5" in lines[1]  # when it would become stale


def test_report_can_be_filtered_and_says_when_there_is_more(reaper: Reaper, protea: Protea) -> None:
    jobs = [protea.stale(age=(20 - n) * HOUR, operation=f"kind {n}") for n in range(3)]

    def keys(*arguments: str) -> list[str]:
        return [job["key"] for job in reaper.json("report", *arguments)["sources"][0]["jobs"]]

    assert keys() == jobs
    assert keys("--kind", "kind 1") == [jobs[1]]
    assert keys("--verdict", "young") == []
    assert keys("--verdict", "stale", "--limit", "2") == jobs[:2]
    assert reaper.json("report", "--limit", "2")["sources"][0]["more"]
    assert "The first 2 are shown; --limit shows more." in reaper("report", "--limit", "2").stdout


def test_stale_jobs_are_an_exit_status_of_their_own_when_asked_for(reaper: Reaper, protea: Protea) -> None:
    assert reaper("report", "--exit-code").exit_code == 0
    protea.stale()
    assert reaper("report").exit_code == 0
    assert reaper("report", "--exit-code").exit_code == exit_codes.ATTENTION
    assert reaper("report", "--exit-code", "--kind", "another").exit_code == 0
    reaper.json("report", "--exit-code", "--verdict", "young", code=exit_codes.ATTENTION)


def test_report_names_who_holds_the_row_of_a_silent_job(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    with protea.connect() as worker:
        worker.execute("SELECT FROM job WHERE id = %s FOR UPDATE", [job])
        [found] = reaper.json("report")["sources"][0]["jobs"]
        assert found["holder"]["pid"] == worker.info.backend_pid
        assert found["left"][0]["reason"] == "locked"
        assert f"Left: {job}: its row is locked by process" in reaper("report").stdout


# --- explain ------------------------------------------------------------------------------------------------


def test_explain_shows_every_sign_every_threshold_and_the_outlook(reaper: Reaper, protea: Protea) -> None:
    reaper.configure("[kinds.embed]\nstall_seconds = '1h'\n")
    job = protea.job(age=7 * HOUR)
    protea.event(job, age=50 * MINUTE)
    protea.job(age=10 * MINUTE, parent=job, status="succeeded", finished=2 * MINUTE)
    lines = dict(line.split("  ", 1) for line in reaper("explain", job).stdout.splitlines()[1:])
    explained = {name: value.strip() for name, value in lines.items()}
    alive = r"spared: past its timeout of 6h, but alive: child job 2m( \d+s)? ago \(stall window 1h\)"
    assert re.fullmatch(alive, explained["verdict"])
    assert explained["outlook"].startswith("stale in 57m")
    assert explained["timeout"] == "6h, from default"
    assert explained["stall window"].startswith("1h, from kind embed (") and explained["stall window"].endswith(
        "reaper.toml:2)"
    )
    assert explained["sign of life: job_event"] < explained["sign of life: child job"]
    assert explained["last sign of life"].startswith(explained["sign of life: child job"])
    assert "(started_at), 7h ago" in explained["started"]


def test_reaped_job_is_explained_by_the_evidence_of_its_reap(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    sweep_id = reaper.json("sweep", "--yes")["sources"][0]["sweep_id"]
    shown = reaper("explain", job).stdout
    assert "ended: its status is failed" in shown
    assert "JobTimeout, at 20" in shown and f"sweep {sweep_id}" in shown
    document = reaper.json("explain", job)
    assert (document["job"]["key"], document["job"]["verdict"]) == (job, "ended")
    assert document["audits"][0]["sweep_id"] == sweep_id


def test_events_of_the_same_name_that_others_wrote_do_not_confuse_an_explanation(
    reaper: Reaper, protea: Protea
) -> None:
    job = protea.job(status="failed")
    for fields in ("{}", '{"age_seconds": "old", "reason": null}'):
        protea.connection.execute(
            "INSERT INTO job_event (job_id, level, event, fields) VALUES (%s, 'error', 'job.timeout', %s)",
            [job, fields],
        )
    assert reaper("explain", job).stdout.count("an event without evidence, not written by the reaper") == 2


@pytest.mark.parametrize("command", [["explain"], ["fail", "--yes", "--reason", "x"]])
def test_unknown_job_is_one_line_and_exit_status_1(reaper: Reaper, command: list[str]) -> None:
    unknown, malformed = reaper(*command, NO_SUCH_JOB), reaper(*command, "17")
    assert (unknown.exit_code, malformed.exit_code) == (exit_codes.FAILED, exit_codes.FAILED)
    assert unknown.stderr == f"reaper: source default: there is no job {NO_SUCH_JOB}\n"
    assert malformed.stderr == (
        'reaper: source default: there is no job 17: invalid input syntax for type uuid: "17"\n'
    )
    assert "there is no job" in reaper.json(*command, NO_SUCH_JOB, code=exit_codes.FAILED)["error"]


def test_key_of_several_columns_is_written_with_commas(reaper: Reaper, protea: Protea) -> None:
    reaper.configure("profile = 'pairs'\n[profiles.pairs]\nextends = 'protea'\n" + PAIRS)
    protea.connection.execute("ALTER TABLE job ADD shard text NOT NULL DEFAULT 'a,b'")
    protea.connection.execute("ALTER TABLE job_event ADD shard text NOT NULL DEFAULT 'a,b'")
    job = protea.stale()
    name = f'{job},"a,b"'
    assert reaper.json("explain", name)["job"]["key"] == [job, "a,b"]
    assert f"there is no job {job}: expected the 2 values of its key" in reaper("explain", job).stderr
    assert name in reaper("report").stdout
    assert reaper("fail", "--yes", name, "--reason", "x").exit_code == 0
    assert protea.status(job) == "failed"


PAIRS = """
jobs.key = ["id", "shard"]
[[profiles.pairs.alive]]
witness = "job_event"
events = { table = "job_event", job = ["job_id", "shard"], at = "ts" }
[[profiles.pairs.actions.fail.also]]
insert = "job_event"
[profiles.pairs.actions.fail.also.values]
job_id = { column = "id" }
shard = { column = "shard" }
ts = { is = "now" }
event = "job.timeout"
message = { is = "message" }
fields = { is = "evidence" }
"""


# --- fail ---------------------------------------------------------------------------------------------------


def test_fail_ends_a_live_job_and_the_audit_event_says_who_and_why(reaper: Reaper, protea: Protea) -> None:
    job = protea.job(age=MINUTE)
    protea.event(job)
    result = reaper("fail", "--yes", job, "--reason", "its node is gone")
    assert (result.exit_code, result.stdout) == (0, f"Failed job {job} in source default (ManualTimeout).\n")
    row, [event] = protea.row(job), protea.audits(job)
    assert (row["status"], row["error_code"]) == ("failed", "ManualTimeout")
    said = f"Manually marked FAILED by operator: its node is gone ({event['fields']['operator']})"
    assert row["error_message"] == event["message"] == said
    assert event["fields"]["reason"] == "ManualTimeout" and "@" in event["fields"]["operator"]
    assert event["fields"]["witness"] == "job_event"
    assert "its node is gone" in reaper("explain", job).stdout


def test_json_document_of_fail_has_the_job_and_the_operator(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    document = reaper.json("fail", "--yes", job, "--reason", "x")
    assert (document["source"], document["reaped"]["key"]) == ("default", job)
    assert document["reaped"]["reason"] == "ManualTimeout"


@pytest.mark.parametrize("status", ["queued", "succeeded", "failed"])
def test_fail_refuses_a_job_that_does_not_run(reaper: Reaper, protea: Protea, status: str) -> None:
    job = protea.job(status=status)
    result = reaper("fail", "--yes", job, "--reason", "x")
    assert result.exit_code == exit_codes.FAILED
    assert result.stderr == f"reaper: source default: job {job} is not running: its status is {status}\n"
    assert (protea.status(job), protea.audits(job)) == (status, [])


def test_fail_refuses_a_locked_job_without_waiting(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    with protea.connect() as worker:
        worker.execute("SELECT FROM job WHERE id = %s FOR NO KEY UPDATE", [job])
        result = reaper("fail", "--yes", job, "--reason", "x")
        pid = worker.info.backend_pid
    assert result.exit_code == exit_codes.FAILED
    assert f"job {job} is alive: its row is locked by process {pid}" in result.stderr
    assert protea.status(job) == "running"


def test_job_that_the_database_refuses_to_fail_stays_as_it_is(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    refuse_to_fail(protea, job)
    result = reaper("fail", "--yes", job, "--reason", "x")
    assert (result.exit_code, result.stderr) == (exit_codes.FAILED, "reaper: source default: not this one\n")
    assert (protea.status(job), protea.audits(job)) == ("running", [])


# --- check and sql ------------------------------------------------------------------------------------------


def test_check_prints_what_is_wrong_with_what_mends_it(reaper: Reaper, protea: Protea) -> None:
    assert reaper("check").exit_code == 0
    protea.connection.execute("DROP INDEX ix_job_event_job_id_ts")
    warned = reaper("check")
    assert warned.exit_code == 0
    [fix] = [line.strip() for line in warned.stdout.splitlines() if "CREATE INDEX" in line]
    protea.connection.execute(fix.encode())
    assert "CREATE INDEX" not in reaper("check").stdout
    protea.connection.execute("ALTER TABLE job RENAME started_at TO began_at")
    broken = reaper("check")
    assert broken.exit_code == exit_codes.FAILED
    assert "error: job.started_at: " in broken.stdout
    document = reaper.json("check", code=exit_codes.FAILED)
    levels = {finding["level"] for finding in document["sources"][0]["findings"]}
    assert "error" in levels


def test_sql_prints_statements_that_the_server_understands(reaper: Reaper, protea: Protea) -> None:
    shown = reaper("sql")
    assert shown.exit_code == 0
    assert "FOR UPDATE SKIP LOCKED" in shown.stdout and "= the database's now - 30m" in shown.stdout
    for name, statement in printed(reaper).items():
        text = statement["sql"]
        if name == "read_only":
            # No statement that can be prepared.
            protea.connection.execute(text)
            continue
        types = []
        for number, parameter in enumerate(sorted(statement["parameters"], key=len, reverse=True), start=1):
            text = text.replace(f":{parameter}", f"${number}")
            is_number = re.fullmatch(r"\d+\.\d+", statement["parameters"][parameter])
            types.append("double precision" if is_number else "unknown")
        declared = f"({', '.join(types)})" if types else ""
        protea.connection.execute(f"PREPARE {name}_it {declared} AS {text}".encode())


def printed(reaper: Reaper, **given: Any) -> dict[str, Any]:
    """The statements that `sql` prints, by name."""
    [source] = reaper.json("sql", **given)["sources"]
    return {statement["name"]: statement for statement in source["statements"]}


def test_sql_prints_every_statement_of_a_sweep_and_no_other(reaper: Reaper, protea: Protea) -> None:
    """But for savepoints, the survey, which is streamed by the driver itself, and what these jobs give no cause for."""
    source, memory = protea.source(), SourceState()
    lease = source.lease(ttl_for(60))
    seen: set[str] = set()

    @listens_for(source.engine, "before_cursor_execute")
    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.add(bare(statement))

    protea.stale()
    # It is nothing to the role of the tests, but has to be asked about.
    protea.connection.execute("ALTER TABLE job_event ENABLE ROW LEVEL SECURITY")
    protea.sweep(source, memory=memory, lease=lease, recorder=SweepRecorder(memory=memory))
    seen.clear()
    memory.next_future_look = 0
    # Past its timeout by now, and not yet at that first sweep.
    protea.event(protea.job(age=6 * HOUR))
    last = [protea.stale() for _ in range(3)][-1]
    with protea.connect() as holder:
        # A released savepoint: the row names a transaction that cannot be found, and is no several either.
        holder.execute("SAVEPOINT attempt")
        holder.execute("SELECT FROM job WHERE id = %s FOR UPDATE", [last])
        holder.execute("RELEASE attempt")
        report = protea.sweep(source, memory=memory, lease=lease)
        holder.rollback()
    lease.release()
    assert (report.reaped, report.locked_total, report.newly_spared_total) == (2, 1, 1)
    savepoints = ("SAVEPOINT", "ROLLBACK TO", "RELEASE")
    run = {statement for statement in seen if not statement.startswith(savepoints)}
    others = {"survey", "shared", "without_start"}
    known = {name: bare(statement["sql"]) for name, statement in printed(reaper).items() if name not in others}
    assert run == set(known.values())


def bare(statement: str) -> str:
    """Without the driver's spelling of parameters and without the breaks of lines."""
    return " ".join(re.sub(r"%\((\w+)\)s", r":\1", statement).replace("%%", "%").split())


def test_sql_prints_the_limits_that_are_in_force(reaper: Reaper) -> None:
    begin, lease = (printed(reaper)[name] for name in ("begin", "lease"))
    limits = {"statement": "'300000'", "lock": "'5000'", "idle": "'10000'"}
    assert begin["parameters"] == {"path": "'pg_catalog, pg_temp'", **limits}
    assert "'180000'" in lease["sql"]
    given = {"REAPER_INTERVAL_SECONDS": "2s", "REAPER_STATEMENT_TIMEOUT_SECONDS": "7s"}
    begin, lease = (printed(reaper, **given)[name] for name in ("begin", "lease"))
    assert begin["parameters"]["statement"] == "'7000'" and "'30000'" in lease["sql"]

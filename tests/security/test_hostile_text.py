"""What strangers wrote reaches no terminal, log, label, page or column as it is: requests, kinds, reasons."""

from __future__ import annotations

import io
import logging
import socket
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import structlog

from reaper.observers import logging_setup
from reaper.operations.explain import explain
from reaper.operations.report import ReportQuery, kinds, report
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from tests.support.api import ApiDaemon, shared_daemon
from tests.support.commands import AWAY, Reaper
from tests.support.protea import HOUR, PATIENCE, Protea, SweepRecorder, thresholds
from tests.support.server_proxy import ServerProxy

running, daemon, protea = shared_daemon("hostile_text", log_format="console", log_level="debug")

EVIL = "a\x1b]0;TITLE\x07b\x9b31mc\u202ed\u2028e\u200bf\x7fg\r\nh"
"""C0, C1, DEL, a mark that turns the writing round, a line separator, a character without width."""
SPELLED = "a\\x1b]0;TITLE\\x07b\\x9b31mc\\u202ed\\u2028e\\u200bf\\x7fg\\r\\nh"


def raw(text: str) -> set[str]:
    """The characters of a text that a terminal would obey, or that are not seen."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}


# --- logs ----------------------------------------------------------------------------------------------------


class Odd:
    """An object that writes itself as a stranger likes."""

    def __repr__(self) -> str:
        return EVIL


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], io.StringIO]]:
    """Sends the log to a buffer, in a format."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], logging.getLogger("reaper").level

    def begin(log_format: str) -> io.StringIO:
        buffer = io.StringIO()
        monkeypatch.setattr("sys.stderr", buffer)
        logging_setup.configure("debug", log_format, None)
        return buffer

    yield begin
    root.handlers[:] = handlers
    structlog.configure(**configured)
    logging.getLogger("reaper").setLevel(level)


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_log_line_spells_out_every_name_and_value(log_format: str, written: Callable[[str], io.StringIO]) -> None:
    output = written(log_format)
    fields = {EVIL: "name", "value": EVIL, "list": [EVIL], "nested": {EVIL: {EVIL: EVIL}}, "odd": Odd(), "key": (EVIL,)}
    structlog.get_logger("reaper").warning(EVIL, **fields, exc_info=ValueError(EVIL))
    logging.getLogger(f"other.{EVIL}").warning("library: %s", EVIL)
    assert output.getvalue().count("TITLE") >= 9
    assert raw(output.getvalue()) == set()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_log_line_is_short_however_long_its_values_are(log_format: str, written: Callable[[str], io.StringIO]) -> None:
    output = written(log_format)
    long = "x" * 1_000_000
    fields = {"value": long, "list": [long], "nested": {long: long}, "odd": ValueError(long)}
    structlog.get_logger("reaper").warning(long, **fields, exc_info=ValueError(long))
    logging.getLogger("other").warning("library: %s", long)
    assert len(output.getvalue()) < 60_000
    assert "... (1000000 characters)" in output.getvalue()


def test_refused_request_is_logged_with_its_path_as_it_was_sent(daemon: ApiDaemon) -> None:
    path = "/%1b%5d0;TITLE%07%c2%9b%e2%80%ae"
    with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")
    log = daemon.stderr.read_text()
    assert f"path={path} " in log
    assert raw(log) == set()


# --- kinds ---------------------------------------------------------------------------------------------------


def test_kind_is_spelled_out_in_log_metrics_page_and_api(daemon: ApiDaemon, protea: Protea) -> None:
    stale, alive = protea.stale(operation=EVIL), protea.job(operation=EVIL)
    protea.event(alive)
    listed = daemon.api.get("/api/jobs")
    assert {job["kind"] for job in listed.json["sources"][0]["jobs"]} == {EVIL}, "programs get the value"
    assert daemon.api.post("/api/sweeps", {}).json["sweeps"][0]["reaped"] == 1
    answers = [daemon.api.get(path).text for path in ("/", f"/jobs/default/{stale}", "/metrics", "/api/endings")]
    for text in (listed.text, *answers, daemon.stderr.read_text()):
        assert raw(text) == set()
    labels = {"source": "default", "kind": SPELLED, "reason": "JobTimeout", "action": "fail"}
    assert daemon.metrics.value("reaper_jobs_reaped_total", **labels) == 1


# --- reasons -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [EVIL, "two\nlines", "\x1b[2J", "turned \u202e round", "a\u2028b", "\x9bA", "x\x7f"])
def test_reason_that_is_not_one_printable_line_is_refused_over_http(
    reason: str, daemon: ApiDaemon, protea: Protea
) -> None:
    job = protea.stale()
    body = {"started": protea.row(job)["started_at"].isoformat(), "reason": reason}
    answer = daemon.api.post(f"{daemon.api.at(job)}/fail", body)
    assert (answer.status, raw(answer.text)) == (422, set())
    assert "body reason: expected a reason in words, on one line and without control characters" in answer.detail
    assert protea.status(job) == "running"


def test_reason_that_is_not_one_printable_line_is_refused_by_commands(tmp_path: Path) -> None:
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": AWAY})
    for words in (("fail", "17", "--reason"), ("halt", "--reason"), ("reset", "--reason")):
        result = reaper(*words, "two\nlines \x1b[2J")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "expected a reason in words, on one line" in " ".join(result.stderr.split())
        assert raw(result.stderr) == set()
    assert reaper("halt", "--reason", "x" * 501).exit_code == 2


def test_reason_in_any_writing_is_taken(daemon: ApiDaemon, protea: Protea) -> None:
    job, reason = protea.stale(), "der Knoten ist weg — ノード停止\u3000しました 🙂"
    body = {"started": protea.row(job)["started_at"].isoformat(), "reason": reason}
    assert daemon.api.post(f"{daemon.api.at(job)}/fail", body).status == 200
    assert reason in protea.row(job)["error_message"]
    assert raw(daemon.stderr.read_text()) == set()


def test_json_answer_means_the_same_to_programs(daemon: ApiDaemon, protea: Protea) -> None:
    every = "".join(chr(c) for c in range(1, 0x3000) if unicodedata.category(chr(c))[0] in "CZ") + "\U000e0001🙂"
    written = {every[n : n + 100].strip() for n in range(0, 500, 100)} - {""}
    for kind in written:
        protea.stale(operation=kind)
    answer = daemon.api.get("/api/jobs")
    assert {job["kind"] for job in answer.json["sources"][0]["jobs"]} == written
    assert raw(answer.text) == set()


# --- lengths -------------------------------------------------------------------------------------------------

CUT = "... (1000000 characters)"


def long_jobs(protea: Protea, number: int, *, age: float = 8 * HOUR) -> list[str]:
    """Silent jobs whose kinds have a million characters each, and are all different."""
    rows = protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, created_at, started_at)"
        " SELECT rpad('kind ' || n || ' ', 1000000, 'x'), 'q', 'running', now(), now() - make_interval(secs => %s)"
        " FROM generate_series(1, %s) n RETURNING id::text",
        (age, number),
    )
    return [str(row[0]) for row in rows]


def test_long_kinds_are_cut_in_log_metrics_page_and_api(daemon: ApiDaemon, protea: Protea) -> None:
    jobs = long_jobs(protea, 20)
    before = len(daemon.stderr.read_text())
    for path in ("/api/jobs", "/", "/api/jobs/default/" + jobs[0], "/jobs/default/" + jobs[0]):
        text = daemon.api.get(path).text
        assert "kind 1" in text and len(text) < 100_000, path
    assert CUT in daemon.api.get("/api/jobs").text
    swept = daemon.api.post("/api/sweeps", {}).json["sweeps"][0]
    assert swept["reaped"] == len(jobs)
    for path in ("/metrics", "/", "/api/endings", "/api/late-signs"):
        assert len(daemon.api.get(path).text) < 150_000, path
    assert len(daemon.stderr.read_text()) - before < 50_000
    assert daemon.metrics.total("reaper_jobs_reaped_total", kind=f"kind 7 {'x' * 193}{CUT}") == 1


def test_database_sends_of_long_texts_only_what_is_shown(protea: Protea) -> None:
    """Ten kinds and an audit event of a megabyte each: listed, counted, explained, swept."""
    protea.connection.execute("TRUNCATE job, job_event")
    jobs = long_jobs(protea, 10)
    protea.event(jobs[0], age=7 * HOUR, event="job.timeout", fields={"message": "x" * 1_000_000, "sweep_id": "another"})
    protea.connection.execute("UPDATE job_event SET level = 'error'")
    given = psycopg.conninfo.conninfo_to_dict(protea.libpq)
    answers: list[int] = []
    path = f"{given['host']}/.s.PGSQL.{given.get('port', 5432)}"
    with closing(ServerProxy(path, lambda piece: answers.append(len(piece)))) as line:
        url = f"postgresql+psycopg://{given.get('user', '')}@127.0.0.1:{line.port}/{given['dbname']}"
        source = Source("main", url, resolve("protea"), thresholds(), PATIENCE)
        listed = report(source, DowntimeTracker(0), ReportQuery(None, None, 50))
        assert len(listed.jobs) == 10 and (listed.jobs[0].kind or "").endswith(CUT)
        assert {kind[-len(CUT) :] for kind, _ in kinds(source) if kind} == {CUT}
        [event] = explain(source, DowntimeTracker(0), jobs[0]).audits
        assert event["message"].startswith("an event of 10000")
        recorder = SweepRecorder()
        assert protea.sweep(source, recorder=recorder).reaped == 10
        assert all((job.kind or "").endswith(CUT) for job in recorder.reaped_jobs)
    assert 10_000 < sum(answers) < 500_000


def test_error_of_a_trigger_is_cut(protea: Protea) -> None:
    protea.connection.execute("TRUNCATE job, job_event")
    protea.connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION '%', repeat('no ', 1000000); END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    try:
        protea.stale()
        [failure] = protea.sweep().failures
    finally:
        protea.connection.execute("DROP TRIGGER refuse ON job; DROP FUNCTION refuse")
    assert failure.error.startswith("no no no ")
    assert failure.error.endswith("... (2999999 characters)") and len(failure.error) < 1_100

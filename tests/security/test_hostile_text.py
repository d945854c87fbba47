"""What strangers wrote reaches no terminal, log, label, page or column as it is: requests, kinds, reasons."""

from __future__ import annotations

import io
import json
import logging
import socket
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from reaper.observers import logging_setup
from tests.support.api import ApiDaemon, shared_daemon
from tests.support.commands import AWAY, Reaper
from tests.support.protea import Protea

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
    assert "(1,000,000 characters)" in output.getvalue()


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
    assert daemon.metrics.value(
        "reaper_jobs_reaped_total", source="default", kind=SPELLED, reason="JobTimeout"
    ) == 1  # fmt: skip


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
    kind = "".join(chr(c) for c in range(1, 0x3000) if unicodedata.category(chr(c)) != "Cs") + "\U000e0001🙂"
    protea.stale(operation=kind)
    [job] = daemon.api.get("/api/jobs").json["sources"][0]["jobs"]
    assert job["kind"] == kind
    assert json.loads(json.dumps(job)) == job

"""`reaper state`, `halt` and `restart`: the daemon steered from the command line."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest

from tests.support.api import OPERATOR, TOKEN, ApiDaemon, shared_daemon, token_file
from tests.support.commands import Reaper
from tests.support.daemons import free_port
from tests.support.protea import Protea

running, daemon, protea = shared_daemon("cli_supervisor", state_dir="state")


@pytest.fixture
def reaper(daemon: ApiDaemon, tmp_path: Path) -> Reaper:
    """Configured as the daemon is, and with no database: it may be on another machine."""
    return Reaper(tmp_path, {"REAPER_HTTP_PORT": str(daemon.port), "REAPER_HTTP_TOKEN_FILE": str(token_file(tmp_path))})


def test_state_halt_and_restart_say_what_the_daemon_does(reaper: Reaper) -> None:
    state = reaper("state")
    assert state.exit_code == 0, state.output
    assert state.stdout.splitlines()[0] == "RUNNING"
    assert state.stdout.splitlines()[1].startswith("Source default (protea): ")
    assert "last sweep done" in state.stdout

    halted = reaper("halt", "--reason", "the workers are being moved, 100 % of them")
    assert halted.exit_code == 0, halted.output
    assert halted.stdout.startswith(f"HALTED by {OPERATOR} over HTTP from 127.0.0.1:")
    assert halted.stdout.endswith(": the workers are being moved, 100 % of them\n")

    state = reaper("state")
    assert state.exit_code == 3
    assert state.stdout.startswith(halted.stdout)
    assert f"  halted by {OPERATOR}" in state.stdout

    restarted = reaper("restart")
    assert (restarted.exit_code, restarted.stdout) == (0, "RUNNING\n")
    assert reaper("state").exit_code == 0


def test_restart_of_a_supervisor_that_runs_leaves_it_running(reaper: Reaper, daemon: ApiDaemon) -> None:
    answer = daemon.api.post("/api/supervisor/restart")
    assert (answer.status, answer.json["state"]) == (200, "RUNNING")
    assert (reaper("restart").exit_code, reaper("state").exit_code) == (0, 0)


def test_halt_with_persist_survives_a_restart(reaper: Reaper, daemon: ApiDaemon) -> None:
    assert ", also after a restart of the daemon" in reaper("halt", "--persist").stdout
    assert daemon.api.get("/api/supervisor/state").json["halted"]["persistent"] is True
    assert reaper("restart").exit_code == 0


def test_halt_at_a_standby_says_that_another_replica_sweeps(protea: Protea, tmp_path: Path) -> None:
    said = "default is swept by another replica, which is not halted: halt that one too"
    with ApiDaemon(tmp_path, database_url=protea.url) as standby:
        standby.has_swept("standby")
        at = ("--url", f"http://127.0.0.1:{standby.port}", "--token-file", str(token_file(tmp_path)))
        reaper = Reaper(tmp_path, {})
        assert reaper("halt", *at).stdout.splitlines()[1:] == [said]
        assert reaper.json("halt", *at)["swept_elsewhere"] == ["default"]


def test_halt_at_the_leader_names_no_replica(reaper: Reaper) -> None:
    assert len(reaper("halt").stdout.splitlines()) == 1
    assert reaper.json("halt")["swept_elsewhere"] == []


def test_state_is_shown_to_a_user_who_may_not_read_the_token(daemon: ApiDaemon, tmp_path: Path) -> None:
    given = {"REAPER_HTTP_PORT": str(daemon.port), "REAPER_HTTP_TOKEN_FILE": str(tmp_path / "not-there")}
    assert Reaper(tmp_path, given)("state").exit_code == 0


def test_state_is_one_json_document(reaper: Reaper) -> None:
    assert reaper.json("state")["state"] == "RUNNING"
    halted = reaper.json("halt", "--reason", "x")
    assert (halted["command"], halted["state"], halted["halted"]["reason"]) == ("halt", "HALTED", "x")
    assert reaper.json("state", code=3)["sources"][0]["name"] == "default"
    assert reaper.json("restart")["state"] == "RUNNING"


def test_wrong_token_is_refused_with_the_daemons_message(reaper: Reaper, daemon: ApiDaemon, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-token-that-is-wanted")
    wrong.chmod(0o600)
    refused = reaper("halt", "--token-file", str(wrong))
    assert refused.exit_code == 1
    said = "reaper: a bearer token is needed to change anything, and this is not its token (send `Authorization: Bearer"
    assert refused.stderr.startswith(said) and "REAPER_HTTP_TOKEN_FILE" in refused.stderr
    assert daemon.api.get("/api/supervisor/state").json["state"] == "RUNNING"


def test_change_without_a_token_says_where_to_set_one(daemon: ApiDaemon, tmp_path: Path) -> None:
    bare = Reaper(tmp_path, {"REAPER_HTTP_PORT": str(daemon.port)})
    assert bare("state").exit_code == 0
    refused = bare("restart")
    assert refused.exit_code == 1
    assert refused.stderr == (
        f"reaper: the daemon at http://127.0.0.1:{daemon.port} needs a token for this: name its file with "
        "--token-file PATH, REAPER_HTTP_TOKEN_FILE, or http_token_file in the configuration "
        "(scripts/manage.sh start keeps it in .data/http-token)\n"
    )


def test_url_option_beats_the_configured_address(daemon: ApiDaemon, tmp_path: Path) -> None:
    other = Reaper(tmp_path, {"REAPER_HTTP_PORT": str(free_port())})
    url, token = f"http://127.0.0.1:{daemon.port}", str(token_file(tmp_path))
    assert other("state", "--url", url).exit_code == 0
    assert other("halt", "--url", f"{url}/", "--token-file", token).exit_code == 0
    assert other("restart", "--url", url, "--token-file", token).exit_code == 0


def test_proxy_variables_are_ignored(reaper: Reaper) -> None:
    away = "http://127.0.0.1:1"
    assert reaper("state", http_proxy=away, HTTP_PROXY=away, ALL_PROXY=away).exit_code == 0


def test_daemon_that_listens_on_all_addresses_is_asked_on_loopback(daemon: ApiDaemon, tmp_path: Path) -> None:
    everywhere = {"REAPER_HTTP_HOST": "0.0.0.0", "REAPER_HTTP_PORT": str(daemon.port)}
    assert Reaper(tmp_path, everywhere)("state").exit_code == 0


@pytest.mark.parametrize("command", ["state", "halt", "restart"])
def test_unreachable_daemon_is_reported_in_one_line(tmp_path: Path, command: str) -> None:
    port = free_port()
    unanswered = Reaper(tmp_path, {"REAPER_HTTP_PORT": str(port)})(command)
    assert unanswered.exit_code == 75
    assert unanswered.stderr == f"reaper: no daemon answers at http://127.0.0.1:{port}: Connection refused\n"
    assert "no daemon answers" in Reaper(tmp_path, {"REAPER_HTTP_PORT": str(port)}).json(command, code=75)["error"]


@pytest.mark.parametrize("url", ["127.0.0.1:9469", "ftp://x", "http://", "http://x:99999", "http://a:b@c", "http://é"])
def test_invalid_url_is_wrong_usage(tmp_path: Path, url: str) -> None:
    refused = Reaper(tmp_path, {})("state", "--url", url)
    assert refused.exit_code == 2
    assert "expected a URL such as http://127.0.0.1:9469" in refused.stderr


def test_http_port_that_is_switched_off_is_named(tmp_path: Path) -> None:
    refused = Reaper(tmp_path, {"REAPER_HTTP_PORT": "0"})("state")
    assert refused.exit_code == 78
    assert refused.stderr == "REAPER_HTTP_PORT: the daemon's HTTP port is switched off\n"


def test_token_file_that_others_can_read_is_not_shown(tmp_path: Path) -> None:
    missing = Reaper(tmp_path, {})("halt", "--url", "http://127.0.0.1:1", "--token-file", str(tmp_path / "no"))
    assert missing.exit_code == 78
    assert missing.stderr.startswith("--token-file: ")
    assert TOKEN not in missing.output


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"status": "up"}', b""])
def test_something_else_that_listens_there_is_not_taken_for_a_reaper(tmp_path: Path, body: bytes) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        serving = threading.Thread(target=other.serve_forever)
        serving.start()
        try:
            answer = Reaper(tmp_path, {"REAPER_HTTP_PORT": str(other.server_port)})("state")
        finally:
            other.shutdown()
            serving.join()
    assert answer.exit_code == 1
    assert "is not a reaper of this version (status 200)" in answer.stderr

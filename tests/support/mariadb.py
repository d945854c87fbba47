"""A private MariaDB server for tests, in a temporary directory and without network access."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import pymysql
import pytest

from tests.support.waiting import wait_until

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
# The data is deleted after the run, so it need not be flushed to disk.
_FAST = ("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-buffer-pool-size=64M")


@dataclass
class MariaDB:
    """A server that listens on a Unix socket. Root needs no password."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> str:
        return str(self.directory / "s")

    def url(self, database: str, user: str = "root") -> str:
        return f"mariadb+pymysql://{user}@localhost/{database}?unix_socket={quote(self.socket)}"

    def connect(self, database: str | None = None, user: str = "root") -> pymysql.Connection[pymysql.cursors.Cursor]:
        """A session in UTC that commits every statement."""
        return pymysql.connect(
            unix_socket=self.socket,
            user=user,
            database=database,
            autocommit=True,
            ssl_disabled=True,  # a socket needs no TLS, and making a TLS context takes 25 ms
            init_command="SET time_zone = '+00:00'",
        )

    def create_database(self, name: str, *scripts: Path) -> str:
        """Make a database with the tables of these files. Returns its URL."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}`")
            cursor.execute(f"USE `{name}`")
            for script in scripts:
                for statement in statements(script.read_text()):
                    cursor.execute(statement)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE `{name}`")

    def start(self, *options: str) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    _program("mariadbd"),
                    "--no-defaults",
                    f"--user={_user()}",
                    f"--datadir={self.directory / 'data'}",
                    f"--tmpdir={self.directory / 'temporary'}",
                    f"--socket={self.socket}",
                    f"--pid-file={self.directory / 'pid'}",
                    "--skip-networking",
                    *_FAST,
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        wait_until(self._answers, "MariaDB answers")

    def stop(self) -> None:
        """Stop the server with SIGTERM, and with SIGKILL after 30 s."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """During the block the server is stopped with SIGSTOP: it accepts connections but does not answer."""
        process = self.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, "MariaDB is stopped")
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.directory / "log").read_text()
        if not Path(self.socket).exists():
            return False
        try:
            self.connect().close()
        except pymysql.OperationalError:
            return False
        return True


@contextmanager
def temporary() -> Iterator[MariaDB]:
    """A running server. Without mariadb-server the test is skipped, and fails in CI."""
    if shutil.which("mariadbd", path=_PATH) is None:
        if os.environ.get("CI") == "true":
            pytest.fail("mariadb-server is not installed")
        pytest.skip("mariadb-server is not installed")
    # A socket's path must be short.
    directory = Path(tempfile.mkdtemp(prefix="reaper-mariadb-"))
    server = MariaDB(directory)
    try:
        _install(directory)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _install(directory: Path) -> None:
    # A temporary folder of its own, because a starting server deletes files there.
    temporary = directory / "temporary"
    temporary.mkdir()
    if os.geteuid() == 0:
        shutil.chown(directory, _user())
        shutil.chown(temporary, _user())
    result = subprocess.run(
        [
            _program("mariadb-install-db"),
            "--no-defaults",
            f"--user={_user()}",
            f"--datadir={directory / 'data'}",
            f"--tmpdir={temporary}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


def _program(name: str) -> str:
    path = shutil.which(name, path=_PATH)
    assert path is not None, f"{name} is not installed"
    return path


def _user() -> str:
    """The user to run the server as: it refuses to run as root, and its package creates the user mysql."""
    return "mysql" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def statements(script: str) -> list[str]:
    """The statements of a file in which each ends with a semicolon at the end of a line."""
    lines = [line for line in script.splitlines() if not line.lstrip().startswith("--")]
    return [statement for part in "\n".join(lines).split(";\n") if (statement := part.strip().removesuffix(";"))]

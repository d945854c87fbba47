"""A private PostgreSQL server: start, stop, databases and URLs."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

from reaper.dev.postgres.binaries import (
    SYSTEM_USER,
    Account,
    PrivatePostgreSQLError,
    installed_programs,
    programs_for,
    version_of,
)

if TYPE_CHECKING:
    from psycopg import Connection

FIRST_RUN_DATABASE = "protea"

# Commits survive a crash of the server, not of the machine. synchronous_commit stays on, because tests crash servers.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
# Only part of the socket's file name: the server listens on no network.
_PORT = "5432"
# The kernel's limit for the path of a socket is 107 bytes.
_MAX_SOCKET_FOLDER_BYTES = 107 - len(f"/.s.PGSQL.{_PORT}")
_SHORT_FOLDER = Path("/tmp")  # noqa: S108
# Not /var/lib/reaper: that belongs to the service, and is removed with it.
_FALLBACK_FOLDER = Path("/var/lib/reaper-postgresql")


class PrivatePostgreSQL:
    """A server with data, log and socket in one directory.

    It outlives the process that starts it; a `with` block stops it at the end. When root starts it, it runs as a
    system user. If that user cannot enter the given directory (for example under /root), `directory` is another one
    below /var/lib/reaper-postgresql, always the same for the same given directory.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self._account = Account.current()
        self._wanted_directory = directory.expanduser().resolve()
        self.directory = _usable_directory(self._wanted_directory, self._account)
        self.settings = dict(settings or {})

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "postgresql.log"

    @property
    def url(self) -> str:
        """The server's maintenance database."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The SQLAlchemy URL of a database, whether or not it exists."""
        host = quote(str(self._socket_folder))
        return f"postgresql+psycopg://postgres@/{quote(database, safe='')}?host={host}&port={_PORT}"

    @property
    def pid(self) -> int | None:
        """The id of the server's process; None when it does not run, also if another process has its old id.

        Raises PrivatePostgreSQLError when the current user may not see it.
        """
        file = self.data / "postmaster.pid"
        try:
            pid = int(file.read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        except PermissionError:
            raise PrivatePostgreSQLError(f"no permission to read {file}") from None
        return pid if os.fsencode(self.data) in command else None

    def serves(self, url: str) -> bool:
        """Whether this SQLAlchemy URL is of a database of this server, whether or not the server runs."""
        return parse_qs(urlsplit(url).query).get("host") == [str(self._socket_folder)]

    def new_things(self) -> Iterator[str]:
        """What the next start will make on this machine, in words."""
        if not self._account.exists:
            yield f"makes the system user {SYSTEM_USER}: PostgreSQL does not run as root"
        if not self.data.exists():
            yield f"makes a private server in {self.directory}"
            if self.directory != self._wanted_directory:
                yield f"does not use {self._wanted_directory}: the server's user cannot enter it"

    def start(self) -> None:
        """Create the data if there is none, start the server and wait until it answers. Nothing if it runs already."""
        if self.pid is not None:
            return
        self._account = Account.create()
        self._make_folders()
        self._make_data()
        options = {
            "listen_addresses": "",
            "port": _PORT,
            "unix_socket_directories": f'"{self._socket_folder}"',
            "unix_socket_permissions": "0700",
            **self.settings,
        }
        # pg_ctl hands this to a shell.
        words = shlex.join(word for name, value in options.items() for word in ("-c", f"{name}={value}"))
        self._run("pg_ctl", "start", "-s", "-w", "-D", str(self.data), "-l", str(self.log), "-o", words)

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server and wait for it. `immediate` is like a crash: no checkpoint, connections are cut."""
        if self.pid is not None:
            mode = "immediate" if immediate else "fast"
            self._run("pg_ctl", "stop", "-s", "-w", "-D", str(self.data), "-m", mode)

    def restart(self, *, immediate: bool = False) -> None:
        self.stop(immediate=immediate)
        self.start()

    def create_database(self, name: str, *, tables: bool = True, template: str = "template1") -> str:
        """Create the database, and with `tables` the protea tables, unless they exist. Returns its URL."""
        from psycopg import sql

        with _connect(self.url, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                make = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                connection.execute(make.format(sql.Identifier(name), sql.Identifier(template)))
        url = self.url_of(name)
        if tables:
            create_tables(url)
        return url

    def drop_database(self, name: str) -> None:
        """Drop the database if it exists; connections to it are cut."""
        from psycopg import sql

        with _connect(self.url, autocommit=True) as connection:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(name)))

    def __enter__(self) -> PrivatePostgreSQL:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _socket_folder(self) -> Path:
        if len(os.fsencode(self.directory)) <= _MAX_SOCKET_FOLDER_BYTES:
            return self.directory
        return _SHORT_FOLDER / f"reaper-{_digest(self.directory)}"

    @cached_property
    def _programs(self) -> Path:
        return programs_for(self._account, spare=self.directory / "programs")

    def _make_folders(self) -> None:
        """Create the folders; they belong to the server's user, and no other user can enter."""
        if self.directory.exists() and not self.data.exists() and (strange := _foreign_files(self.directory)):
            raise PrivatePostgreSQLError(f"{self.directory}: contains other files ({strange}); use an empty directory")
        for folder in reversed(self.directory.parents):
            self._create_parent(folder)
        for folder in {self.directory, self._socket_folder}:
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                pass
            else:
                self._account.give(folder)
            # In a folder that everyone can write to, another user may have created it first.
            if folder.is_symlink() or folder.stat().st_uid != self._account.uid:
                raise PrivatePostgreSQLError(f"{folder}: belongs to another user")
            folder.chmod(0o700)

    def _create_parent(self, folder: Path) -> None:
        """Create the folder if it is missing, so that the server's user can enter whatever the umask is."""
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            if self._account.uid != os.geteuid():
                folder.chmod(folder.stat().st_mode | 0o111)

    def _make_data(self) -> None:
        if self.data.exists():
            made_by = (self.data / "PG_VERSION").read_text().strip()
            if made_by != str(ours := version_of(installed_programs())):
                raise PrivatePostgreSQLError(f"{self.data}: created by PostgreSQL {made_by}, but the wheel has {ours}")
            return
        # Renamed when complete: an interrupted first start leaves nothing that looks like data.
        staging = self.directory / "data.new"
        shutil.rmtree(staging, ignore_errors=True)
        words = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]
        if self.settings.get("fsync") == "off":
            words.append("--no-sync")
        self._run("initdb", "-D", str(staging), *words)
        staging.rename(self.data)

    def _run(self, program: str, *words: str) -> None:
        status, said = self._account.run([str(self._programs / program), *words])
        if status != 0:
            log = self.log.read_text(errors="replace") if self.log.exists() else ""
            lines = [line.strip() for line in (*said.splitlines(), *log.splitlines()[-3:])]
            raise PrivatePostgreSQLError(
                f"the embedded PostgreSQL failed ({program}): {'; '.join(filter(None, lines))}"
            )


@contextmanager
def temporary(settings: Mapping[str, str] | None = None) -> Iterator[PrivatePostgreSQL]:
    """A running server in a temporary directory. Both are removed afterwards, even when this process is killed."""
    Account.create()
    server = PrivatePostgreSQL(Path(tempfile.mkdtemp(prefix="reaper-")), {**_NOT_DURABLE, **(settings or {})})
    server._account.give(server.directory)
    guard = _start_guard(server)
    try:
        server.start()
        yield server
    finally:
        guard.communicate()
        # The server's user can empty its directory, but may not remove it from a folder that belongs to root.
        shutil.rmtree(server.directory, ignore_errors=True)


def _start_guard(server: PrivatePostgreSQL) -> subprocess.Popen[bytes]:
    """Start a process that stops the server and removes its directory when its standard input is closed.

    The kernel closes the pipe when this process dies, so killed tests and demos leave nothing behind.
    """
    script = 'read -r _; "$1" stop -s -w -D "$2/data" -m immediate 2>/dev/null; rm -rf "$2" "$3" 2>/dev/null'
    words = [server._programs / "pg_ctl", server.directory, server._socket_folder]
    return subprocess.Popen(  # noqa: S603
        ["/bin/sh", "-c", script, "sh", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        **server._account.options,
    )


def libpq(url: str) -> str:
    """The URL for psycopg, from one for SQLAlchemy."""
    return url.replace("postgresql+psycopg:", "postgresql:", 1)


def _connect(url: str, *, autocommit: bool = False) -> Connection:
    # The driver is imported when it is used: the commands of manage.sh ask most often only whether the server runs.
    import psycopg

    return psycopg.connect(libpq(url), autocommit=autocommit)


def create_tables(url: str) -> None:
    """Create the protea tables, unless they exist."""
    script = resources.files("reaper.profiles").joinpath("protea.sql").read_bytes()
    with _connect(url) as connection:
        # A lock, because two processes that start at once would both find no table.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('reaper.dev.postgres'))")
        if connection.execute("SELECT to_regclass('public.job')").fetchone() == (None,):
            connection.execute(script)


def _usable_directory(directory: Path, account: Account) -> Path:
    """The directory, or its substitute if the server's user cannot enter it."""
    elsewhere = _FALLBACK_FOLDER / f"{directory.name}-{_digest(directory)}"
    above = next(parent for parent in directory.parents if parent.exists())
    if elsewhere.exists() or not account.can_run(["test", "-x", str(above)]):
        return elsewhere
    return directory


def _foreign_files(folder: Path) -> str:
    ours = {"data.new", "programs", "programs.new", "postgresql.log"}
    return ", ".join(sorted({path.name for path in folder.iterdir()} - ours)[:3])


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:10]

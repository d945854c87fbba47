"""One server on one directory: its life, its databases, its URL."""

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
from urllib.parse import quote

import psycopg
from psycopg import sql

from reaper.dev.postgres.binaries import Account, EmbeddedError, installed_programs, programs_for, version_of

FIRST_RUN_DATABASE = "protea"

# Survives a crash of the server, not of the machine. Without synchronous_commit it would survive neither,
# and tests crash servers.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
# Names the socket's file, nothing more: the server listens on no network.
_PORT = "5432"
# The kernel allows 107 bytes for a socket's path.
_MAX_SOCKET_FOLDER_BYTES = 107 - len(f"/.s.PGSQL.{_PORT}")
_SHORT_FOLDER = Path("/tmp")  # noqa: S108
# Not /var/lib/reaper, which is the service's: it gets another owner, and goes when the service goes.
_FALLBACK_FOLDER = Path("/var/lib/reaper-postgresql")


class Embedded:
    """One server on one directory, which holds all of it: data, log and socket.

    It outlives the process that starts it; `with` stops it at the end. Root's servers run as a user of their
    own, and where that user cannot enter the directory given (somewhere under /root), `directory` is another
    one, below /var/lib/reaper-postgresql: always the same for the same directory given.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self._account = Account.current()
        self.directory = _usable_directory(directory.expanduser().resolve(), self._account)
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
        """A SQLAlchemy URL; says nothing of whether the database exists."""
        host = quote(str(self._socket_folder))
        return f"postgresql+psycopg://postgres@/{quote(database, safe='')}?host={host}&port={_PORT}"

    @property
    def pid(self) -> int | None:
        """The server's process; None when it does not run, whoever has its number by now."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return pid if os.fsencode(self.data) in command else None

    def start(self) -> None:
        """Creates what is missing, starts the server and waits until it answers; no-op when it runs."""
        if self.pid is not None:
            return
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
        """Ends the server and waits for it. `immediate` is a crash: no checkpoint, connections are cut."""
        if self.pid is not None:
            mode = "immediate" if immediate else "fast"
            self._run("pg_ctl", "stop", "-s", "-w", "-D", str(self.data), "-m", mode)

    def restart(self, *, immediate: bool = False) -> None:
        self.stop(immediate=immediate)
        self.start()

    def create_database(self, name: str, *, tables: bool = True, template: str = "template1") -> str:
        """The URL of the database of that name, made with the protea tables where they are missing."""
        with psycopg.connect(libpq(self.url), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                make = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
                connection.execute(make.format(sql.Identifier(name), sql.Identifier(template)))
        url = self.url_of(name)
        if tables:
            create_tables(url)
        return url

    def drop_database(self, name: str) -> None:
        """The database is gone, whoever was connected to it."""
        with psycopg.connect(libpq(self.url), autocommit=True) as connection:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(name)))

    def __enter__(self) -> Embedded:
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
        """The folders exist, belong to the server's user, and are closed to all others."""
        if self.directory.exists() and not self.data.exists() and (strange := _foreign_files(self.directory)):
            raise EmbeddedError(f"{self.directory}: holds something else ({strange}); give an empty directory")
        for folder in reversed(self.directory.parents):
            self._create_parent(folder)
        for folder in {self.directory, self._socket_folder}:
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                pass
            else:
                self._account.give(folder)
            # Where everybody may write, the name may have been taken by somebody else.
            if folder.is_symlink() or folder.stat().st_uid != self._account.uid:
                raise EmbeddedError(f"{folder}: belongs to another user")
            folder.chmod(0o700)

    def _create_parent(self, folder: Path) -> None:
        """It is there; where we make it, the server's user can pass, whatever our umask."""
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            if self._account.uid != os.geteuid():
                folder.chmod(folder.stat().st_mode | 0o111)

    def _make_data(self) -> None:
        if self.data.exists():
            made_by = (self.data / "PG_VERSION").read_text().strip()
            if made_by != str(ours := version_of(installed_programs())):
                raise EmbeddedError(f"{self.data}: made by PostgreSQL {made_by}, the wheel has {ours}")
            return
        # Renamed when whole: a first start that was interrupted leaves nothing that looks like data.
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
            raise EmbeddedError(f"the embedded PostgreSQL failed ({program}): {'; '.join(filter(None, lines))}")


@contextmanager
def temporary(settings: Mapping[str, str] | None = None) -> Iterator[Embedded]:
    """A running server in a directory of its own. Both are gone afterwards, even when this process is killed."""
    server = Embedded(Path(tempfile.mkdtemp(prefix="reaper-")), {**_NOT_DURABLE, **(settings or {})})
    server._account.give(server.directory)
    guard = _start_guard(server)
    try:
        server.start()
        yield server
    finally:
        guard.communicate()
        # The server's user may empty its directory, but not remove it where temporary files are root's alone.
        shutil.rmtree(server.directory, ignore_errors=True)


def _start_guard(server: Embedded) -> subprocess.Popen[bytes]:
    """A process that ends the server and removes its directory once its standard input is closed.

    The kernel closes it for whoever dies, so nothing is left of tests or a demo that were killed.
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
    """A SQLAlchemy URL as psycopg alone reads it."""
    return url.replace("postgresql+psycopg:", "postgresql:", 1)


def create_tables(url: str) -> None:
    """The database has the protea tables; nothing changes where it had them."""
    script = resources.files("reaper.profiles").joinpath("protea.sql").read_bytes()
    with psycopg.connect(libpq(url)) as connection:
        # Two that start at once would both find no table.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('reaper.dev.postgres'))")
        if connection.execute("SELECT to_regclass('public.job')").fetchone() == (None,):
            connection.execute(script)


def _usable_directory(directory: Path, account: Account) -> Path:
    """The directory itself, or its stand-in where the server's user cannot enter it."""
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

"""`systemd/grants`: what `reaper grants` prints for every shipped profile, on the tables that are shipped with it.

`python -m tests.support.shipped_grants` rewrites the files.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from reaper.dev.postgres import PrivatePostgreSQL
from reaper.dev.postgres import temporary as postgresql
from tests.support import mariadb
from tests.support.commands import PROJECT, Reaper
from tests.support.mariadb import MariaDB
from tests.support.worlds import WORLDS, Database
from tests.support.worlds.mariadb import MariaDBDatabase
from tests.support.worlds.postgresql import PostgreSQLDatabase

FOLDER = PROJECT / "systemd" / "grants"
DATABASE = "your_database"
SHIPPED = sorted({(world.profile, world.script, where) for world in WORLDS for where in world.servers})
"""Each shipped profile, the file with its tables, and the kind of server."""


def path_of(profile: str, where: str) -> Path:
    return FOLDER / f"{profile}.{where}.sql"


def printed(database: Database, profile: str, script: str, folder: Path) -> str:
    """The output of the command on a database with these tables and no rows."""
    database.create(script)
    environment = {
        "REAPER_DATABASE_URL": database.url,
        "REAPER_PROFILE": profile,
        "REAPER_BROKER_URL": "redis://localhost",
    }
    result = Reaper(folder, environment)("grants")
    assert result.exit_code == 0, result.output
    return result.stdout


def on_postgresql(server: PrivatePostgreSQL, profile: str, script: str, folder: Path) -> str:
    url = server.create_database(DATABASE, tables=False)
    try:
        return printed(PostgreSQLDatabase(url), profile, script, folder)
    finally:
        server.drop_database(DATABASE)


def on_mariadb(server: MariaDB, profile: str, script: str, folder: Path) -> str:
    url = server.create_database(DATABASE)
    try:
        return printed(MariaDBDatabase(url), profile, script, folder)
    finally:
        server.drop_database(DATABASE)


def write() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        postgresql() as postgresql_server,
        mariadb.temporary() as mariadb_server,
    ):
        for profile, script, where in SHIPPED:
            if where == "postgresql":
                text = on_postgresql(postgresql_server, profile, script, Path(folder))
            else:
                text = on_mariadb(mariadb_server, profile, script, Path(folder))
            path_of(profile, where).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()

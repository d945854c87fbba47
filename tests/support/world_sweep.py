"""One sweep of a world by a reaper of its own: `python -m tests.support.world_sweep WORLD URL`."""

from __future__ import annotations

import sys

from tests.support.worlds import WORLDS
from tests.support.worlds.mariadb import MariaDBDatabase
from tests.support.worlds.postgresql import PostgreSQLDatabase


def main(name: str, url: str) -> None:
    [world] = [world for world in WORLDS if world.__name__ == name]
    database = PostgreSQLDatabase(url) if url.startswith("postgresql") else MariaDBDatabase(url)
    world(database).sweep()


if __name__ == "__main__":
    main(*sys.argv[1:])

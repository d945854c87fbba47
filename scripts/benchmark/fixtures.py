"""Test databases for the benchmark: filled without durability, measured with it.

A running job started 20 hours ago. The last event of a live job is as old as the database, that of a stale job 3 hours
older. Every tenth job has a child that finished 2½ hours ago; every twentieth has no `started_at`, only `created_at`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from reaper.dev.postgres import PrivatePostgreSQL, libpq

Session = psycopg.Connection[Any]

# No background work on its own schedule: it could fall into one measurement and not into the next.
_QUIET = {"autovacuum": "off", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "shared_buffers": "512MB"}
# PostgreSQL's defaults: a commit is on the disk when it returns.
MEASURING = {**_QUIET, "fsync": "on", "full_page_writes": "on"}
LOADING = {
    **_QUIET,
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "maintenance_work_mem": "512MB",
}

_ROLES = """
CREATE TEMPORARY TABLE role AS
SELECT gen_random_uuid() AS id, n, (n * %(stale)s::bigint) %% %(all)s < %(stale)s AS stale
FROM generate_series(1, %(all)s) AS n
"""
_RUNNING = """
INSERT INTO job (id, operation, queue_name, status, created_at, started_at)
SELECT id, (ARRAY['embed', 'predict', 'coordinate'])[1 + n % 3], 'main', 'running', now() - interval '20 h 1 min',
       CASE WHEN n % 20 <> 5 THEN now() - interval '20 h' + n % 600 * interval '1 s' END
FROM role
"""
_CHILDREN = """
INSERT INTO job (operation, queue_name, status, created_at, started_at, finished_at, parent_job_id)
SELECT 'batch', 'main', 'succeeded', now() - interval '5 h', now() - interval '5 h', now() - interval '150 min', id
FROM role WHERE n % 10 = 0
"""
# One statement per point in time: the rows are in the table in the order in which workers would have written them.
_EVENTS = """
INSERT INTO job_event (job_id, ts, event, message, fields)
SELECT id, now() - CASE WHEN stale THEN interval '3 h' ELSE interval '0' END - make_interval(secs => %s),
       'progress', 'batch done', '{"done": 1}'
FROM role
"""
_FINISHED = """
INSERT INTO job (operation, queue_name, status, created_at, started_at, finished_at)
SELECT 'embed', 'main', 'succeeded', made, made + interval '1 s', made + interval '9 min'
FROM (SELECT now() - interval '2 d' - n * interval '1 s' AS made FROM generate_series(1, %s) AS n) AS past
"""
_SPREAD_SECONDS = 16 * 3600


def use_loading_settings(server: PrivatePostgreSQL) -> None:
    """Switch the server to fast loading without durability: a crash loses the data."""
    _apply_settings(server, LOADING)


def use_measuring_settings(server: PrivatePostgreSQL) -> None:
    """Switch the server to PostgreSQL's default durability, for measuring."""
    if _apply_settings(server, MEASURING):
        # Data written without fsync may not be on the disk yet. Writing it later would slow down the measurement.
        for path in server.data.rglob("*"):
            if path.is_file():
                _sync(path)


def _apply_settings(server: PrivatePostgreSQL, settings: Mapping[str, str]) -> bool:
    """Restart the server with these settings unless it has them. Returns whether it was restarted."""
    if server.settings == settings:
        return False
    server.stop()
    server.settings.clear()
    server.settings.update(settings)
    server.start()
    return True


def _sync(path: Path) -> None:
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        # The server is running and may have removed a temporary file.
        return
    try:
        os.fsync(file)
    finally:
        os.close(file)


def connect(url: str) -> Session:
    """A session in autocommit mode and in UTC, as the reaper's sessions are."""
    return psycopg.connect(libpq(url), autocommit=True, options="-c TimeZone=UTC")


def create_database(
    server: PrivatePostgreSQL, name: str, *, stale: int, live: int, events: int, finished: int = 0
) -> str:
    """Create a database with that many jobs, and `events` events per running job. Returns its URL."""
    url = server.create_database(name)
    with connect(url) as session:
        with _without_indexes(session):
            _add_finished_jobs(session, finished)
            session.execute(_ROLES, {"stale": stale, "all": stale + live})
            session.execute(_RUNNING)
            session.execute(_CHILDREN)
            for n in reversed(range(events)):
                session.execute(_EVENTS, [n * _SPREAD_SECONDS / events])
        _vacuum_and_checkpoint(session)
    return url


def add_finished_jobs(url: str, count: int) -> None:
    """Add `count` finished jobs."""
    with connect(url) as session:
        with _without_indexes(session):
            _add_finished_jobs(session, count)
        _vacuum_and_checkpoint(session)


def copy_database(server: PrivatePostgreSQL, template: str, name: str) -> str:
    """Replace database `name` by a copy of `template`, vacuumed and checkpointed. Returns its URL.

    The copy keeps the OID of the database that it replaces. With another OID a source that has met that one would
    take its tables for replaced ones, and no job in them for silent.
    """
    with connect(server.url) as session:
        replaced = session.execute("SELECT oid FROM pg_database WHERE datname = %s", [name]).fetchone()
        server.drop_database(name)
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
            sql.Identifier(name), sql.Identifier(template)
        )
        session.execute(statement if replaced is None else statement + sql.SQL(" OID {}").format(replaced[0]))
    url = server.url_of(name)
    with connect(url) as session:
        _vacuum_and_checkpoint(session)
    return url


def _add_finished_jobs(session: Session, count: int) -> None:
    session.execute(_FINISHED, [count])


def _vacuum_and_checkpoint(session: Session) -> None:
    session.execute("VACUUM (ANALYZE)")
    session.execute("CHECKPOINT")


@contextmanager
def _without_indexes(session: Session) -> Iterator[None]:
    """Drop keys and indexes, and create them again at the end: inserting is many times faster without them."""
    keys = session.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid IN ('job'::regclass, 'job_event'::regclass) AND contype IN ('f', 'p') ORDER BY contype"
    ).fetchall()
    for table, name, _ in keys:
        session.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
    indexes = session.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid IN ('job'::regclass, 'job_event'::regclass)"
    ).fetchall()
    for name, _ in indexes:
        session.execute(f"DROP INDEX {name}")
    yield
    for _, definition in indexes:
        session.execute(definition)
    for table, name, definition in reversed(keys):
        session.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}')

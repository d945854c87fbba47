"""Databases of the sizes wanted, loaded fast, on a server that is durable again when it is measured.

A running job began 20 hours ago. One that is alive was heard of when it was loaded, a stale one 3 hours before. Every
tenth has a child that ended 2½ hours ago, every twentieth has no start of its own, only that of its creation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from reaper.dev.postgres import Embedded, libpq

Session = psycopg.Connection[Any]

# Nothing that runs in the background by its own schedule may fall into one measurement and not into the next.
_QUIET = {"autovacuum": "off", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "shared_buffers": "512MB"}
# As PostgreSQL has it by default: a commit is on the disk when it returns.
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
# One statement for each step back in time: the rows lie in the table as they would have been written.
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


def forgetful(server: Embedded) -> None:
    """From here on the server is fast and forgets everything in a crash: for loading."""
    _run_with(server, LOADING)


def durable(server: Embedded) -> None:
    """From here on the server is what PostgreSQL is by default: for measuring."""
    if _run_with(server, MEASURING):
        # What was written without fsync is still on its way to the disk, and would be in the way of what is measured.
        for path in server.data.rglob("*"):
            if path.is_file():
                _sync(path)


def _run_with(server: Embedded, settings: Mapping[str, str]) -> bool:
    """Whether it had to be restarted for that."""
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
        # The server works: its temporary files come and go.
        return
    try:
        os.fsync(file)
    finally:
        os.close(file)


def connect(url: str) -> Session:
    """Every statement is a transaction of its own; times read as the reaper's sessions read them."""
    return psycopg.connect(libpq(url), autocommit=True, options="-c TimeZone=UTC")


def load(server: Embedded, name: str, *, stale: int, live: int, events: int, finished: int = 0) -> str:
    """The URL of a new database with that many jobs, and so many events for each running one."""
    url = server.create_database(name)
    with connect(url) as session:
        with _without_indexes(session):
            _add_finished(session, finished)
            session.execute(_ROLES, {"stale": stale, "all": stale + live})
            session.execute(_RUNNING)
            session.execute(_CHILDREN)
            for n in reversed(range(events)):
                session.execute(_EVENTS, [n * _SPREAD_SECONDS / events])
        _settle(session)
    return url


def add_finished(url: str, count: int) -> None:
    """That many finished jobs more."""
    with connect(url) as session:
        with _without_indexes(session):
            _add_finished(session, count)
        _settle(session)


def copy(server: Embedded, template: str, name: str) -> str:
    """The URL of a fresh copy of a database, settled: nothing of the copying is left to do."""
    server.drop_database(name)
    with connect(server.url) as session:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        session.execute(make.format(sql.Identifier(name), sql.Identifier(template)))
    url = server.url_of(name)
    with connect(url) as session:
        _settle(session)
    return url


def _add_finished(session: Session, count: int) -> None:
    session.execute(_FINISHED, [count])


def _settle(session: Session) -> None:
    session.execute("VACUUM (ANALYZE)")
    session.execute("CHECKPOINT")


@contextmanager
def _without_indexes(session: Session) -> Iterator[None]:
    """Rows go in without keys and indexes, which are made again at the end: many times faster."""
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
    for _, made in indexes:
        session.execute(made)
    for table, name, definition in reversed(keys):
        session.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}')

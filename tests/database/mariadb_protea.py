"""A MariaDB database with the protea tables, and other sessions in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymysql
import pytest
from sqlalchemy.exc import DBAPIError

import reaper
from reaper.database.errors import ErrorKind, classify, short_message
from reaper.database.timeouts import Timeouts
from reaper.model import Evidence, Key, Thresholds, Verdict
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from tests.support.mariadb import MariaDB
from tests.support.protea import HOUR, PATIENCE, thresholds

TABLES = Path(reaper.__file__).parent / "profiles" / "protea.mariadb.sql"
NOON = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)


class MariaDBProtea:
    """A MariaDB database with the protea tables. Ages are seconds before the database's now."""

    def __init__(self, server: MariaDB, name: str) -> None:
        self.server, self.name, self.url = server, name, server.url(name)
        self.connection = server.connect(name)
        self._names = itertools.count()

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def job(
        self,
        *,
        age: float | None = 8 * HOUR,
        created: float | None = None,
        status: str = "running",
        operation: str = "embed",
        parent: str | None = None,
        finished: float | None = None,
    ) -> str:
        job = f"job-{next(self._names)}"
        ago = "utc_timestamp(6) - INTERVAL %s SECOND"
        self.run(
            "INSERT INTO job (id, operation, queue_name, status, created_at, started_at, finished_at, parent_job_id)"
            f" VALUES (%s, %s, 'q', %s, {ago}, {ago}, {ago}, %s)",
            *(job, operation, status, created if created is not None else age or 0, age, finished, parent),
        )
        return job

    def event(self, job: str, *, age: float = 0) -> None:
        self.run(
            "INSERT INTO job_event (job_id, ts, event) VALUES (%s, utc_timestamp(6) - INTERVAL %s SECOND, 'x')",
            job,
            age,
        )

    def source(self, limits: Thresholds | None = None, timeouts: Timeouts = PATIENCE) -> Source:
        return Source("main", self.url, resolve("protea"), limits or thresholds(), timeouts)

    def judge(self, *jobs: str, source: Source | None = None) -> list[Evidence]:
        return judge(source or self.source(), [(job,) for job in jobs])

    def verdict(self, job: str, source: Source | None = None) -> Verdict:
        """What the rule says of one job, by its key and in the survey of all: they must agree."""
        source = source or self.source()
        [evidence] = self.judge(job, source=source)
        with source.connect() as connection:
            context = source.begin_evaluation(connection, DowntimeTracker(0))
            with source.transaction(connection, read_only=True):
                found = {candidate.key for candidate in source.survey.stream(connection, context)}
        assert ((job,) in found) is (evidence.verdict is Verdict.STALE)
        return evidence.verdict


def judge(source: Source, keys: Sequence[Key]) -> list[Evidence]:
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            return source.lookup.evidence(connection, context, keys)


@contextmanager
def setting(server: MariaDB, name: str, value: object) -> Iterator[None]:
    """A global variable that sessions begin with."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT @@GLOBAL.{name}")
        [(before,)] = cursor.fetchall()
        cursor.execute(f"SET GLOBAL {name} = %s", (value,))
        try:
            yield
        finally:
            cursor.execute(f"SET GLOBAL {name} = %s", (before,))


@contextmanager
def holding(db: MariaDBProtea, statement: str) -> Iterator[pymysql.Connection[pymysql.cursors.Cursor]]:
    """Another session's open transaction."""
    with db.server.connect(db.name) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(statement)
        yield connection
        connection.rollback()


def error_of(
    db: MariaDBProtea, statement: str, *, source: Source | None = None, read_only: bool = False
) -> tuple[ErrorKind, str]:
    """The kind and the message of the error with which the server refuses a statement."""
    source = source or db.source()
    with (
        source.connect() as connection,
        pytest.raises(DBAPIError) as raised,
        source.transaction(connection, read_only=read_only),
    ):
        connection.exec_driver_sql(statement)
    return classify(raised.value), short_message(raised.value)

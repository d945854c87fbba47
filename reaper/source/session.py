"""Engines, and transactions that say at their start how they want to be treated.

Everything is set with the transaction itself (SET LOCAL), never on the session: that is what works behind a pooler
which hands every transaction to another server connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, RootTransaction, create_engine, event, text
from sqlalchemy.exc import ArgumentError

from reaper.hearing import Contact
from reaper.model import ConfigError, DatabaseAway
from reaper.source.line import MARGIN_SECONDS, Line, line

# TimeZone, DateStyle and extra_float_digits: a role or database may have its own, in which moments cannot be read
# back, and numbers lose their digits. Compiling such statements takes longer than running them.
BEGIN = text(
    "SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true), "
    "set_config('extra_float_digits', '3', true), set_config('jit', 'off', true), "
    "set_config('statement_timeout', :statement, true), "
    "set_config('lock_timeout', :lock, true), set_config('idle_in_transaction_session_timeout', :idle, true)"
)
# The checkpointer is started anew when the server recovers from a crash of one of its processes, which leaves the
# postmaster's own start time as it was. Roles that may not see it get NULL, which greatest() passes over.
LOOK = text(
    "SELECT clock_timestamp() AS now, greatest(pg_postmaster_start_time(), (SELECT max(backend_start)"
    " FROM pg_stat_activity WHERE backend_type = 'checkpointer')) AS server_started,"
    " pg_is_in_recovery() AS standby, current_setting('transaction_read_only') = 'on' AS read_only"
)
LOCK_MS = 5_000
IDLE_MS = 10_000


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the database may take, in seconds."""

    statement: float
    connect: float


def make_engine(url: str, source: str, patience: Patience) -> Engine:
    """An engine without a pool: a sweep a minute can afford a connection, and none goes stale in between.

    Raises ConfigError for a URL that it cannot use.
    """
    try:
        engine = _engine(url, source, patience)
    except ArgumentError as error:
        raise ConfigError([f"source {source}: database_url: {error}"]) from None
    lines = line(patience.statement + MARGIN_SECONDS)

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, words: Sequence[str], options: Mapping[str, Any]) -> Line:
        return lines.connect(*words, **options)

    return engine


def _engine(url: str, source: str, patience: Patience) -> Engine:
    return create_engine(
        url,
        poolclass=NullPool,
        # The rule is judged again in a fresh snapshot, whatever the role's default isolation is.
        isolation_level="READ COMMITTED",
        connect_args={
            "application_name": f"reaper/{source}",
            # A role or database may have another, in which text comes back as bytes or not at all.
            "client_encoding": "utf8",
            "connect_timeout": max(1, round(patience.connect)),
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            # Prepared statements outlive transactions, and behind a pooler the server connection does not.
            "prepare_threshold": None,
        },
    )


@contextmanager
def transaction(connection: Connection, patience: Patience, *, read_only: bool = False) -> Iterator[RootTransaction]:
    """One short transaction in UTC, with its time limits set; commits at the end, rolls back on any error."""
    with connection.begin() as begun:
        if read_only:
            connection.execute(text("SET TRANSACTION READ ONLY"))
        limits = {"statement": f"{round(patience.statement * 1000)}", "lock": f"{LOCK_MS}", "idle": f"{IDLE_MS}"}
        connection.execute(BEGIN, limits)
        yield begun


def look(connection: Connection) -> Contact:
    """Ask for the database's clock and its server's start, inside a transaction.

    Raises DatabaseAway when nobody could write there now: a standby, or a server set to read only.
    """
    row = connection.execute(LOOK).one()
    if row.standby:
        raise DatabaseAway("the server is a standby in recovery: nothing can be written there")
    if row.read_only:
        raise DatabaseAway("the database is read-only: nothing can be written there")
    return Contact(now=row.now, server_started=row.server_started)

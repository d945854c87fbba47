"""Keeps when each database was last reached and which server it was, so that a restart costs what it lasted."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.database.connections import read_server_clock
from reaper.database.server_identity import ServerIdentity, database_address, read_server_identity
from reaper.errors import DatabaseUnavailable, StateUnavailable
from reaper.memory import ContactStore, DatabaseContact
from reaper.model import ServerClock, SweepReport
from reaper.source import Source
from reaper.staleness.downtime import DowntimeHistory, DowntimeTracker


def resume_downtime(contacts: ContactStore, source: Source, connection: Connection, downtime: DowntimeTracker) -> None:
    """Before the first contact of a process: let `downtime` continue where the process before this one ended.

    Does nothing unless it is certain that the server is the same, with all that was written until then. A failover, a
    restore or a copied directory loses signs of life: then nothing from before the server's start counts. Never raises
    for trouble with the database, which the contact meets, too, or with the state file.
    """
    if not downtime.grace_seconds:
        return
    try:
        remembered = contacts.last(source.name, database_address(source.engine))
    except StateUnavailable as error:
        contacts.report(error)
        downtime.unknown_because = "the state file cannot be read"
        return
    try:
        clock, server = _read_server(source, connection)
    except (DatabaseUnavailable, DBAPIError):
        return
    difference = _difference(remembered, clock, server)
    downtime.unknown_because = difference or "its clock is behind, or another server took over"
    if difference is None and remembered is not None:
        downtime.resume(_history(remembered), clock)


def record_contact(contacts: ContactStore, source: Source, downtime: DowntimeTracker, report: SweepReport) -> None:
    """Keep what is known of the database that was swept, if the last record is some seconds old.

    Never raises for trouble with the database or with the state file: the sweep has been made all the same.
    """
    address = database_address(source.engine)
    history = downtime.history()
    if report.database_away or history is None or not contacts.is_due(source.name, address):
        return
    # A replica that stands by keeps no connection open between its sweeps.
    connected = source.cached_connection() if report.leads else source.connect()
    try:
        with connected as connection:
            clock, server = _read_server(source, connection)
    except (DatabaseUnavailable, DBAPIError):
        return
    if clock.server_started != history.last.server_started:
        # Another server, or a restart, since the sweep: the next contact finds out which.
        return
    contacts.record(
        DatabaseContact(
            source.name,
            address,
            history.last.now.isoformat(),
            server.system_identifier if server else None,
            server.timeline if server else None,
            server.database_oid if server else None,
            server.wal_position if server else None,
            history.last.server_started.isoformat(),
            tuple((start.isoformat(), end.isoformat()) for start, end in history.downtime),
        )
    )


def _read_server(source: Source, connection: Connection) -> tuple[ServerClock, ServerIdentity | None]:
    with source.transaction(connection, read_only=True):
        server = read_server_identity(connection)
    with source.transaction(connection):
        return read_server_clock(connection), server


def _difference(remembered: DatabaseContact | None, clock: ServerClock, server: ServerIdentity | None) -> str | None:
    """Why it is not certain that this server was the last one reached; None when it is."""
    if remembered is None:
        return "no earlier contact with it is remembered"
    if server is None:
        return "it has nothing, or the role may read nothing, that distinguishes it from a copy"
    if remembered.wal_position is None or remembered.server_started is None:
        return "which server was reached last is not remembered"
    if (remembered.system_identifier, remembered.database_oid) != (server.system_identifier, server.database_oid):
        return "another database was reached last"
    if remembered.timeline != server.timeline:
        return "it was restored, or another server took over, since it was last reached"
    restarted = clock.server_started != datetime.fromisoformat(remembered.server_started)
    # A start is preceded by a checkpoint of all that was on the disk. What a copy has written since its start could
    # otherwise make up for what it lacks.
    if (server.checkpoint_position if restarted else server.wal_position) < remembered.wal_position:
        return "it was set back to an earlier state since it was last reached"
    return None


def _history(remembered: DatabaseContact) -> DowntimeHistory:
    moment = datetime.fromisoformat
    return DowntimeHistory(
        ServerClock(moment(remembered.clock), moment(remembered.server_started or "")),
        tuple((moment(start), moment(end)) for start, end in remembered.downtime),
    )

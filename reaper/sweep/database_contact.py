"""Keeps, after a sweep, when its database was reached and which server it was. Nothing here decides by it."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from reaper.database.server_identity import database_address, read_server_identity
from reaper.errors import DatabaseUnavailable
from reaper.memory import ContactStore, DatabaseContact
from reaper.model import SweepReport
from reaper.source import Source


def record_contact(contacts: ContactStore, source: Source, report: SweepReport) -> None:
    """Keep the clock and the identity of the server that was swept, if the last record is some seconds old.

    Never raises for trouble with the database or with the state file: the sweep has been made all the same.
    """
    address = database_address(source.engine)
    if report.database_away or not contacts.is_due(source.name, address):
        return
    # A replica that stands by keeps no connection open between its sweeps.
    connected = source.cached_connection() if report.leads else source.connect()
    try:
        with connected as connection, source.transaction(connection, read_only=True):
            server = read_server_identity(connection)
    except (DatabaseUnavailable, DBAPIError):
        return
    contacts.record(DatabaseContact(source.name, address, server.clock, server.system_identifier, server.timeline))

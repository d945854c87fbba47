"""Looks at a table that no shipped profile is for, waits, looks again, and proposes a profile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from reaper.common.suggestions import did_you_mean
from reaper.config import DatabaseSettings
from reaper.errors import ReaperError
from reaper.proposal.looks import Looks, first_look, second_look
from reaper.proposal.moments import local_offset
from reaper.proposal.propose import Proposal, Unproposable, propose
from reaper.proposal.recognise import recognise
from reaper.proposal.session import looking_at
from reaper.proposal.table_names import TableNames, names_in_profiles, source_name
from reaper.proposal.witnesses import EventRows, event_rows
from reaper.proposal.words import IS_STATE, Moment, moment_of, words
from reaper.proposal.zones import ZoneOfMoments, zone_of_moments


class OwnTable(NamedTuple):
    """What was seen of a table: enough to propose a profile, again with other answers."""

    name: str
    looks: Looks
    events: list[EventRows]
    system: str | None = None
    """The shipped profile that knows the table."""

    def propose(self, answers: Mapping[str, str]) -> Proposal:
        """The profile. Raises ReaperError."""
        try:
            return propose(source_name(self.name), self.name, self.looks, self.events, answers)
        except Unproposable as why:
            unread = f" (its rows were not read: {self.looks.not_read})" if self.looks.not_read else ""
            raise ReaperError(
                f"no profile can be proposed for the table {self.name}: {why}{unread}; the documents say in "
                "'Watch your own table' how to write one"
            ) from None


def look_at_table(database: DatabaseSettings, spelled: str, watch_seconds: float) -> OwnTable:
    """Look at a table twice, so long apart. Raises ReaperError for one that is not there."""
    with looking_at(database) as look:
        tables = look.catalog.every_table()
        names = names_in_profiles(look.catalog, tables)
        place = next((place for place, name in names.items() if spelled in (name, ".".join(place))), None)
        table = look.catalog.find_table(names[place]) if place else None
        if place is None or table is None:
            raise ReaperError(f"there is no table {spelled!r}{did_you_mean(spelled, names.values())}")
        looks = first_look(look.catalog, table)
        events = event_rows(look.catalog, looks, names)
        systems, _ = recognise(look.catalog, look.connection)
    if watch_seconds and looks.rows:
        time.sleep(watch_seconds)
        with looking_at(database) as look:
            looks = second_look(look.catalog, looks)
    known = (system.name for system in systems if ".".join(place) in system.tables)
    return OwnTable(names[place], looks, events, next(known, None))


def zone_for(database: DatabaseSettings, seen: OwnTable, proposal: Proposal) -> ZoneOfMoments | None:
    """What is known of the zone of moments in columns of the proposed profile that have none."""
    with looking_at(database) as look:
        zone = zone_of_moments(look.catalog, look.connection, proposal.profile())
    if zone is None or (local := local_offset(seen.looks)) is None:
        return zone
    return replace(zone, moved=local)


def likely_tables(tables: TableNames) -> list[tuple[str, str]]:
    """The tables that have, by the names of their columns, the state and the start or heartbeat of jobs."""
    return [
        place
        for place, columns in tables.items()
        if any(IS_STATE & set(words(column)) for column in columns)
        and any(moment_of(column) in (Moment.STARTED, Moment.ALIVE) for column in columns)
    ]

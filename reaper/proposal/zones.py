"""What a database shows of the zone of moments that are stored without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from reaper.catalog import Catalog, QueryFailed
from reaper.common.time_zones import zone_name
from reaper.database.dialect import dialect_of
from reaper.errors import SpellingUnclear
from reaper.profile import Profile
from reaper.profile.columns import TableColumn
from reaper.source.local_time_columns import local_columns
from reaper.source.name_spelling_decision import read_spelling
from reaper.sql.tables import ProfileTables
from reaper.staleness.unknown_moments import columns_without_zone


@dataclass(frozen=True, slots=True)
class ZoneOfMoments:
    """What is known of the zone of these columns, which store moments without one.

    `certain`: the server itself fills a column in this zone, that of `whose` clock. Without a zone, nothing speaks
    against UTC. `said` is the zone that a person has named. `moved` is a column that was seen to be written in local
    time, with its offset as a zone.
    """

    columns: Sequence[TableColumn]
    zone: str | None = None
    whose: str = ""
    certain: bool = False
    said: str | None = None
    moved: tuple[str, str] | None = None


def zone_of_moments(catalog: Catalog, connection: Connection, profile: Profile) -> ZoneOfMoments | None:
    """What is known of the zone of the profile's moments; None where each column has or says its own."""
    dialect = dialect_of(connection)
    try:
        spelling = read_spelling(
            dialect, catalog.query, profile, catalog.resolution_path, may_sample=lambda _sampled: False
        )
    except (SpellingUnclear, QueryFailed):
        return None  # `reaper check` says why
    spelled = spelling.applied_to(profile)
    if not (columns := columns_without_zone(spelled)):
        return None
    local = local_columns(connection, ProfileTables(spelled, spelling.schemas), columns)
    # A column that the server fills says more than one that a program fills.
    for column in sorted(local.values(), key=lambda one: not one.certain):
        try:
            return ZoneOfMoments(columns, zone_name(column.zone.zone), column.zone.whose, column.certain)
        except ValueError:  # an abbreviation, which is not the name of a zone
            continue
    return ZoneOfMoments(columns)

"""Checks that moments without a zone are in the zone that the profile says, as far as the catalog shows it."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from reaper.check.context import OVERRIDE, CheckContext
from reaper.check.finding import Finding, error, warning
from reaper.common.time_zones import zone_name
from reaper.model import StoredTime, TimestampFormat
from reaper.profile.columns import TableColumn
from reaper.source.local_time_columns import LocalColumn, local_columns
from reaper.staleness.unknown_moments import columns_without_zone


def check_zones(context: CheckContext, connection: Connection) -> Iterator[Finding]:
    """Finds nothing where the server's zone is UTC, and nothing in columns whose zone is said."""
    columns = [pair for pair in columns_without_zone(context.profile) if context.column(*pair) is not None]
    for column, local in local_columns(connection, context.schema, columns).items():
        yield _finding(context, column, local)


def _finding(context: CheckContext, column: TableColumn, local: LocalColumn) -> Finding:
    zone, subject = local.zone, ".".join(column)
    fix = _say_zone(context, subject, zone.zone)
    if local.certain:
        message = (
            f"has no time zone, and the server fills it ({local.filled_by}) in {zone.zone}, the zone of {zone.whose}, "
            "so its moments are not in UTC: sweeps leave its jobs alone until the zone is said"
        )
        return error(subject, message, fix)
    filled = f"the server fills it ({local.filled_by})" if local.filled_by else "a program fills it"
    others = f" ({', '.join(zone.others)})" if zone.others else ""
    message = (
        f"has no time zone, and is read as UTC; {filled}, and the zone of {zone.whose} is {zone.zone}{others}. If its "
        "moments are in local time, say the zone, or the living are ended; if they are in UTC, say 'UTC'"
    )
    return warning(subject, message, fix)


def _say_zone(context: CheckContext, subject: str, zone: str) -> str | None:
    """The lines that say this zone; None for a server that has only an abbreviation of it."""
    try:
        name = zone_name(zone)
    except ValueError:
        return None
    context.corrections.times[subject] = StoredTime(TimestampFormat.NAIVE, name)
    return OVERRIDE

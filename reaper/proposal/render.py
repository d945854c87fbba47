"""Writes what was found in a database as a configuration file, in which every line says why it is there.

Names and values from the database are TOML strings, or comments with their control characters spelled out and cut in
length: none of them can end its line.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reaper.common.durations import format_duration
from reaper.common.terminal import clipped, shown
from reaper.common.toml_text import toml_key, toml_value
from reaper.config import DatabaseSettings
from reaper.config.urls import mask_database_url
from reaper.profile.profile_toml import override
from reaper.proposal.propose import Proposal
from reaper.proposal.recognise import System, corrected
from reaper.proposal.zones import ZoneOfMoments

_WIDTH = 120
_MOST_OF_A_COMMENT = 1000
_HOUR = 3600.0
_DEFAULT_TIMEOUT, _DEFAULT_STALL = 21600.0, 1800.0

_HEAD = """\
# Written by `reaper init`. Below "# ?" stand guesses and questions: look at these lines first.
#
# The reaper only watches: every sweep judges the jobs and logs what it would end, and ends nothing. Once what it
# would end is right, remove this line.
observe = true

# A job is stale, and would be ended, when it has run for longer than timeout_seconds and has shown no sign of life for
# longer than stall_seconds.
"""


def comment(text: str, mark: str = "#") -> str:
    """A comment, folded; whatever the text has in it, each of its lines is a comment."""
    words = clipped(shown(text), _MOST_OF_A_COMMENT)
    return textwrap.fill(
        words,
        _WIDTH,
        initial_indent=f"{mark} ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def line(key: str, value: Any, why: str = "", *, sure: bool = True) -> str:
    """A line with its reason above it; a guess is marked."""
    reason = [comment(why, "#" if sure else "# ?")] if why else []
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        items = [f"    {toml_value(item)}," for item in value]
        return "\n".join((*reason, f"{toml_key(key)} = [", *items, "]"))
    return "\n".join((*reason, f"{toml_key(key)} = {toml_value(value)}"))


def question(text: str) -> str:
    """A comment that asks."""
    return comment(text, "# ?")


def duration(seconds: float) -> str:
    """As settings take it."""
    return format_duration(seconds).replace(" ", "")


def file_text(database: DatabaseSettings, parts: Sequence[str]) -> str:
    """The whole file."""
    return "\n".join((_HEAD, "\n".join(_database_lines(database)), "", *(f"{part}\n" for part in parts)))


def _database_lines(database: DatabaseSettings) -> Iterator[str]:
    url = database.url.get_secret_value()
    if database.url_file is not None:
        yield line("database_url_file", str(database.url_file), "The file with the URL of the database.")
    elif database.origin != "--database-url":
        yield comment(f"The URL of the database comes from {database.origin}.")
    elif mask_database_url(url) == url:
        yield line("database_url", url)
    else:
        yield question(
            "The URL of the database has a password, which is not written here. Set REAPER_DATABASE_URL, or put the "
            "URL into a file that only the reaper can read, and name it:"
        )
        yield '# database_url_file = "/run/secrets/reaper-database-url"'


# --- systems that a shipped profile is for ---------------------------------------------------------------------------


def system_part(system: System, *, has_broker: bool) -> str:
    """The source of an installation, and its profile where that differs from the shipped one."""
    return "\n".join(_system_lines(system, has_broker=has_broker))


def _system_lines(system: System, *, has_broker: bool) -> Iterator[str]:
    profile = system.profile
    yield comment(profile.description.removeprefix(f"{profile.name}: "))
    yield comment(f"Recognised by its tables: {', '.join(system.tables)}.")
    yield from source_lines(system.name, system.name)
    if profile.suggested:
        why = "These thresholds fit the heartbeats and the recovery of the system."
        yield from threshold_lines(profile.suggested.timeout, profile.suggested.stall, why)
    else:
        yield from threshold_lines(_DEFAULT_TIMEOUT, _DEFAULT_STALL, "The default thresholds.")
    others = [action for action in profile.action_names if action != "fail"]
    if others:
        yield comment(f"A sweep takes the action 'fail'. Others of this profile: {', '.join(map(repr, others))}.")
        yield f"# action = {toml_value(others[0])}"
    if profile.needs_broker and not has_broker:
        yield question(
            "Celery's workers are asked whether they have a job. The database does not show their broker: set "
            "REAPER_BROKER_URL, or name a file with its URL:"
        )
        yield '# broker_url_file = "/run/secrets/reaper-broker-url"'
    if system.zone is not None:
        yield from zone_lines(system.zone)
    if system.renamed:
        _, corrections = corrected(system)
        yield ""
        yield comment("The tables have other names than in the shipped profile.")
        yield override(profile, corrections, system.name)


# --- a table that no shipped profile is for --------------------------------------------------------------------------


def proposal_part(proposal: Proposal, zone: ZoneOfMoments | None) -> str:
    """The source of a table of one's own, and its profile."""
    return "\n".join(_proposal_lines(proposal, zone))


def _proposal_lines(proposal: Proposal, zone: ZoneOfMoments | None) -> Iterator[str]:
    yield comment(f"The table {proposal.table}: a proposal, by its names, its types and the rows that were read.")
    yield from source_lines(proposal.name, proposal.name)
    yield from _thresholds_for(proposal)
    if zone is not None:
        yield from zone_lines(zone)
    for path, lines in proposal.parts.items():
        yield ""
        yield f"[{'.'.join(['profiles', toml_key(proposal.name), *([path] if path else [])])}]"
        for key, value, why, sure in lines:
            yield line(key, value, why, sure=sure)


def _thresholds_for(proposal: Proposal) -> Iterator[str]:
    longest = proposal.longest_seconds
    if longest is None:
        yield from threshold_lines(_DEFAULT_TIMEOUT, _DEFAULT_STALL, "The default thresholds.")
        return
    took = f"Of the jobs that were read and have ended, the longest took {format_duration(max(longest, 0.0))}."
    timeout = _DEFAULT_TIMEOUT
    if not proposal.has_witness:
        took += " The timeout alone decides about a job, so it is twice that, and not below the default."
        timeout = max(_DEFAULT_TIMEOUT, math.ceil(2 * longest / _HOUR) * _HOUR)
    yield from threshold_lines(timeout, _DEFAULT_STALL, took)


def source_lines(name: str, profile: str) -> Iterator[str]:
    yield f"[sources.{toml_key(name)}]"
    yield line("profile", profile)


def threshold_lines(timeout: float, stall: float, why: str) -> Iterator[str]:
    yield line("timeout_seconds", duration(timeout), why)
    yield line("stall_seconds", duration(stall))


def zone_lines(zone: ZoneOfMoments, key: str = "time_zone") -> Iterator[str]:
    columns = ", ".join(f"{table}.{column}" for table, column in zone.columns)
    if zone.said is not None:
        yield line(key, zone.said, f"Without a zone: {columns}. You have said it.")
        return
    if zone.certain and zone.zone is not None:
        yield line(key, zone.zone, f"Without a zone: {columns}. The server fills them by the clock of {zone.whose}.")
        return
    if zone.moved is not None:
        column, offset = zone.moved
        why = (
            f"{column} has no zone, and moved while jobs ran: its moments are in local time, {offset} from UTC now. An "
            "offset does not follow daylight saving: say the name of the zone"
        )
        yield line(key, offset, why, sure=False)
        return
    doubt = f"the zone of {zone.whose} is {zone.zone}" if zone.zone else "nothing speaks against that"
    yield question(
        f"Without a zone: {columns}. They are read as UTC, and {doubt}. If programs write local time, say the zone:"
    )
    yield f"# {key} = {toml_value(zone.zone or 'America/New_York')}"

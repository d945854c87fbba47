"""Finds out whether the ends of leases, in a column without a zone, are in UTC. Changes nothing.

How long a lease is, is not known, so that no offset of a zone shows in its end. But a lease is renewed to a moment that
is to come. Where three jobs have renewed theirs between two looks, and all of these ended before the first look as they
are read, the column is in local time. Where leases of three jobs have not ended yet, it is in UTC, or in a zone east of
it, in which leases look longer. One row proves nothing, nor do two.

Until one of both is known, a lease that has ended long ago may be held, in a zone west of UTC: it is in doubt. The rule
says for how long (`reaper.staleness.unknown_moments`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Integer, Select, func, select

from reaper.model import Key
from reaper.profile import Profile
from reaper.profile.columns import TableColumn
from reaper.source.statements import SourceStatements
from reaper.sql import expressions as sql
from reaper.sql.tables import reserved_alias
from reaper.staleness import parameters
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule
from reaper.staleness.unknown_moments import columns_of_witness

IN_UTC, LOCAL, DOUBT = "lease in UTC", "lease in local time", "lease?"
"""What is known of a column with the ends of leases."""
_JOBS = 3
_BEFORE_SECONDS = 60.0
"""A renewed lease that ended so long before the look before: clocks of workers may be that far behind."""
_FAR_SECONDS = 14 * 3600.0
_MAX_READ, _LIMIT = 1_000, "reaper_max_leases"


@dataclass(frozen=True, slots=True)
class LeaseLook:
    """The ends of leases of running jobs at one moment, by column and job, all in seconds since 1970.

    `silent`: columns in which a job counts as silent by its lease. `held`: some jobs whose leases had not ended yet, at
    this look or an earlier one of the process.
    """

    at: float
    ends: Mapping[TableColumn, Mapping[Key, float]] = field(default_factory=dict)
    silent: frozenset[TableColumn] = frozenset()
    held: Mapping[TableColumn, frozenset[Key]] = field(default_factory=dict)


def leases_looked_at(profile: Profile, columns: tuple[TableColumn, ...]) -> Iterator[tuple[int, TableColumn]]:
    """The numbers of the witnesses with a lease whose end is in one of these columns, with that column."""
    for number, witness in enumerate(profile.alive):
        if witness.deadline:
            yield from ((number, column) for column in columns_of_witness(profile, witness) if column in columns)


def look_at_leases(
    statements: SourceStatements, connection: Connection, context: EvaluationContext, before: LeaseLook | None
) -> LeaseLook:
    """Inside a transaction. Raises DBAPIError."""
    now, silent_before = context.now.timestamp(), context.newest_cutoff.at.timestamp()
    columns, width = statements.rule_parameters.columns_without_zone, len(statements.profile.jobs.key)
    values = statements.values(context) | {_LIMIT: _MAX_READ}
    ends, held = dict[TableColumn, Mapping[Key, float]](), dict[TableColumn, frozenset[Key]]()
    for number, column in leases_looked_at(statements.profile, columns):
        rows = statements.execute(connection, values, lease_ends_query, number)
        ends[column] = {tuple(row[:width]): float(row[width]) for row in rows}
        known = before.held.get(column, frozenset()) if before else frozenset[Key]()
        held[column] = frozenset(islice(known | {key for key, end in ends[column].items() if end > now}, _JOBS))
    silent = frozenset(
        column for column, of_jobs in ends.items() if any(end < silent_before for end in of_jobs.values())
    )
    return LeaseLook(now, ends, silent, held)


def lease_states(before: LeaseLook | None, now: LeaseLook, known: Mapping[str, str]) -> dict[str, str]:
    """What is known of the columns with leases after a look, by their names. `known`: what was known before it."""
    states = {name: state for name, state in known.items() if state in (IN_UTC, LOCAL)}
    for column, ends in now.ends.items():
        name, earlier = ".".join(column), before.ends.get(column, {}) if before else {}
        renewed = [end for key, end in ends.items() if key in earlier and end > earlier[key]]
        over = [end for end in renewed if before and end < before.at - _BEFORE_SECONDS]
        if len(over) >= _JOBS:
            states[name] = LOCAL
        elif states.get(name) == LOCAL:
            if sum(end > now.at for end in renewed) >= _JOBS:
                states[name] = IN_UTC
        elif len(now.held[column]) >= _JOBS:
            states[name] = IN_UTC
        elif name not in states and column in now.silent:
            states[name] = DOUBT
    return states


def lease_ends_query(rule: Rule, number: int) -> Select[Any]:
    """The keys of running jobs, and the ends of their leases as if these were in UTC: the latest ones, of those that a
    zone could have moved across now.
    """
    tables, jobs = rule.tables, rule.tables.jobs
    deadline = tables.profile.alive[number].deadline
    assert deadline is not None
    end = sql.epoch(tables.instant(tables.profile.jobs.table, jobs, deadline)).label("lease_end")
    running = select(*tables.key_text(jobs), end).where(tables.search_condition(jobs), tables.running(jobs))
    leases = running.subquery(reserved_alias("leases"))
    distance = leases.c.lease_end - sql.epoch(sql.instant_parameter(parameters.NOW))
    latest = select(*leases.c).where(func.abs(distance) <= _FAR_SECONDS).order_by(leases.c.lease_end.desc())
    return latest.limit(sql.parameter(_LIMIT, Integer()))


def describe_lease_zone(name: str, state: str) -> str:
    """Why the leases in a column of this name are unknown, in the state LOCAL or DOUBT."""
    if state == LOCAL:
        return (
            f"{name} is not in UTC: leases of several jobs have been renewed, and had ended before that by the "
            "database's clock. Its moments are unknown until its zone is said"
        )
    return (
        f"{name} may not be in UTC: leases in it ended long ago by the database's clock, and no three jobs were seen "
        "whose leases had not ended yet. Its moments of the last hours are unknown until such jobs are seen, or until "
        "its zone is said"
    )

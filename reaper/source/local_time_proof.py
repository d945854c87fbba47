"""Proves, by the signs of life of running jobs, that a column without a zone is not in UTC. Changes nothing.

A sign that is written is of now: in UTC it lies beside the database's clock. Where the newest signs of three jobs have
moved since the look before, and all lie beside the same offset from the clock that is not zero, the column is in local
time. One job, such as one with a damaged row, proves nothing; and a sign that is only old lies before the look before.
What children have in a column are signs of their parents: of three parents, one child each is enough. Leases are of
moments to come, and are looked at in another way (`reaper.source.lease_zones`).

A first look cannot see what moves, and a sweep would end the living before the second one. So the signs of three jobs
beside one such offset are a doubt about the column, which lasts until the second look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Float, FromClause, Integer, Select, and_, cast, func, not_, select

from reaper.model import Key
from reaper.profile import Children, Profile
from reaper.profile.column_usage import columns_set_to_now
from reaper.profile.columns import TableColumn
from reaper.source import lease_zones
from reaper.source.lease_zones import LeaseLook
from reaper.source.statements import SourceStatements
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import reserved_alias
from reaper.staleness import parameters
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule
from reaper.staleness.unknown_moments import columns_of_witness

APART_SECONDS = 60.0
_MAX_READ = 1_000
_JOBS = 3
_STEP, _LARGEST = 900, 14 * 3600
"""Every offset that a zone has is a multiple of a quarter of an hour, of at most fourteen hours."""
_TOLERANCE = 30.0
_LIMIT = "reaper_max_read"

DOUBT = "?"
"""At the end of an offset that is a doubt, and not proven."""


@dataclass(frozen=True, slots=True)
class LocalLook:
    """The newest signs of some running jobs at one moment, by column and job, all in seconds since 1970."""

    at: float
    signs: Mapping[TableColumn, Mapping[Key, float]]
    leases: LeaseLook


@dataclass(frozen=True, slots=True)
class LocalProof:
    """The columns that two looks have proven to be in local time, with their offset in seconds, and those in UTC."""

    local: Mapping[TableColumn, int]
    in_utc: frozenset[TableColumn]


def compare(before: LocalLook, now: LocalLook) -> LocalProof:
    """What two looks prove, which are at least APART_SECONDS apart."""
    local, in_utc = dict[TableColumn, int](), set[TableColumn]()
    for column, signs in now.signs.items():
        earlier = before.signs.get(column, {})
        moved = [sign for key, sign in signs.items() if key in earlier and sign > earlier[key]]
        offsets = Counter(_offset(sign - now.at) for sign in moved if _is_telling(sign, before.at, now.at))
        offset, jobs = next(((offset, jobs) for offset, jobs in offsets.most_common() if offset), (0, 0))
        if jobs >= _JOBS:
            local[column] = offset
        elif offsets[0] >= _JOBS:
            in_utc.add(column)
    return LocalProof(local, frozenset(in_utc))


def known_after(before: LocalLook | None, now: LocalLook, known: Mapping[str, str]) -> dict[str, str]:
    """What is known of columns after a look, by their names: offsets that are proven, or in doubt after a first look;
    and what is known of leases.

    `known`: what was known before it.
    """
    leases = lease_zones.lease_states(before.leases if before else None, now.leases, known)
    return leases | _offsets_after(before, now, {name: it for name, it in known.items() if not is_of_leases(it)})


def is_of_leases(state: str) -> bool:
    """What is known of a column is about leases in it."""
    return state in (lease_zones.IN_UTC, lease_zones.LOCAL, lease_zones.DOUBT)


def _offsets_after(before: LocalLook | None, now: LocalLook, known: Mapping[str, str]) -> dict[str, str]:
    proven = {name: offset for name, offset in known.items() if not offset.endswith(DOUBT)}
    if before is None:
        doubts = {".".join(column): offset_text(offset) + DOUBT for column, offset in _doubts(now)}
        return doubts | proven
    proof = compare(before, now)
    in_utc = set(map(".".join, proof.in_utc))
    proven = {name: offset for name, offset in proven.items() if name not in in_utc}
    return proven | {".".join(column): offset_text(offset) for column, offset in proof.local.items()}


def _doubts(first: LocalLook) -> Iterator[tuple[TableColumn, int]]:
    """The columns in which the newest signs of three jobs lie beside one offset that is not zero, with that."""
    for column, signs in first.signs.items():
        offsets = Counter(_offset(sign - first.at) for sign in signs.values())
        yield from ((column, offset) for offset, jobs in offsets.items() if offset and jobs >= _JOBS)


def offset_text(seconds: int) -> str:
    """An offset as a zone is written: -05:00."""
    hours, minutes = divmod(abs(seconds) // 60, 60)
    return f"{'-' if seconds < 0 else '+'}{hours:02}:{minutes:02}"


def why_unknown(column: TableColumn, state: str) -> str | None:
    """Why the moments of a column are unknown, by what is kept of it; None where that says that they are known."""
    if state == lease_zones.IN_UTC:
        return None
    name = ".".join(column)
    return lease_zones.describe_lease_zone(name, state) if is_of_leases(state) else _describe_offset(name, state)


def _describe_offset(name: str, offset: str) -> str:
    """`offset`: a doubt has DOUBT at its end."""
    if offset.endswith(DOUBT):
        return (
            f"{name} may not be in UTC: the newest signs of life of several jobs are {offset.removesuffix(DOUBT)} away "
            f"from the database's clock. Its moments are unknown until a look {APART_SECONDS:g} s later shows whether "
            "they move, or until its zone is said"
        )
    return (
        f"{name} is not in UTC: the newest signs of life of several jobs have moved, and were {offset} away from the "
        f"database's clock. Its moments are unknown until its zone is said"
    )


def _offset(distance: float) -> int:
    return round(distance / _STEP) * _STEP


def _is_telling(sign: float, before: float, now: float) -> bool:
    """The sign lies beside an offset. One of UTC that has moved since the look before is no older than that look."""
    distance = sign - now
    if abs(distance - _offset(distance)) > _TOLERANCE:
        return False
    return _offset(distance) == 0 or sign < before - APART_SECONDS or sign > now + APART_SECONDS


def look(
    statements: SourceStatements, connection: Connection, context: EvaluationContext, before: LocalLook | None
) -> LocalLook:
    """Inside a transaction. Raises DBAPIError."""
    columns, signs = statements.rule_parameters.columns_without_zone, dict[TableColumn, Mapping[Key, float]]()
    width = len(statements.profile.jobs.key)
    values = statements.values(context) | {_LIMIT: _MAX_READ}
    now = context.now.timestamp()
    for number, column in witnesses_looked_at(statements.profile, columns):
        rows = statements.execute(connection, values, newest_signs_query, number, column[1])
        found = {(str(number), *row[:width]): float(row[width]) for row in rows}
        if _is_written_by_reaper(statements.profile, number, column[1]):
            # The reaper writes in UTC, as its profile says: that tells nothing of what workers write.
            found = {key: sign for key, sign in found.items() if _offset(sign - now)}
        signs[column] = {**signs.get(column, {}), **found}
    leases = lease_zones.look_at_leases(statements, connection, context, before.leases if before else None)
    return LocalLook(now, signs, leases)


def witnesses_looked_at(profile: Profile, columns: tuple[TableColumn, ...]) -> Iterator[tuple[int, TableColumn]]:
    """The numbers of the witnesses that have one of these columns, with that column."""
    for number, witness in enumerate(profile.alive):
        if not witness.deadline:
            yield from ((number, column) for column in columns_of_witness(profile, witness) if column in columns)


def _is_written_by_reaper(profile: Profile, number: int, column: str) -> bool:
    """Whether the row of a child may have, in this column, the moment in which the reaper has ended it."""
    return profile.alive[number].children is not None and column in columns_set_to_now(profile)


def newest_signs_query(rule: Rule, number: int, column: str) -> Select[Any]:
    """The keys of running jobs, and their newest sign in this column of a witness as if it were in UTC, where that lies
    beside an offset that a zone has.
    """
    tables = rule.tables
    witness = tables.profile.alive[number]
    if witness.children is not None:
        of_jobs = _newest_of_children(rule, witness.children, column)
    else:
        jobs = _running(rule) if witness.rows else tables.jobs
        sign = rule.newest_as_written(witness, column, jobs)
        running = [] if witness.rows else [tables.search_condition(jobs), tables.running(jobs)]
        of_jobs = select(*tables.key_text(jobs), sql.epoch(sign).label("sign")).where(*running)
    signs = of_jobs.subquery(reserved_alias("signs"))
    return select(*signs.c).where(_beside_offset(signs.c.sign)).limit(sql.parameter(_LIMIT, Integer()))


def _newest_of_children(rule: Rule, children: Children, column: str) -> Select[Any]:
    """The keys of running jobs, and the newest moment in this column of their children.

    The children of all of them are read once: without an index on the parent, a look at those of one job reads all.
    """
    tables, jobs, child = rule.tables, _running(rule), rule.tables.jobs.alias(reserved_alias("child"))
    is_child = tables.keys_equal([child.c[name] for name in children.parent], tables.key(jobs))
    is_job_itself = tables.keys_equal(tables.key(child), tables.key(jobs))
    at = tables.instant(tables.profile.jobs.table, child, column)
    newest = select(*tables.key_text(jobs), sql.epoch(func.max(at)).label("sign"))
    return newest.select_from(jobs.join(child, is_child)).where(not_(is_job_itself)).group_by(*tables.key(jobs))


def _running(rule: Rule) -> FromClause:
    """Some running jobs: the signs of each are looked up, which takes long for all of many."""
    tables, jobs = rule.tables, rule.tables.jobs
    needed = sorted({*tables.profile.jobs.key, *_matched(rule)})
    some = select(*(jobs.c[name] for name in needed)).where(tables.search_condition(jobs), tables.running(jobs))
    return some.limit(sql.parameter(_LIMIT, Integer())).subquery(reserved_alias("some"))


def _matched(rule: Rule) -> set[str]:
    jobs, events = rule.tables.profile.jobs, (alive.rows for alive in rule.tables.profile.alive)
    matched = [name for one in events if one for name in one.matching(jobs.key).values()]
    matched += [name for beside in jobs.beside.values() for name in beside.match.values()]
    return {name for name in matched if jobs.place_of(name).beside is None}


def _beside_offset(sign: Element) -> Any:
    distance = sign - sql.epoch(sql.instant_parameter(parameters.NOW))
    nearest = func.round(cast(distance / _STEP, Float)) * _STEP
    return and_(func.abs(distance - nearest) <= _TOLERANCE, func.abs(distance) <= _LARGEST + _TOLERANCE)

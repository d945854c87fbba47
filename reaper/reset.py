"""The emergency exit: every running job of a source is ended by a person's decision, and nobody asks the rule."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from reaper.hearing import Hearing
from reaper.manual import Decision
from reaper.model import Evidence
from reaper.reap import Reap
from reaper.rule import Rule
from reaper.source import Candidate, Source
from reaper.source.dialect import dialect_of
from reaper.source.survey import identity
from reaper.spool import Spool
from reaper.sql import Element
from reaper.wholesale import Hand, Toll, end

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Overview:
    """What would be ended: how many jobs of each kind, and the oldest of them, oldest first."""

    running: int
    kinds: Sequence[tuple[str | None, int]]
    first: Sequence[Evidence]


def overview(source: Source, hearing: Hearing) -> Overview:
    """Look, and change nothing. Raises DatabaseAway and DBAPIError."""
    with source.connect() as connection:
        moment = source.meet(connection, hearing)
        with source.transaction(connection, read_only=True):
            kinds = [(row.kind, row.jobs) for row in connection.execute(_by_kind(source.rule))]
            keys = source.reading.keys(connection, moment, verdict=None, kind=None, limit=SHOWN)
            return Overview(sum(jobs for _, jobs in kinds), kinds, source.reading.evidence(connection, moment, keys))


def reset(source: Source, hearing: Hearing, decision: Decision, hand: Hand) -> Toll:
    """End every job that runs when it begins. Raises DatabaseAway, DBAPIError and TooManyRefused."""
    run_id = uuid.uuid4().hex[:12]
    with source.connect() as connection, Spool(hand.batch_size) as spool:
        moment = source.meet(connection, hearing)
        with source.transaction(connection, read_only=True):
            spool.fill(_running(source.rule, connection))
        claim = source.claim(moment, decision.stamp(source.name, run_id), decision.action)
        return end(source, connection, Reap(source, claim), spool.batches(), run_id, hand)


def _by_kind(rule: Rule) -> Select[Any]:
    jobs = rule.schema.jobs
    kind, counted = rule.kind(jobs).label("kind"), func.count().label("jobs")
    told: list[Element] = [kind, counted]
    return select(*told).where(rule.schema.running(jobs)).group_by(kind).order_by(counted.desc(), kind)


def _running(rule: Rule, connection: Connection) -> Iterator[Candidate]:
    jobs, width = rule.schema.jobs, len(rule.schema.profile.jobs.key)
    found = select(*rule.schema.key_text(jobs), *identity(rule)).where(rule.schema.running(jobs))
    for row in dialect_of(connection).stream(connection, found):
        yield Candidate(tuple(row[:width]), tuple(row[width:]))

"""The emergency exit: every running job of a source is ended by a person's decision, and nobody asks the rule."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from reaper.hearing import Hearing
from reaper.model import Evidence
from reaper.operations.manual import Decision
from reaper.operations.wholesale import Hand, Toll, end
from reaper.reap import Reap
from reaper.source import Source
from reaper.spool import Spool

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
            kinds = source.survey.kinds(connection)
            keys = source.reading.keys(connection, moment, verdict=None, kind=None, limit=SHOWN)
            return Overview(sum(jobs for _, jobs in kinds), kinds, source.reading.evidence(connection, moment, keys))


def reset(source: Source, hearing: Hearing, decision: Decision, hand: Hand) -> Toll:
    """End every job that runs when it begins. Raises DatabaseAway, DBAPIError and TooManyRefused."""
    run_id = uuid.uuid4().hex[:12]
    with source.connect() as connection, Spool(hand.batch_size) as spool:
        moment = source.meet(connection, hearing)
        with source.transaction(connection, read_only=True):
            spool.fill(source.survey.stream_running(connection))
        claim = source.claim(moment, decision.stamp(source.name, run_id), decision.action)
        return end(source, connection, Reap(source, claim), spool.batches(), run_id, hand)
